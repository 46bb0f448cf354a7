"""Where a log stands when it is opened: by its last signed checkpoint and the records after that.

Knows: what a writer must know of a file to go on in it, and how a new file follows a sealed one. Rules: only a
signed checkpoint is trusted, every record after it is read again; a growing file that is missing is a loss,
unless the mark says that it was being sealed. Leaves to others: writing (`audit.log`).
"""

from dataclasses import dataclass
from pathlib import Path

from appliance.audit.checkpoint import open_checkpoint, read_checkpoint
from appliance.audit.kinds import ClockStep
from appliance.audit.pages import (
    count_records,
    first_sequence,
    last_checkpoints,
    pages,
    rare_rows,
    rows_at,
)
from appliance.audit.record import EVIDENCE_REMEDY, Entry
from appliance.audit.schema import (
    LEAF,
    SCHEMA,
    CheckpointRow,
    broken,
    checkpoint_of,
    entry_of,
    said,
)
from appliance.audit.segments import moving_path, sealed_segments
from appliance.audit.tiles import TILE_RECORDS, Tile
from appliance.audit.tree import Frontier
from appliance.database import Database
from appliance.errors import AuditBroken
from appliance.files import sync_directory, unwritable, write_file
from appliance.signing import PublicKey

NEVER_SIGNED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a file stands: `first` sequence, `frontier`, size of the last checkpoint `signed`, the open `tile`.

    `origin` is the log's name ("" before its first checkpoint), `last` its newest record, `begun_ns` when
    the file's first one was written, by the clock as it is after all its recorded steps (None when it has none).
    """

    first: int
    frontier: Frontier
    signed: int
    origin: str
    tile: Tile
    last: Entry | None
    begun_ns: int | None


def check_there(path: Path) -> None:
    """Raise AuditBroken when the growing file is gone although sealed ones are there; StateError."""
    segments = sealed_segments(path)
    there = path.exists() and path.stat().st_size
    if segments and not there and not moving_path(path).exists():
        raise broken(segments[-1].end, f"the growing file {path} is missing")
    if segments and not path.exists():
        # What is left beside a name belonged to the file that was moved away.
        for suffix in ("-wal", "-shm"):
            _remove(path.with_name(f"{path.name}{suffix}"))


def check_follows(path: Path, first: int) -> None:
    """Raise AuditBroken unless the growing file begins where the newest sealed one ends."""
    segments = sealed_segments(path)
    expected = segments[-1].end if segments else 0
    if first != expected:
        raise broken(expected, f"it is missing; the growing file begins with record {first}")


def mark_moving(path: Path) -> None:
    """Lay down the mark that `path` is being sealed. Raises StateError."""
    write_file(moving_path(path), b"")


def clear_moving(path: Path) -> None:
    """Take the mark away again. Raises StateError."""
    _remove(moving_path(path))


def base_of_next(path: Path) -> CheckpointRow | None:
    """The last checkpoint of the newest sealed file: the first of the file that follows. None without any."""
    segments = sealed_segments(path)
    if not segments:
        return None
    database = Database.read(segments[-1].path, SCHEMA, at_rest=True)
    try:
        (row,) = last_checkpoints(database, 1) or [(NEVER_SIGNED, b"", "")]
    finally:
        database.close()
    if row[0] != segments[-1].end:
        raise broken(segments[-1].end, "the sealed file before it does not end there")
    return row


def resume(database: Database, public: PublicKey) -> Standing:
    """How the file of `database` stands, whose last checkpoint `public` signed. Raises AuditBroken."""
    size = count_records(database.connection)
    stored = last_checkpoints(database, 1)
    first = first_sequence(database.connection)
    if not stored or first is None:
        if size:
            raise AuditBroken("the log has records but no checkpoint", remedy=EVIDENCE_REMEDY)
        return Standing(
            first=0,
            frontier=Frontier(),
            signed=NEVER_SIGNED,
            origin="",
            tile=Tile(0),
            last=None,
            begun_ns=None,
        )
    origin = _origin(stored[0])
    checkpoint, frontier = checkpoint_of(
        stored[0], lambda note: open_checkpoint(note, public, origin=origin)
    )
    if checkpoint.size > size:
        raise broken(size, f"it is missing; a checkpoint covers {checkpoint.size} records")
    for rows in pages(database, after=checkpoint.size - 1):
        for row in rows:
            entry_of(row, frontier.size)
            frontier.append(row[LEAF])
    frontier.completed.clear()
    begun = entry_at(database, first)
    last = None if begun is None else entry_at(database, size - 1)
    return Standing(
        first=first,
        frontier=frontier,
        signed=checkpoint.size,
        origin=origin,
        tile=_open_tile(database, frontier.size),
        last=last,
        begun_ns=None if begun is None else begun.wall_ns + _stepped_ns(database, first),
    )


def _stepped_ns(database: Database, first: int) -> int:
    """How far the wall clock stepped after record `first`."""
    steps = [entry_of(row, row[0]) for row in rare_rows(database, ("clock_step",))]
    return sum(
        entry.record.step_ns
        for entry in steps
        if entry.sequence > first and isinstance(entry.record, ClockStep)
    )


def _origin(row: CheckpointRow) -> str:
    if type(row[2]) is not str:
        raise AuditBroken(f"checkpoint {row[0]}: the file is damaged here", remedy=EVIDENCE_REMEDY)
    try:
        return read_checkpoint(row[2]).origin
    except AuditBroken as error:
        raise AuditBroken(f"checkpoint {row[0]}: {error}", remedy=EVIDENCE_REMEDY) from error


def _open_tile(database: Database, size: int) -> Tile:
    tile = Tile(size // TILE_RECORDS)
    for rows in pages(database, after=tile.number * TILE_RECORDS - 1):
        for row in rows:
            tile.add(*said(row))
    return tile


def _remove(path: Path) -> None:
    """Remove a file that may be there, its name durably."""
    try:
        if path.exists():
            path.unlink()
            sync_directory(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def entry_at(database: Database, sequence: int) -> Entry | None:
    """The record in place `sequence` of the file, None when it has none there. Raises AuditBroken."""
    (row,) = rows_at(database, [sequence])
    return None if row is None else entry_of(row, sequence)
