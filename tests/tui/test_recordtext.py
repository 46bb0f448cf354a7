"""An audit record as a person reads it."""

import struct

import numpy as np
import pytest
from msgspec.structs import replace

from appliance.audit.kinds import Boot, Inference, Outcome
from appliance.audit.payload import Tensor
from appliance.deployment import Deployment, Tuning
from appliance.tensors import DataType
from tui.recordtext import record_lines, tensor_text

DIGEST = "ab" * 32


def tensor(datatype: DataType, shape: tuple[int, ...], data: bytes) -> Tensor:
    return Tensor(name="out", datatype=datatype, shape=shape, data=data)


def answered(**changes: object) -> Inference:
    fields: dict[str, object] = {
        "request_id": "r-1",
        "model": "digits",
        "version": 2,
        "bundle_sha256": DIGEST,
        "engine_sha256": DIGEST,
        "recipe_sha256": DIGEST,
        "route": "active",
        "principal": "",
        "peer": "ipv4:127.0.0.1:50000",
        "rows": 2,
        "input_sha256": DIGEST,
        "output_sha256": DIGEST,
        "outputs": (tensor(DataType.INT64, (2,), np.array([3, 5]).tobytes()),),
        "vector": bytes(4 * 2 * 27),
        "queue_ns": 30_000,
        "compute_ns": 150_000,
        "total_ns": 2_500_000,
    }
    return Inference(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (tensor(DataType.FP32, (1, 2), struct.pack("<2f", 0.25, -3)), "FP32 1x2: 0.25, -3"),
        (tensor(DataType.BOOL, (2,), b"\x01\x00"), "BOOL 2: 1, 0"),
        (tensor(DataType.FP32, (), struct.pack("<f", 1)), "FP32 scalar: 1"),
        (
            tensor(DataType.BYTES, (2,), b"\x03\x00\x00\x00one\x04\x00\x00\x00f\xc3\xa9!"),
            "BYTES 2: one, f\xe9!",
        ),
        (tensor(DataType.UINT8, (13,), bytes(range(13))), "UINT8 13: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ..."),
        (tensor(DataType.INT64, (1,), b"\x07"), "INT64 1: "),
    ],
    ids=["floats", "truth", "scalar", "strings", "long", "cut short"],
)  # fmt: skip
def test_tensors_are_read_from_their_raw_form(made: Tensor, text: str) -> None:
    assert tensor_text(made) == text


def test_an_answer_shows_every_field() -> None:
    lines = dict(record_lines(answered()))
    assert lines["output out"] == "INT64 2: 3, 5"
    assert lines["drift vector"] == "2 x 27 values"
    assert (lines["queue"], lines["total"]) == ("0.03 ms", "2.5 ms")
    assert lines["principal"] == "-"
    assert len(lines) == len(Inference.__struct_fields__)


def test_an_answer_without_rows_still_reads() -> None:
    assert dict(record_lines(answered(rows=0, vector=b"")))["drift vector"] == "0 values"


def test_an_outcome_shows_how_the_model_stands() -> None:
    outcome = Outcome(
        decision_id="d",
        model="digits",
        result="done",
        message="",
        deployment=Deployment(model="digits", active=2, retired=(1,)),
    )
    assert dict(record_lines(outcome))["deployment"] == "active 2, previous -, retired 1"
    beside = Deployment(model="digits", active=2, canary=3, canary_per_mille=5, shadow=4)
    told = dict(record_lines(replace(outcome, deployment=beside)))["deployment"]
    assert told == "active 2, canary 3 0.5%, shadow 4, previous -, retired -"
    tuned = Deployment(
        model="digits", active=2, tuning=Tuning(rows_max=8, delay_us_max=0, lanes=1, threads=0)
    )
    told = dict(record_lines(replace(outcome, deployment=tuned)))["deployment"]
    assert told.startswith("active 2, previous -, retired -, tuning 1 lane on ")


def test_a_boot_names_release_and_settings() -> None:
    assert record_lines(Boot(release="0.1.0", config_sha256=DIGEST)) == [
        ("release", "0.1.0"),
        ("config sha256", DIGEST),
    ]
