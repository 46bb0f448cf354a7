"""Whatever is done to a log without its key is found, and named where it happened."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pysqlite3 import dbapi2 as sqlite

from appliance.audit import verify as room
from appliance.audit.reader import AuditReader
from appliance.audit.record import decode, encode
from appliance.audit.tree import leaf_hash
from appliance.audit.verify import verify
from appliance.errors import AuditBroken, StateError
from appliance.signing import SigningKey

COUNT = 40
PAGE_BYTES = 4096
RECORDS = st.integers(0, COUNT - 1)
SECOND_NOTE_TWICE = (
    "UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE size = 10) WHERE size = 20"
)


def body_of(path: Path, sequence: int) -> bytes:
    with AuditReader(path) as reader:
        return encode(next(reader.records(since_sequence=sequence)))


@given(RECORDS, st.data())
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


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"{}", "no audit record: Object missing"), (b'{"sequence": 17}', "no audit record: ")],
)
def test_bytes_that_are_no_record_are_found_even_with_a_fitting_leaf(
    changed: Callable[..., Path], key: SigningKey, body: bytes, message: str
) -> None:
    path = changed(
        "UPDATE record SET body = ?, leaf = ? WHERE sequence = 17", values=(body, leaf_hash(body))
    )
    with pytest.raises(AuditBroken, match=f"^record 17: {message}"):
        verify(path, key.public)


@given(RECORDS)
def test_a_deleted_record_is_found(
    changed: Callable[..., Path], key: SigningKey, sequence: int
) -> None:
    with pytest.raises(AuditBroken, match=f"^record {sequence}: it is missing"):
        verify(changed("DELETE FROM record WHERE sequence = ?", values=(sequence,)), key.public)


@given(RECORDS)
def test_a_log_cut_short_is_found(
    changed: Callable[..., Path], key: SigningKey, sequence: int
) -> None:
    path = changed("DELETE FROM record WHERE sequence >= ?", values=(sequence,))
    place = f"^record {sequence}: it is missing; a checkpoint covers"

    with pytest.raises(AuditBroken, match=place):
        verify(path, key.public)


@given(st.lists(RECORDS, min_size=2, max_size=2, unique=True))
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
        "body, principal FROM record WHERE sequence = 3",
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
@settings(max_examples=300)
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


def spoil(path: Path, page: int) -> None:
    """Write over a page of the database, counted from 1; nothing of it can be read then."""
    with path.open("r+b") as file:
        file.seek(PAGE_BYTES * (page - 1))
        file.write(b"\xff" * PAGE_BYTES)


def test_a_record_that_cannot_be_read_is_named_whatever_is_read_with_it(
    grown: Path, key: SigningKey
) -> None:
    """Records are read by hundreds; the first of them that is in the damaged page is the broken place."""
    with grown.open("rb") as file:
        content = file.read()
    sought = body_of(grown, 300)
    spoil(grown, content.index(sought) // PAGE_BYTES + 1)
    one = "SELECT body FROM record NOT INDEXED WHERE sequence = ?"
    with closing(sqlite.connect(str(grown))) as connection:
        for sequence in range(600):
            try:
                connection.execute(one, (sequence,)).fetchall()
            except sqlite.DatabaseError:
                break
    assert 200 < sequence <= 300
    with pytest.raises(AuditBroken, match=f"^record {sequence}: the file is damaged here"):
        verify(grown, key.public)


def test_checkpoints_that_cannot_be_read_put_no_record_in_doubt(
    grown: Path, key: SigningKey
) -> None:
    with closing(sqlite.connect(str(grown))) as connection:
        ((page,),) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'checkpoint'"
        )
    spoil(grown, page)
    with pytest.raises(AuditBroken, match=r"^the checkpoints cannot be read: "):
        verify(grown, key.public)


@pytest.mark.parametrize(
    ("search", "found"), [("count_records", 41), ("last_checkpoints", [(50, b"", "")])]
)
def test_a_walk_that_misses_what_a_search_found_is_no_success(
    whole: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch, search: str, found: object
) -> None:
    """So does a page whose order is damaged behave."""
    monkeypatch.setattr(room, search, lambda *_: found)

    with pytest.raises(AuditBroken, match=r"^record 40: the file is damaged here: the walk ends"):
        verify(whole, key.public)


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
