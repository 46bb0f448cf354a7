"""Verification: whatever is done to a log without its key is found, and named where it happened."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audit.log import AuditLog, AuditReader
from appliance.audit.record import Inference, decode, encode
from appliance.audit.tree import leaf_hash
from appliance.audit.verify import verify
from appliance.errors import AuditBroken, AuditError, StateError
from appliance.signing import SigningKey

Make = Callable[..., Inference]
COUNT = 40
RECORDS = st.integers(0, COUNT - 1)
UNHURRIED = settings(deadline=None)
SECOND_NOTE_TWICE = (
    "UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE size = 10) WHERE size = 20"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, key: SigningKey, inference: Make) -> Path:
    """A closed log of 40 records with a checkpoint every 10."""
    path = tmp_path_factory.mktemp("whole") / "log.db"
    write_log(path, key, [inference(number) for number in range(COUNT)])
    return path


def write_log(path: Path, key: SigningKey, records: list[Inference]) -> None:
    class Clock:
        def wall_ns(self) -> int:
            return 1

        def monotonic_ns(self) -> int:
            return 1

    with AuditLog.open(path, key=key, clock=Clock(), checkpoint_records=10, boot_id="b") as log:
        for start in range(0, len(records), 5):
            log.append(records[start : start + 5])


@pytest.fixture(scope="module")
def changed(whole: Path, tmp_path_factory, tamper) -> Callable[..., Path]:
    """changed(statement...) is a copy of the whole log with that done to it."""
    directory = tmp_path_factory.mktemp("changed")

    def make(*statements: str, values: tuple[object, ...] = ()) -> Path:
        copy = directory / "log.db"
        shutil.copy(whole, copy)
        tamper(copy, *statements, values=values)
        return copy

    return make


def body_of(path: Path, sequence: int) -> bytes:
    with AuditReader(path) as reader:
        return encode(next(reader.records(since_sequence=sequence)))


def checkpoint_at(path: Path, size: int) -> str:
    with AuditReader(path) as reader:
        return next(note for note in reader.checkpoints(100) if f"\n{size}\n" in note)


def test_a_whole_log_verifies_and_says_what_that_means(whole: Path, key: SigningKey) -> None:
    told: list[tuple[int, int]] = []
    result = verify(whole, key.public, progress=lambda done, total: told.append((done, total)))

    assert (result.records, result.checkpoints, result.checkpointed) == (40, 5, 40)
    assert result.outside is None
    assert told == [(40, 40)]
    assert result.promise.splitlines() == [
        "40 records are in order and whole; 5 checkpoints fit them.",
        "Nobody without the box key has changed or removed any of the first 40.",
        (
            "A log alone cannot show that whoever holds the box key rewrote it, or cut it back to an "
            "earlier checkpoint. Compare it with a checkpoint that left the box."
        ),
    ]


@given(RECORDS, st.data())
@UNHURRIED
def test_any_changed_byte_of_a_record_is_found(
    changed: Callable[..., Path], whole: Path, key: SigningKey, sequence: int, data
) -> None:
    body = bytearray(body_of(whole, sequence))
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    path = changed("UPDATE record SET body = ? WHERE sequence = ?", values=(bytes(body), sequence))

    with pytest.raises(
        AuditBroken, match=f"^record {sequence}: its bytes do not fit its leaf hash"
    ):
        verify(path, key.public)


@given(RECORDS, st.data())
@UNHURRIED
def test_any_changed_byte_of_a_leaf_is_found(
    changed: Callable[..., Path], whole: Path, key: SigningKey, sequence: int, data
) -> None:
    leaf = bytearray(leaf_hash(body_of(whole, sequence)))
    leaf[data.draw(st.integers(0, 31))] ^= data.draw(st.integers(1, 255))
    path = changed("UPDATE record SET leaf = ? WHERE sequence = ?", values=(bytes(leaf), sequence))

    with pytest.raises(
        AuditBroken, match=f"^record {sequence}: its bytes do not fit its leaf hash"
    ):
        verify(path, key.public)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("wall_ns", 2),
        ("category", "failure"),
        ("model", "wine"),
        ("version", 2),
        ("event_id", "request-0"),
        ("event_id", None),
        ("result", "failed"),
    ],
)
def test_a_changed_column_is_found_and_named(
    changed: Callable[..., Path], key: SigningKey, column: str, value: object
) -> None:
    path = changed(f"UPDATE record SET {column} = ? WHERE sequence = 17", values=(value,))

    with pytest.raises(
        AuditBroken, match=f"^record 17: column {column} is {value!r} but"
    ) as caught:
        verify(path, key.public)
    assert "left the box" in caught.value.remedy


@given(RECORDS)
@UNHURRIED
def test_a_record_replaced_with_care_is_found_at_the_next_checkpoint(
    changed: Callable[..., Path], whole: Path, key: SigningKey, sequence: int
) -> None:
    """Bytes, leaf and columns agree; only the signed root knows better."""
    body = body_of(whole, sequence).replace(b'"total_ns":', b'"total_ns":9')
    decode(body)
    path = changed(
        "UPDATE record SET body = ?, leaf = ? WHERE sequence = ?",
        values=(body, leaf_hash(body), sequence),
    )

    first = sequence // 10 * 10
    with pytest.raises(AuditBroken) as caught:
        verify(path, key.public)
    assert str(caught.value) == (
        f"checkpoint {first + 10}: its root does not fit; "
        f"a record from {first} to {first + 9} was replaced"
    )


@given(RECORDS)
@UNHURRIED
def test_a_deleted_record_is_found(
    changed: Callable[..., Path], key: SigningKey, sequence: int
) -> None:
    with pytest.raises(AuditBroken, match=f"^record {sequence}: it is missing"):
        verify(changed("DELETE FROM record WHERE sequence = ?", values=(sequence,)), key.public)


@given(RECORDS)
@UNHURRIED
def test_a_log_cut_short_is_found(
    changed: Callable[..., Path], key: SigningKey, sequence: int
) -> None:
    path = changed("DELETE FROM record WHERE sequence >= ?", values=(sequence,))
    place = f"^record {sequence}: it is missing; a checkpoint covers"

    with pytest.raises(AuditBroken, match=place):
        verify(path, key.public)


@given(st.lists(RECORDS, min_size=2, max_size=2, unique=True))
@UNHURRIED
def test_two_swapped_records_are_found(
    changed: Callable[..., Path], key: SigningKey, pair: list[int]
) -> None:
    one, other = pair
    path = changed(
        f"UPDATE record SET sequence = -7 WHERE sequence = {one}",
        f"UPDATE record SET sequence = {one} WHERE sequence = {other}",
        f"UPDATE record SET sequence = {other} WHERE sequence = -7",
    )
    place = f"^record {min(pair)}: column sequence is {min(pair)} but its bytes say {max(pair)}"

    with pytest.raises(AuditBroken, match=place):
        verify(path, key.public)


@pytest.mark.parametrize("sequence", [-1, COUNT])
def test_an_inserted_record_is_found(
    changed: Callable[..., Path], key: SigningKey, sequence: int
) -> None:
    path = changed(
        "INSERT INTO record SELECT ?, wall_ns, category, model, version, event_id, result, leaf, "
        "body FROM record WHERE sequence = 3",
        values=(sequence,),
    )
    with pytest.raises(AuditBroken, match=f"^record {sequence}: "):
        verify(path, key.public)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM checkpoint", "^the log has no checkpoint"),
        ("UPDATE checkpoint SET size = 21 WHERE size = 20", "^checkpoint 21: 32 bytes|64 bytes"),
        ("UPDATE checkpoint SET size = 24 WHERE size = 20", "^checkpoint 24: its columns"),
        ("UPDATE checkpoint SET size = -3 WHERE size = 20", "^checkpoint -3: "),
        ("UPDATE checkpoint SET frontier = x'' WHERE size = 20", "^checkpoint 20: 0 bytes are no"),
        (
            "UPDATE checkpoint SET frontier = zeroblob(64) WHERE size = 20",
            "^checkpoint 20: its col",
        ),
        ("UPDATE checkpoint SET note = note || ' ' WHERE size = 20", "^checkpoint 20: "),
        (SECOND_NOTE_TWICE, "^checkpoint 20: its columns do not fit its note"),
    ],
)
def test_a_changed_checkpoint_is_found(
    changed: Callable[..., Path], key: SigningKey, statement: str, message: str
) -> None:
    with pytest.raises(AuditBroken, match=message):
        verify(changed(statement), key.public)


def test_the_first_broken_place_is_named(changed: Callable[..., Path], key: SigningKey) -> None:
    path = changed(
        "UPDATE checkpoint SET note = 'x' WHERE size = 20",
        "UPDATE record SET model = 'x' WHERE sequence IN (25, 13)",
    )
    with pytest.raises(AuditBroken, match=r"^record 13: "):
        verify(path, key.public)


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_any_byte_of_the_file_is_harmless_or_found(
    whole: Path, key: SigningKey, tmp_path_factory, data
) -> None:
    """Bytes of indices, of free space and of counters are no evidence; all others are.

    One that hides a checkpoint does what deleting it would: fewer are counted, the others still hold.
    """
    content = bytearray(whole.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("flipped") / "log.db"
    path.write_bytes(content)
    try:
        result = verify(path, key.public)
    except (AuditBroken, StateError):
        return
    assert (result.records, result.root) == (COUNT, verify(whole, key.public).root)


@pytest.mark.parametrize("value", [None, 5, "text"])
@pytest.mark.parametrize(
    ("table", "column"), [("record", "body"), ("record", "leaf"), ("checkpoint", "frontier")]
)
def test_values_of_another_type_are_found(
    changed: Callable[..., Path], key: SigningKey, table: str, column: str, value: object
) -> None:
    """Someone may rebuild a table without its types."""
    path = changed(
        f"ALTER TABLE {table} RENAME TO typed",
        f"CREATE TABLE {table} AS SELECT * FROM typed",
        f"UPDATE {table} SET {column} = ?",
        values=(value,),
    )
    with pytest.raises(AuditBroken, match=r"^(record|checkpoint) 0: "):
        verify(path, key.public)


def test_records_no_checkpoint_covers_are_counted(
    whole: Path, key: SigningKey, inference: Make, tmp_path: Path
) -> None:
    path = tmp_path / "log.db"
    shutil.copy(whole, path)

    class Clock:
        def wall_ns(self) -> int:
            return 1

        def monotonic_ns(self) -> int:
            return 1

    log = AuditLog.open(path, key=key, clock=Clock(), checkpoint_records=10)
    log.append([inference(number) for number in range(3)])
    result = verify(path, key.public)
    log.close()

    assert (result.records, result.checkpointed) == (43, 40)
    assert "No checkpoint covers the last 3 yet." in result.promise


def test_another_boxes_key_does_not_verify_it(whole: Path) -> None:
    with pytest.raises(AuditBroken, match=r"^checkpoint 0: signed by holdfast/"):
        verify(whole, SigningKey.generate().public)


@given(st.sampled_from([0, 10, 20, 30, 40]))
@UNHURRIED
def test_a_checkpoint_that_left_the_box_is_confirmed(
    whole: Path, key: SigningKey, size: int
) -> None:
    result = verify(whole, key.public, against=checkpoint_at(whole, size))

    assert result.outside == size
    assert (
        f"The first {size} are those that the checkpoint from off the box signed" in result.promise
    )


def test_a_log_cut_back_to_a_checkpoint_shows_only_against_one_that_left_the_box(
    changed: Callable[..., Path], whole: Path, key: SigningKey
) -> None:
    path = changed(
        "DELETE FROM record WHERE sequence >= 20", "DELETE FROM checkpoint WHERE size > 20"
    )

    assert verify(path, key.public).records == 20
    message = "^record 20: it is missing; a checkpoint from off the box covers 40 records"
    with pytest.raises(AuditBroken, match=message):
        verify(path, key.public, against=checkpoint_at(whole, 40))


def test_a_log_rewritten_by_the_holder_of_the_key_shows_only_against_one_that_left_the_box(
    whole: Path, key: SigningKey, inference: Make, tmp_path: Path
) -> None:
    path = tmp_path / "log.db"
    write_log(path, key, [inference(number, model="another") for number in range(COUNT)])

    assert verify(path, key.public).records == COUNT
    with pytest.raises(
        AuditBroken, match=r"^checkpoint 30 from off the box: its records are not those"
    ):
        verify(path, key.public, against=checkpoint_at(whole, 30))


def test_a_checkpoint_to_compare_with_must_be_this_boxes(whole: Path, key: SigningKey) -> None:
    for note in ("no note", checkpoint_at(whole, 10).replace("\n10\n", "\n11\n")):
        with pytest.raises(AuditError, match=r"^the checkpoint to compare with: ") as caught:
            verify(whole, key.public, against=note)
        assert not isinstance(caught.value, AuditBroken)


def test_a_missing_log_is_named(tmp_path: Path, key: SigningKey) -> None:
    with pytest.raises(StateError, match="there is no audit log"):
        verify(tmp_path / "log.db", key.public)
