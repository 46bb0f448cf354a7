"""`holdfast compare`, from the log of a box alone; no runtime is needed."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from appliance.audit.kinds import AnyRecord, Failure, Inference, Outcome
from appliance.audit.log import AuditLog
from appliance.audit.payload import Tensor, digest
from appliance.clock import SystemClock
from appliance.config import StateConfig
from appliance.deployment import Deployment
from appliance.exits import OK
from appliance.signing import SigningKey
from appliance.tensors import DataType
from tui import livecompare
from tui.agreement import OutputAgreement, Outputs
from tui.cli import app
from tui.comparison import interval
from tui.livecompare import compare_served

DIGEST = "0" * 64
UNKNOWN = 18
ALONE = Deployment(model="digits", active=1)
BESIDE = replace(ALONE, canary=2, canary_per_mille=50, shadow=3)
Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(records...) makes the box's log."""

    def make(*records: AnyRecord) -> None:
        paths = StateConfig(directory=str(tmp_path))
        key = SigningKey.load_or_generate(paths.box_key)
        with AuditLog.open(paths.audit_log, key=key, clock=SystemClock()) as log:
            log.append(records)

    return make


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    """run("digits") is `holdfast compare digits --state <the test's box>`."""

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["compare", *arguments, "--state", str(tmp_path)])

    return command


def told(result: Result) -> Any:
    assert result.exit_code == OK, result.stderr
    return json.loads(result.stdout)


def outcome(deployment: Deployment) -> Outcome:
    return Outcome(
        decision_id="d", model="digits", result="done", message="", deployment=deployment
    )


def scores(*rows: tuple[float, ...]) -> Tensor:
    array = np.array(rows, "<f4")
    return Tensor(name="scores", datatype=DataType.FP32, shape=array.shape, data=array.tobytes())


def numbers(*values: int) -> Tensor:
    array = np.array(values, "<i8")
    return Tensor(name="label", datatype=DataType.INT64, shape=array.shape, data=array.tobytes())


def texts(*values: str) -> Tensor:
    data = b"".join(len(value).to_bytes(4, "little") + value.encode() for value in values)
    return Tensor(name="name", datatype=DataType.BYTES, shape=(len(values),), data=data)


def answer(route: Any, version: int, ident: str = "r", **changes: Any) -> Inference:
    outputs = changes.setdefault("outputs", (scores((0.1, 0.9)),))
    held = Inference(
        request_id=ident,
        model="digits",
        version=version,
        bundle_sha256=DIGEST,
        engine_sha256=DIGEST,
        recipe_sha256=DIGEST,
        route=route,
        principal="",
        peer="",
        rows=1,
        input_sha256=DIGEST,
        output_sha256=digest((t.name, t.datatype, t.shape, t.data) for t in outputs),
        outputs=(),
        vector=bytes(8),
        queue_ns=0,
        compute_ns=1_000_000,
        total_ns=2_000_000,
    )
    return replace(held, **changes)


def failure(version: int, code: str = "engine.failed") -> Failure:
    return Failure(
        request_id="f",
        model="digits",
        version=version,
        principal="",
        peer="",
        code=code,
        message="",
    )


def test_versions_stand_beside_each_other(write: Write, run: Any) -> None:
    write(
        outcome(BESIDE),
        *(answer("active", 1, f"a{n}", total_ns=n * 1_000_000) for n in range(1, 101)),
        *(answer("canary", 2, f"c{n}", compute_ns=3_000_000) for n in range(9)),
        failure(2),
        *(answer("shadow", 3, f"a{n}", rows=2) for n in range(1, 11)),
        answer("pinned", 1, "p", total_ns=9_000_000_000),
        failure(0, "model.unknown"),
    )
    report = told(run("digits", "--json"))
    active, canary, shadow = report["versions"]
    assert (active["role"], active["answered"], active["failed"]) == ("active", 100, 0)
    assert (active["p50_ms"], active["p99_ms"]) == (50.0, 99.0)
    assert (canary["per_mille"], canary["failure_rate"]) == (50, 0.1)
    assert canary["failures"] == {"engine.failed": 1}
    assert canary["compute_p50_ms"] == 3.0
    assert (shadow["answered"], shadow["rows"], shadow["failure_rate"]) == (10, 20, 0.0)
    assert report["requests"] == 112
    assert (report["first_sequence"], report["last_sequence"]) == (1, 122)

    lines = [line.split() for line in run("digits").stdout.splitlines()]
    assert lines[0][:3] == ["digits:", "112", "requests,"]
    assert lines[3][:4] == ["active", "1", "100", "0"]
    assert lines[4][:8] == ["canary", "5%", "2", "9", "1", "1.8%", "to", "40.4%"]
    assert lines[6] == ["version", "2", "failed", "with", "engine.failed", "1"]


def test_a_shadow_is_held_to_the_same_requests(write: Write, run: Any) -> None:
    other_input = "1" * 64
    write(
        outcome(BESIDE),
        answer("active", 1, "same"),
        answer("active", 1, "near", outputs=(scores((0.1, 0.9)),)),
        answer("active", 1, "far", outputs=(scores((0.1, 0.9)),)),
        answer("active", 1, "large", outputs=(), output_sha256="a" * 64),
        answer("active", 1, "again"),
        answer("active", 1, "again", input_sha256=other_input, outputs=(scores((0.9, 0.1)),)),
        answer("active", 1, "alone"),
        answer("canary", 2, "canary"),
        answer("shadow", 3, "same"),
        answer("shadow", 3, "near", outputs=(scores((0.35, 0.65)),)),
        answer("shadow", 3, "far", outputs=(scores((0.9, 0.1)),)),
        answer("shadow", 3, "large", outputs=(), output_sha256="b" * 64),
        answer("shadow", 3, "again", input_sha256=other_input, outputs=(scores((0.9, 0.1)),)),
        answer("shadow", 3, "canary"),
    )
    assert told(run("digits", "--json"))["agreement"] == {
        "version": 3,
        "paired": 5,
        "identical": 2,
        "unread": 1,
        "outputs": [
            {
                "output": "scores",
                "measure": "argmax",
                "rows": 4,
                "agreeing": 3,
                "reshaped": 0,
                "difference_max": pytest.approx(0.8),
            }
        ],
    }
    shown = run("digits").stdout
    assert "answered 5 requests that the active version answered too, 2 of them" in shown
    assert "1 other differed in answers too large" in shown
    assert shown.splitlines()[-1].split() == [
        *("scores", "largest", "score", "4", "75.00%", "0", "0.8"),
    ]


def test_every_figure_is_on_a_terminal_of_80_cells(
    write: Write, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.printing.PIPED_CELLS", 80)
    write(
        outcome(replace(BESIDE, canary_per_mille=125)),
        answer("active", 1, compute_ns=230_000),
        *(answer("canary", 2, f"c{n}", total_ns=650_000, compute_ns=280_000) for n in range(9)),
        failure(2),
    )
    shown = run("digits").stdout
    assert "0.65 ms  0.65 ms  0.28 ms" in shown
    assert "1.8% to 40.4%" in shown


def test_a_canary_alone_has_no_agreement(write: Write, run: Any) -> None:
    write(outcome(replace(BESIDE, shadow=None)), answer("active", 1), answer("canary", 2, "c"))
    assert told(run("digits", "--json"))["agreement"] is None
    assert "Shadow" not in run("digits").stdout


def test_only_the_last_requests_count_and_the_log_is_read_in_stretches(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(livecompare, "_STRETCH_RECORDS", 4)
    pairs = [(answer("active", 1, f"r{n}"), answer("shadow", 3, f"r{n}")) for n in range(10)]
    write(outcome(BESIDE), *(record for pair in pairs for record in pair))
    seen: list[tuple[int, int]] = []
    state = StateConfig(directory=str(tmp_path))
    report = compare_served(
        state, "digits", requests=3, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(2, 3), (3, 3)]
    assert (report.requests, report.first_sequence, report.last_sequence) == (3, 15, 20)
    assert report.agreement is not None
    assert report.agreement.paired == 3


def test_nothing_counts_from_before_the_present_roles(write: Write, run: Any) -> None:
    write(
        outcome(ALONE),
        answer("active", 1, "before"),
        outcome(BESIDE),
        answer("active", 1, "a"),
        outcome(replace(BESIDE, canary_per_mille=500)),
        answer("canary", 2, "b"),
    )
    report = told(run("digits", "--json"))
    assert report["requests"] == 2
    assert report["versions"][1]["per_mille"] == 500


def test_no_requests_yet(write: Write, run: Any) -> None:
    write(outcome(BESIDE))
    report = told(run("digits", "--json"))
    assert (report["requests"], report["first_sequence"], report["first_time"]) == (0, None, "")
    assert report["versions"][0]["p50_ms"] is None
    shown = run("digits").stdout
    assert "digits: no requests since 20" in shown
    assert shown.splitlines()[3].split() == ["active", "1", "0", "0", "-", "-", "-", "-"]


def test_without_either_there_is_nothing_to_compare(write: Write, run: Any) -> None:
    write(outcome(ALONE))
    result = run("digits")
    assert result.exit_code == UNKNOWN
    assert "no canary and no shadow" in result.stderr
    assert run("wine").exit_code == UNKNOWN


def agreement(ours: Tensor, theirs: Tensor, rows: int) -> OutputAgreement:
    outputs = Outputs()
    outputs.add((ours,), (theirs,), rows=rows)
    (found,) = outputs.found()
    return found


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (scores((1, 2), (2, 1)), scores((3, 4), (3, 4)), ("argmax", 2, 1, 3.0)),
        (numbers(1, 2), numbers(1, 3), ("equality", 2, 1, None)),
        (texts("a", "b"), texts("c", "b"), ("equality", 2, 1, None)),
        (scores((1,), (2,)), scores((1,), (2.5,)), ("difference", 2, None, 0.5)),
        (scores((np.nan,), (1,)), scores((np.nan,), (1,)), ("difference", 2, None, 0.0)),
        (scores((np.nan,), (1,)), scores((1,), (1,)), ("difference", 2, None, np.inf)),
    ],
    ids=["scores", "labels", "texts", "one number", "no numbers", "one no number"],
)
def test_what_agreeing_means(ours: Tensor, theirs: Tensor, expected: tuple[object, ...]) -> None:
    found = agreement(ours, theirs, 2)
    assert (found.measure, found.rows, found.agreeing, found.difference_max) == expected


def test_pictures_and_boxes_have_no_largest_score() -> None:
    array = np.zeros((2, 3, 4), "<f4")
    boxes = Tensor(name="b", datatype=DataType.FP32, shape=array.shape, data=array.tobytes())
    assert agreement(boxes, boxes, 2).measure == "difference"


def test_an_answer_without_rows_of_its_own_is_one_row() -> None:
    logits = replace(scores((1, 2, 3)), shape=(3,))
    assert agreement(logits, logits, 1) == OutputAgreement(
        output="scores", measure="argmax", rows=1, agreeing=1, reshaped=0, difference_max=0.0
    )
    empty = replace(scores(), shape=(0, 2))
    assert agreement(empty, empty, 0).rows == 0


def test_another_shape_agrees_in_no_row() -> None:
    found = agreement(numbers(1, 2), numbers(1, 2, 3), 2)
    assert (found.rows, found.agreeing, found.reshaped) == (2, 0, 2)
    outputs = Outputs()
    outputs.add((numbers(1),), (), rows=1)
    assert outputs.found()[0].reshaped == 1


def test_a_rate_lies_within_its_interval() -> None:
    assert interval(0, 0) == (None, None)
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    for found, of, low, high in ((81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)):  # fmt: skip
        assert interval(found, of) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_more_failures_raise_the_interval(of: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, of - 1))
    (low, high), (next_low, next_high) = (interval(found, of) for found in (first, first + 1))
    assert None not in (low, high, next_low, next_high)
    rates = (low, high, next_low, next_high)
    assert all(0.0 <= rate <= 1.0 for rate in rates if rate is not None)
    for less, more in pairwise((low, next_low)):
        assert less is not None
        assert more is not None
        assert less <= more
