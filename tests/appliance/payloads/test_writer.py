"""Kept payloads: what goes in comes out, what is erased is gone."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pysqlite3 import dbapi2 as sqlite

from appliance.audit.payload import Tensor, digest
from appliance.errors import PayloadBroken, StateError
from appliance.payloads import Payload, PayloadReader, PayloadWriter, Requested, Why, salted_digest
from appliance.payloads.blobs import Blobs
from appliance.payloads.payload import Packed, pack, unpack
from appliance.payloads.writer import BLOB_BYTES_MIN
from appliance.tensors import DataType

SALT = b"s" * 32
SMALL = np.arange(64, dtype=np.uint8).tobytes()
LARGE = np.random.default_rng(1).bytes(BLOB_BYTES_MIN + 1)  # chance does not shrink


def payload(
    number: int, data: bytes = SMALL, *, model: str = "m", wall_ns: int = 0, why: Why = "all"
) -> Payload:
    inputs = (Tensor(name="x", datatype=DataType.UINT8, shape=(1, len(data)), data=data),)
    salt = hashlib.sha256(str(number).encode()).digest()
    return Payload(
        sha256=salted_digest(salt, digest((t.name, t.datatype, t.shape, t.data) for t in inputs)),
        salt=salt,
        request_id=f"r-{number}",
        model=model,
        version=3,
        wall_ns=wall_ns or number,
        why=why,
        outputs=(Requested("y"), Requested("z", 3)),
        inputs=inputs,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "payloads" / "payloads.db"


@pytest.fixture
def writer(file: Path) -> Iterator[PayloadWriter]:
    opened = PayloadWriter.open(file)
    yield opened
    opened.close()


def files(file: Path) -> list[Path]:
    return [path for path in (file.parent / "blobs").rglob("*") if path.is_file()]


@pytest.mark.parametrize("data", [SMALL, LARGE, b""], ids=["small", "large", "empty"])
def test_what_is_put_is_found_by_the_digest_in_its_record(
    writer: PayloadWriter, file: Path, data: bytes
) -> None:
    kept = payload(1, data)
    writer.put([kept])
    with PayloadReader(file) as reader:
        assert reader.find(kept.sha256) == kept
        assert reader.find("0" * 64) is None
    assert len(files(file)) == (data is LARGE)


def test_equal_large_bodies_share_a_file_until_the_last_is_erased(
    writer: PayloadWriter, file: Path
) -> None:
    writer.put([payload(1, LARGE), payload(2, LARGE)])
    assert len(files(file)) == 1
    assert writer.erase("r-1").models == {"m": 1}
    with PayloadReader(file) as reader:
        assert reader.find(payload(2, LARGE).sha256) == payload(2, LARGE)
    assert writer.erase("r-2").bytes > BLOB_BYTES_MIN
    assert files(file) == []
    assert writer.bytes == 0


def test_of_what_is_erased_no_byte_is_left(writer: PayloadWriter, file: Path) -> None:
    secret = b"a patient's name that nobody may find again" * 20
    inputs = (Tensor(name="x", datatype=DataType.UINT8, shape=(len(secret),), data=secret),)
    kept = Payload(
        sha256="0" * 64, salt=SALT, request_id="r", model="m", version=1, wall_ns=1, why="all",
        outputs=(), inputs=inputs,
    )  # fmt: skip
    packed = pack(inputs).data
    writer.put([kept])
    assert any(packed in path.read_bytes() for path in file.parent.glob("payloads.db*"))
    writer.erase("r")
    for path in file.parent.glob("payloads.db*"):
        assert packed not in path.read_bytes()
        assert SALT not in path.read_bytes()


def test_what_a_reader_kept_in_the_write_ahead_log_goes_when_it_is_folded(
    writer: PayloadWriter, file: Path
) -> None:
    writer.put([payload(1, SMALL * 40)])
    writer._database.connection.execute("PRAGMA busy_timeout=0")
    reading = sqlite.connect(file, isolation_level=None)
    reading.execute("BEGIN")
    assert reading.execute("SELECT count(*) FROM payload").fetchone() == (1,)
    writer.erase("r-1")
    log = file.with_name("payloads.db-wal")
    assert log.stat().st_size > 0
    reading.close()
    writer.fold()
    assert log.stat().st_size == 0


def test_erasing_what_is_not_kept_erases_nothing(writer: PayloadWriter) -> None:
    writer.put([payload(1)])
    assert not writer.erase("r-9").models


def test_age_takes_the_old_ones(writer: PayloadWriter, file: Path) -> None:
    writer.put([payload(number, model="ab"[number % 2]) for number in range(1, 7)])
    assert writer.erase_before(4).models == {"a": 1, "b": 2}
    with PayloadReader(file) as reader:
        assert [kept.request_id for kept in reader.each("a")] == ["r-4", "r-6"]


def test_the_budget_takes_the_oldest_until_there_is_room_again(
    writer: PayloadWriter, file: Path
) -> None:
    writer.put([payload(number) for number in range(1, 101)])
    budget = writer.bytes - 1
    removed = writer.erase_over(budget)
    assert removed.models == {"m": 6}
    assert writer.bytes <= budget * 0.96
    assert not writer.erase_over(budget).models
    with PayloadReader(file) as reader:
        assert next(reader.each("m")).request_id == "r-7"
        assert reader.count("m") == 94


def test_many_are_read_a_few_at_a_time_and_within_their_time(
    writer: PayloadWriter, file: Path
) -> None:
    writer.put([payload(number) for number in range(1, 201)])
    with PayloadReader(file) as reader:
        found = [kept.wall_ns for kept in reader.each("m", since_ns=10, until_ns=190)]
        assert found == list(range(10, 190))
        assert [kept.wall_ns for kept in reader.newest("m", 2)] == [199, 200]
        assert reader.newest("other", 2) == []
        assert [kept.wall_ns for kept in reader.each("m", until_ns=190, last=70)] == [
            *range(120, 190)
        ]
        assert len(list(reader.each("m", last=500))) == reader.count("m") == 200
        assert reader.count("m", since_ns=10, until_ns=190) == 180


def test_what_a_crash_left_half_done_is_swept(file: Path) -> None:
    first = PayloadWriter.open(file)
    first.put([payload(1, LARGE)])
    first.close()
    for name in ("ab/" + "ab" * 32, "cd/." + "cd" * 32 + ".tmp"):
        orphan = file.parent / "blobs" / name
        orphan.parent.mkdir(exist_ok=True)
        orphan.write_bytes(b"of no row")
    writer = PayloadWriter.open(file)
    assert len(files(file)) == 1
    assert writer.bytes > BLOB_BYTES_MIN
    writer.close()


def test_there_is_one_writer(writer: PayloadWriter, file: Path) -> None:
    with pytest.raises(StateError, match="already has a writer"):
        PayloadWriter.open(file)


def test_a_changed_or_missing_file_is_told(writer: PayloadWriter, file: Path) -> None:
    kept = payload(1, LARGE)
    writer.put([kept])
    (blob,) = files(file)
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    with PayloadReader(file) as reader:
        with pytest.raises(PayloadBroken, match="was changed"):
            reader.find(kept.sha256)
        blob.unlink()
        with pytest.raises(PayloadBroken, match="cannot be read"):
            reader.find(kept.sha256)


def test_a_changed_row_is_told(writer: PayloadWriter, file: Path) -> None:
    kept, other = payload(1), payload(2, SMALL[::-1])
    writer.put([kept, other])
    connection = sqlite.connect(file)
    with connection:
        connection.execute(
            "UPDATE payload SET body = (SELECT body FROM payload WHERE number = 2) WHERE number = 1"
        )
    connection.close()
    with PayloadReader(file) as reader, pytest.raises(PayloadBroken, match="does not fit"):
        reader.find(kept.sha256)


def test_a_full_disk_keeps_none_and_breaks_nothing(
    writer: PayloadWriter, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.put([payload(1)])
    connection = writer._database.connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StateError, match="full"):
        writer.put([payload(n, LARGE[: BLOB_BYTES_MIN // 2]) for n in range(2, 5)])
    with PayloadReader(file) as reader:
        assert reader.count("m") == 1
    connection.execute("PRAGMA max_page_count=100000")
    writer.put([payload(2)])


def test_what_cannot_be_erased_or_read_is_told(
    writer: PayloadWriter, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.put([payload(1, LARGE)])

    def broken(_names: object) -> None:
        raise OSError("no disk")

    with monkeypatch.context() as patch:
        patch.setattr(writer._blobs, "remove", broken)
        with pytest.raises(StateError, match="no disk"):
            writer.erase("r-1")
    with PayloadReader(file) as reader:
        assert reader.find(payload(1, LARGE).sha256) is not None
        assert writer.erase("r-1").models == {"m": 1}
        assert reader.find(payload(1, LARGE).sha256) is None
        assert (writer.bytes, files(file)) == (0, [])
        reader._database.connection.close()
        with pytest.raises(StateError, match="cannot be read"):
            reader.count("m")


def test_a_start_whose_sweep_fails_lets_go_of_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Blobs, "names", lambda _self: (_ for _ in ()).throw(OSError("no disk")))
        with pytest.raises(StateError, match="no disk"):
            PayloadWriter.open(file)
    PayloadWriter.open(file).close()


def test_what_is_no_payload_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no payload file at"):
        PayloadReader(tmp_path / "payloads.db")


tensors = st.builds(
    lambda name, data: Tensor(name=name, datatype=DataType.UINT8, shape=(len(data),), data=data),
    st.text(max_size=8),
    st.binary(max_size=300) | st.integers(0, 3000).map(bytes),
)


@given(st.lists(tensors, max_size=4))
def test_packing_and_unpacking_are_inverse(inputs: list[Tensor]) -> None:
    assert unpack(pack(tuple(inputs))) == tuple(inputs)


@given(st.lists(tensors, min_size=1, max_size=2), st.data())
def test_mutilated_bytes_are_refused_or_tell_other_tensors(
    inputs: list[Tensor], data: st.DataObject
) -> None:
    packed = pack(tuple(inputs))
    at = data.draw(st.integers(0, len(packed.data) - 1))
    changed = bytearray(packed.data)
    changed[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(PayloadBroken):
        unpack(Packed(packed.coding, packed.size, bytes(changed)))
    with pytest.raises(PayloadBroken):
        unpack(Packed(packed.coding, packed.size, packed.data[:-1]))
    with pytest.raises(PayloadBroken):
        unpack(Packed(packed.coding, packed.size + 1, packed.data))


def test_a_bomb_is_not_blown_up() -> None:
    bomb = pack((Tensor(name="x", datatype=DataType.UINT8, shape=(1,), data=bytes(1 << 24)),))
    with pytest.raises(PayloadBroken, match="too long"):
        unpack(Packed("zlib", 1000, bomb.data))


def test_what_was_erased_is_told_even_when_its_traces_stay(
    writer: PayloadWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise sqlite.OperationalError("disk I/O error")

    writer.put([payload(1)])
    monkeypatch.setattr(writer, "_fold", broken)
    removed = writer.erase("r-1")
    assert removed.models == {"m": 1}
    assert isinstance(removed.error, StateError)


def test_a_file_whose_row_was_not_written_does_not_stay(writer: PayloadWriter, file: Path) -> None:
    writer.put([payload(1)])
    with pytest.raises(StateError):
        writer.put([payload(2, LARGE), payload(1)])  # one number a payload
    assert files(file) == []


def test_a_damaged_file_is_made_anew(writer: PayloadWriter, file: Path) -> None:
    writer.put([payload(1, LARGE)])
    (damaged,) = files(file)
    damaged.write_bytes(b"")
    writer.put([payload(2, LARGE)])
    with PayloadReader(file) as reader:
        assert reader.find(payload(2, LARGE).sha256) == payload(2, LARGE)
