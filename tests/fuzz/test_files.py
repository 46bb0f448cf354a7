"""Files that other processes and people write: settings, notes for the runtime, kept payloads."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.kinds import Verified
from appliance.audit.payload import Tensor
from appliance.config import StateConfig, load_config, split_address
from appliance.notes import leave, left, read_note
from appliance.payloads.blobs import Blobs
from appliance.payloads.payload import Packed, Payload, Requested, pack, salted_digest, unpack
from appliance.payloads.schema import payload_of, row_of
from appliance.tensors import DataType
from compiler.spec import read_spec
from tests.fuzz.mutating import fuzzed, json_mutants, mutants, refused_or_taken, saved, toml_mutants

ROOT = Path(__file__).parents[2]
SETTINGS = (ROOT / "packaging" / "holdfast.toml").read_bytes().replace(b"\n# ", b"\n")
SHORT = (
    b'[server]\naddress = "127.0.0.1:8001"\n[server.tls]\ncertificate = "c"\n[audit]\ndays = 200\n'
)
SPEC = (ROOT / "examples" / "digits" / "digits-1.toml").read_bytes()
TENSORS = (
    Tensor(
        name="x", datatype=DataType.FP32, shape=(4, 64), data=np.arange(256, dtype="f4").tobytes()
    ),
    Tensor(name="t", datatype=DataType.BYTES, shape=(1,), data=b"\1\0\0\0a"),
)
PACKED = pack(TENSORS)
PLAIN = pack(TENSORS[1:])


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def note(directory: Path) -> bytes:
    """One that `holdfast audit verify` leaves."""
    state = StateConfig(directory=str(directory / "state"))
    leave(state, Verified(records=5, root="00" * 32, ok=True, broken="", against=0, by=""))
    (path,) = left(state)
    return path.read_bytes()


def _read(directory: Path, data: bytes) -> None:
    """As each of the readers takes a file of these bytes."""

    def _config(data: bytes) -> None:
        path.write_bytes(data)
        split_address(load_config(path).server.address)

    def _spec(data: bytes) -> None:
        path.write_bytes(data)
        read_spec(path)

    def _note(data: bytes) -> None:
        path.write_bytes(data)
        read_note(path)

    path = directory / "any.toml"
    for act in (_config, _spec, _note):
        refused_or_taken(act, data)


@fuzzed
@given(mutants([SETTINGS, SHORT, SPEC]) | toml_mutants([SHORT, SPEC]))
def test_any_settings_are_read_or_refused(directory: Path, data: bytes) -> None:
    _read(directory, data)


@fuzzed
@given(st.data())
def test_any_note_is_read_or_refused(directory: Path, note: bytes, data: st.DataObject) -> None:
    _read(directory, data.draw(mutants([note]) | json_mutants([note])))


@fuzzed
@given(
    mutants([PACKED.data, PLAIN.data]),
    st.sampled_from(["plain", "zlib"]),
    st.sampled_from([PACKED.size, PLAIN.size, 0, -1, 1, 1 << 20, 1 << 63]),
)
def test_any_kept_payload_is_unpacked_or_refused(data: bytes, coding: str, size: int) -> None:
    def _unpacked(data: bytes) -> None:
        unpack(Packed(coding, size, data))  # type: ignore[arg-type]

    refused_or_taken(_unpacked, data)


@fuzzed
@given(st.data())
def test_any_row_of_payloads_is_read_or_refused(directory: Path, data: st.DataObject) -> None:
    """Whoever can write the file of payloads can write this."""
    payload = Payload(
        sha256=salted_digest(bytes(32), "00" * 32),
        salt=bytes(32),
        request_id="r-1",
        model="m",
        version=1,
        wall_ns=1,
        why="all",
        outputs=(Requested("y", 2),),
        inputs=TENSORS,
    )
    row = list(row_of(payload, PACKED, None))
    honest = [str(row[7]).encode()]
    row[7] = data.draw(mutants(honest) | json_mutants(honest)).decode(errors="replace")

    def _row(body: bytes) -> None:
        payload_of((*row[:-1], body), Blobs(directory))  # type: ignore[arg-type]

    assert refused_or_taken(_row, PACKED.data) is not None  # the digest is of another input
    refused_or_taken(_row, data.draw(mutants([PACKED.data])))


@pytest.mark.parametrize("path", saved("files"), ids=lambda path: path.name)
def test_saved_cases(directory: Path, path: Path) -> None:
    data = path.read_bytes()
    _read(directory, data)
    for size in (-1, 100, 1 << 63):
        refused_or_taken(lambda data: unpack(Packed("zlib", size, data)), data)  # noqa: B023 - called here
