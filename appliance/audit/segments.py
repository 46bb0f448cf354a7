"""The files of one audit log: sealed ones, and the one that grows.

Knows: their names and order. Rules: one log is many files and one tree; sequences go on from file to file; a
sealed file never changes; of a removed one the subtree hashes and checkpoints stay. Leaves to others: what is in
them (`audit.schema`), sealing (`audit.log`), removing (`audit.retention`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import AuditBroken

SEALED = "sealed"
# Laid down while the growing file is between two names: without it a missing file is a loss, not a change.
MOVING = "moving"
_NAME = re.compile(r"(\d{12,})-(\d{12,})(\.roots)?\.db")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The file of the records with first <= sequence < end; of a `removed` one only hashes are left."""

    path: Path
    first: int
    end: int
    removed: bool


def sealed_directory(live: Path) -> Path:
    """Where the sealed files of the log that grows in `live` are."""
    return live.parent / SEALED


def sealed_path(live: Path, first: int, end: int) -> Path:
    """The name of the sealed file of the records with first <= sequence < end."""
    return sealed_directory(live) / f"{first:012}-{end - 1:012}.db"


def moving_path(live: Path) -> Path:
    """The mark that the file `live` is being sealed and another begun in its place."""
    return live.parent / MOVING


def log_there(live: Path) -> bool:
    """Whether there is a log: one that grows, or sealed files while it is between two."""
    grows = live.exists() and live.stat().st_size > 0
    return grows or any(_named(sealed_directory(live)))


def roots_path(sealed: Path) -> Path:
    """The name of the file that a removed `sealed` leaves."""
    return sealed.with_suffix(".roots.db")


def sealed_segments(live: Path) -> list[Segment]:
    """The sealed files of the log that grows in `live`, oldest first; AuditBroken when one is missing between.

    While a file is being removed both it and what it leaves may be there: then it is not removed yet.
    """
    found: dict[int, Segment] = {}
    for segment in _named(sealed_directory(live)):
        other = found.get(segment.first)
        if other is None or other.removed:
            found[segment.first] = segment
    segments = [found[first] for first in sorted(found)]
    expected = 0
    for segment in segments:
        if segment.first != expected:
            raise AuditBroken(
                f"record {expected}: the sealed file that holds it is missing",
                remedy="put the file back, or find out who took it: nothing here removes one without a trace",
            )
        expected = segment.end
    return segments


def _named(directory: Path) -> Iterator[Segment]:
    if not directory.is_dir():
        return
    for path in sorted(directory.iterdir()):
        if match := _NAME.fullmatch(path.name):
            yield Segment(
                path=path, first=int(match[1]), end=int(match[2]) + 1, removed=bool(match[3])
            )
