"""Takes up the notes that other processes left, and writes them into the audit log.

Knows: what becomes of a note. Rules: recorded first, removed second, so that a crash between the two records it
twice rather than never; what is no note is put aside and journalled once. Leaves to others: leaving them and reading
them (`appliance.notes`), when (`runtime.tending`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from appliance import journal
from appliance.audit.record import AnyRecord
from appliance.config import StateConfig
from appliance.errors import AuditError
from appliance.files import unwritable
from appliance.notes import left, read_note

# Notes taken up at one look, so that many do not hold up the records of requests.
NOTES_MAX = 64
REFUSED_SUFFIX = ".refused"


class Log(Protocol):
    """What is needed of `appliance.audit.log.AuditLog`."""

    def append(self, records: Sequence[AnyRecord]) -> Sequence[int]:
        """Make the records durable."""


def take_up(state: StateConfig, log: Log) -> int:
    """Record the notes that wait, a few at most; how many were. Raises AuditUnwritable, StateError."""
    records: list[AnyRecord] = []
    taken: list[Path] = []
    for path in left(state)[:NOTES_MAX]:
        try:
            records.append(read_note(path))
        except AuditError as error:
            journal.failure("note.refused", error)
            _put_aside(path)
        else:
            taken.append(path)
    log.append(records)
    for path in taken:
        try:
            path.unlink()
        except OSError as error:
            raise unwritable(path, error) from error
    return len(taken)


def _put_aside(path: Path) -> None:
    try:
        path.replace(path.with_suffix(REFUSED_SUFFIX))
    except OSError as error:
        raise unwritable(path, error) from error
