"""The tables of an audit log, and what their rows must say.

Knows: the columns, the indices and the released migrations. Rules: the body is the record, all other
columns are copies to search by and must agree with it; rows are never changed or removed, which the tables
themselves refuse (a guard against slips; against tampering there is the tree). Leaves to others: when rows
are written (`audit.log`) and read (`audit.pages`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from appliance.audit.checkpoint import Checkpoint
from appliance.audit.record import EVIDENCE_REMEDY, Entry, decode
from appliance.audit.tiles import TILE_RECORDS, Tile
from appliance.audit.tree import Frontier, leaf_hash
from appliance.database import Schema
from appliance.errors import AuditBroken

if TYPE_CHECKING:
    from sqlite_utils import Database as Tables

COLUMNS = (
    "sequence",
    "wall_ns",
    "category",
    "model",
    "version",
    "event_id",
    "result",
    "principal",
    "leaf",
    "body",
)
_NAMES = ", ".join(COLUMNS)
SELECT_RECORD = f"SELECT {_NAMES} FROM record"
# Format 1 had no column for the principal: what its records say of one is read from their bytes.
_PRINCIPAL = (
    "coalesce(json_extract(CAST(body AS TEXT), '$.record.principal'), "
    "json_extract(CAST(body AS TEXT), '$.record.actor'), '')"
)
SELECT_RECORD_1 = f"SELECT {_NAMES.replace('principal', f'{_PRINCIPAL} AS principal')} FROM record"
INSERT_RECORD = f"INSERT INTO record ({_NAMES}) VALUES ({', '.join('?' * len(COLUMNS))})"
INSERT_CHECKPOINT = "INSERT INTO checkpoint (size, frontier, note) VALUES (?, ?, ?)"
INSERT_SUBTREE = "INSERT INTO subtree (level, number, hash) VALUES (?, ?, ?)"
INSERT_TILE = "INSERT INTO tile (number, wall_min, wall_max, words) VALUES (?, ?, ?, ?)"

Row: TypeAlias = tuple[int, int, str, str, int, str | None, str, str, bytes, bytes]
CheckpointRow: TypeAlias = tuple[int, bytes, str]
SubtreeRow: TypeAlias = tuple[int, int, bytes]
OpenNote: TypeAlias = Callable[[str], Checkpoint]
LEAF: Final = 8
BODY: Final = 9


def row_of(entry: Entry, leaf: bytes, body: bytes) -> Row:
    """The row of `entry`, whose canonical bytes are `body`."""
    return (entry.sequence, entry.wall_ns, *entry.record.columns(), leaf, body)


def said(row: Row) -> tuple[int, str, str, str, str]:
    """What a tile takes in of a row: wall time, category, model, result, principal."""
    return (row[1], row[2], row[3], row[6], row[7])


def entry_of(row: Row, sequence: int) -> Entry:
    """The entry in `row` when it stands in place `sequence` and all its columns agree.

    Raises AuditBroken, whose message opens with the place: "record 17: ...".
    """
    if row[0] != sequence:
        raise _misplaced(row[0], sequence)
    leaf, body = row[LEAF], row[BODY]
    if type(body) is not bytes or leaf_hash(body) != leaf:
        raise broken(sequence, "its bytes do not fit its leaf hash")
    try:
        entry = decode(body)
    except AuditBroken as error:
        raise broken(sequence, str(error)) from error
    said = (entry.sequence, entry.wall_ns, *entry.record.columns())
    if row[:LEAF] != said:
        column, copy, truth = next(
            triple for triple in zip(COLUMNS, row, said, strict=False) if triple[1] != triple[2]
        )
        raise broken(sequence, f"column {column} is {copy!r} but its bytes say {truth!r}")
    return entry


def checkpoint_of(row: CheckpointRow, open_note: OpenNote) -> tuple[Checkpoint, Frontier]:
    """The checkpoint in `row` and the tree's frontier at its size; `open_note` verifies its note.

    Raises AuditBroken, whose message opens with the place: "checkpoint 40: ...".
    """
    size, hashes, note = row
    if type(hashes) is not bytes or type(note) is not str:
        raise AuditBroken(f"checkpoint {size}: the file is damaged here", remedy=EVIDENCE_REMEDY)
    try:
        checkpoint = open_note(note)
        frontier = Frontier.from_bytes(size, hashes)
    except (AuditBroken, ValueError) as error:
        raise AuditBroken(f"checkpoint {size}: {error}", remedy=EVIDENCE_REMEDY) from error
    if checkpoint.size != size or checkpoint.root != frontier.root():
        raise AuditBroken(
            f"checkpoint {size}: its columns do not fit its note", remedy=EVIDENCE_REMEDY
        )
    return checkpoint, frontier


def broken(sequence: int, why: str) -> AuditBroken:
    """The AuditBroken that names record `sequence`."""
    return AuditBroken(f"record {sequence}: {why}", remedy=EVIDENCE_REMEDY)


def _misplaced(found: int, expected: int) -> AuditBroken:
    if found < expected:
        return broken(found, "it does not belong in the log")
    return broken(expected, f"it is missing; the next one in the file is record {found}")


def _create(tables: "Tables") -> None:
    tables.table("record").create(
        {
            "sequence": int,
            "wall_ns": int,
            "category": str,
            "model": str,
            "version": int,
            "event_id": str,
            "result": str,
            "leaf": bytes,
            "body": bytes,
        },
        pk="sequence",
        not_null=set(COLUMNS) - {"event_id", "principal"},
        strict=True,
    )
    tables.table("checkpoint").create(
        {"size": int, "frontier": bytes, "note": str},
        pk="size",
        not_null={"frontier", "note"},
        strict=True,
    )
    for statement in (*_INDICES, *_GUARDS):
        tables.execute(statement)


# Every index ends in the row id, which is the sequence: each query below reads in the log's own order.
# `record_rare` costs the hot path nothing and finds the few decisions among millions of inferences.
_INDICES = (
    "CREATE INDEX record_event ON record (event_id) WHERE event_id IS NOT NULL",
    "CREATE INDEX record_model ON record (category, model)",
    "CREATE INDEX record_rare ON record (category) WHERE category <> 'inference'",
    "CREATE INDEX record_time ON record (wall_ns)",
)


def _guards(*tables: str) -> tuple[str, ...]:
    return tuple(
        f"CREATE TRIGGER {table}_no_{act} BEFORE {act} ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END"
        for table in tables
        for act in ("update", "delete")
    )


_GUARDS = _guards("record", "checkpoint")


def _add_principal_and_tiles(tables: "Tables") -> None:
    """Format 2: who asked, and one row for each 256 records in place of two indices on every record."""
    tables.execute("DROP TRIGGER record_no_update")
    tables.execute("ALTER TABLE record ADD COLUMN principal TEXT NOT NULL DEFAULT ''")
    tables.execute(f"UPDATE record SET principal = {_PRINCIPAL} WHERE {_PRINCIPAL} <> ''")
    tables.execute("DROP INDEX record_model")
    tables.execute("DROP INDEX record_time")
    tables.execute(
        "CREATE TABLE subtree (level INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, "
        "PRIMARY KEY (level, number)) STRICT, WITHOUT ROWID"
    )
    tables.execute(
        "CREATE TABLE tile (number INTEGER PRIMARY KEY, wall_min INTEGER NOT NULL, "
        "wall_max INTEGER NOT NULL, words TEXT NOT NULL) STRICT"
    )
    _fill(tables)
    for statement in (*_guards("subtree", "tile"), _GUARDS[0]):
        tables.execute(statement)


def _fill(tables: "Tables") -> None:
    """Make the subtrees and tiles of what was recorded before there were any."""
    frontier, tile = Frontier(), Tile(0)
    said = "sequence, wall_ns, category, model, result, principal, leaf"
    for row in tables.execute(f"SELECT {said} FROM record ORDER BY sequence"):
        tile.add(*row[1:6])
        frontier.append(row[6])
        if not frontier.size % TILE_RECORDS:
            tables.execute(INSERT_TILE, tile.row())
            tile = Tile(tile.number + 1)
    for subtree in frontier.completed:
        tables.execute(INSERT_SUBTREE, tuple(subtree))


SCHEMA = Schema(
    name="audit log",
    application_id=0x48464C47,
    migrations=(_create, _add_principal_and_tiles),
    oldest=1,
)
