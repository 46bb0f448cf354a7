"""Removing sealed files that are old enough.

Knows: which may go, and what of them stays. Rules: only whole sealed files go, the oldest first; their subtree
hashes and checkpoints stay, so that what follows them can still be proven, and the changes of the box's key, so
that trust still leads from its first key to the newest; age is what the clock showed between
records without its recorded steps, and of the time between a stop and a start at most AWAY_NS, so that a false
clock removes nothing. Leaves to others: recording the removal (`audit.log`).
"""

from contextlib import closing
from functools import lru_cache
from pathlib import Path

from appliance.audit.kinds import ClockStep
from appliance.audit.pages import last_checkpoints, rare_rows, rows_at
from appliance.audit.record import Entry
from appliance.audit.schema import (
    INSERT_CHECKPOINT,
    INSERT_RECORD,
    INSERT_SUBTREE,
    SCHEMA,
    broken,
    entry_of,
)
from appliance.audit.segments import Segment, roots_path, sealed_segments
from appliance.audit.tree import Frontier
from appliance.database import SQLITE_ERRORS, Database
from appliance.errors import StateError
from appliance.files import sync_directory, unwritable

# The most of the time between a stop and the next start that counts: nobody can tell it from a clock that is false.
AWAY_NS = 7 * 86_400 * 1_000_000_000


def expired(live: Path, begun: Entry, age_ns: int) -> list[Segment]:
    """The sealed files whose newest record is over `age_ns` older than `begun`, the growing file's first.

    Oldest first. Raises AuditBroken when what the age is counted from is damaged.
    """
    step_ns = begun.record.step_ns if isinstance(begun.record, ClockStep) else 0
    passed_ns, later_ns = 0, begun.wall_ns - step_ns
    found: list[Segment] = []
    for segment in reversed(sealed_segments(live)):
        if segment.removed:
            break
        last_ns, false_ns = _clock_of(segment.path, segment.first, segment.end)
        passed_ns += later_ns - last_ns
        if passed_ns > age_ns:
            found.append(segment)
        later_ns = last_ns - false_ns
    return found[::-1]


@lru_cache(maxsize=4096)
def _clock_of(path: Path, first: int, end: int) -> tuple[int, int]:
    """The newest wall time in a sealed file, and how much of what its clock went on was no time lived.

    Remembered, because a sealed file never changes.
    """
    with closing(Database.read(path, SCHEMA, at_rest=True)) as database:
        false_ns = sum(
            step.step_ns
            for row in rare_rows(database, ("clock_step",))
            if isinstance(step := entry_of(row, row[0]).record, ClockStep)
        )
        for row in rare_rows(database, ("boot",)):
            if row[0] > first:
                boot, before = entry_of(row, row[0]), _entry_at(database, row[0] - 1)
                away_ns = boot.wall_ns - before.wall_ns
                false_ns += max(0, away_ns - AWAY_NS)
        return _entry_at(database, end - 1).wall_ns, false_ns


def _entry_at(database: Database, sequence: int) -> Entry:
    (row,) = rows_at(database, [sequence])
    if row is None:
        raise broken(sequence, "it is missing")
    return entry_of(row, sequence)


def keep_roots(segment: Segment) -> str:
    """Write beside `segment` the file of what stays of it; returns the tree's root at its end, in hex.

    Raises StateError when the file system refuses.
    """
    kept = roots_path(segment.path)
    making = kept.with_suffix(".making")
    source = Database.read(segment.path, SCHEMA, at_rest=True)
    try:
        ((size, hashes, _),) = last_checkpoints(source, 1)
        if not kept.exists():
            _clear(making)
            with closing(Database.write(making, SCHEMA)) as target:
                with target.transaction() as connection:
                    for query, insert in (
                        ("SELECT level, number, hash FROM subtree", INSERT_SUBTREE),
                        ("SELECT size, frontier, note FROM checkpoint", INSERT_CHECKPOINT),
                    ):
                        connection.executemany(insert, source.connection.execute(query))
                    connection.executemany(INSERT_RECORD, rare_rows(source, ("key_change",)))
                # Closing only tries to fold; what gets the name must hold all of it.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            making.replace(kept)
            _clear(making)
            sync_directory(kept.parent)
    except OSError as error:
        raise unwritable(kept, error) from error
    except SQLITE_ERRORS as error:
        raise StateError(
            f"cannot write {kept}: {error}", remedy="check free space and the disk"
        ) from error
    finally:
        source.close()
    return Frontier.from_bytes(size, hashes).root().hex()


def remove(segment: Segment) -> None:
    """Delete the file of `segment`; what `keep_roots` wrote stays. Raises StateError."""
    if not roots_path(segment.path).exists():
        raise StateError(
            f"{segment.path} may not go: its hashes are not kept", remedy="keep its roots first"
        )
    try:
        segment.path.unlink()
        sync_directory(segment.path.parent)
    except OSError as error:
        raise unwritable(segment.path, error) from error


def _clear(making: Path) -> None:
    for suffix in ("", "-wal", "-shm", ".lock"):
        making.with_name(f"{making.name}{suffix}").unlink(missing_ok=True)
