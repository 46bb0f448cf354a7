"""Removing sealed files that are old enough.

Knows: which may go, and what of them stays. Rules: only whole sealed files go, the oldest first; their subtree
hashes and checkpoints stay, so that what follows them can still be proven; age is counted between records, so
that a wall clock that jumps ahead removes nothing before a new file is begun. Leaves to others: recording the
removal (`audit.log`).
"""

from contextlib import closing
from pathlib import Path

from appliance.audit.pages import last_checkpoints
from appliance.audit.schema import INSERT_CHECKPOINT, INSERT_SUBTREE, SCHEMA
from appliance.audit.segments import Segment, roots_path, sealed_segments
from appliance.audit.tree import Frontier
from appliance.database import SQLITE_ERRORS, Database
from appliance.errors import StateError
from appliance.files import sync_directory, unwritable


def expired(live: Path, before_ns: int) -> list[Segment]:
    """The sealed files all of whose records are from before `before_ns` (wall time), oldest first."""
    found: list[Segment] = []
    for segment in sealed_segments(live):
        if segment.removed:
            continue
        database = Database.read(segment.path, SCHEMA, at_rest=True)
        try:
            newest = database.connection.execute("SELECT max(wall_ns) FROM record").fetchone()[0]
        finally:
            database.close()
        if newest >= before_ns:
            break
        found.append(segment)
    return found


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
