"""Takes up the notes that other processes left, and writes them into the audit log.

Knows: what becomes of a note. Rules: recorded first, removed second, so that a crash between the two records it
twice rather than never; one that may not be removed is not recorded, or it would be each second for ever; what is no
note is put aside and journalled once. Leaves to others: leaving them and reading
them (`appliance.notes`), when (`runtime.tending`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from appliance import journal
from appliance.audit.kinds import AnyRecord
from appliance.config import StateConfig
from appliance.errors import AuditError
from appliance.files import unwritable
from appliance.notes import TAKEN_SUFFIX, left, read_note

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
            record = read_note(path)
        except AuditError as error:
            journal.failure("note.refused", error)
            _rename(path, REFUSED_SUFFIX)
        else:
            taken.append(_rename(path, TAKEN_SUFFIX))
            records.append(record)
    log.append(records)
    for path in taken:
        try:
            path.unlink()
        except OSError as error:
            raise unwritable(path, error) from error
    return len(taken)


def _rename(path: Path, suffix: str) -> Path:
    """Give the note another suffix, which needs the same right as removing it."""
    try:
        return path.replace(path.with_suffix(suffix))
    except OSError as error:
        raise unwritable(path, error) from error
