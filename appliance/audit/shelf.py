"""The files of a log, opened for reading beside a running writer.

Knows: how to see all files as of one moment although the growing one may be sealed meanwhile. Rules: reads
only; a file is opened when it is reached, and of the sealed ones OPEN_MAX stay open, so that a log of thousands of
files needs a few handles; one that was sealed or removed is let go at the next look: it stays open only for whoever is
still reading it, because a removed file that is open frees no space. Of a file that is removed before it is reached
there is what is left of it. Leaves to others: what is read.

SQLite finds a write-ahead log by the name of its file. A reader that opened the file before it was sealed and
the write-ahead log after would join two files, so the file's inode is compared before and after both are open.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.audit.pages import AFTER_ALL, count_records, first_sequence
from appliance.audit.schema import SCHEMA, broken
from appliance.audit.segments import (
    Segment,
    moving_path,
    roots_path,
    sealed_directory,
    sealed_segments,
)
from appliance.database import SQLITE_ERRORS, Database
from appliance.errors import AuditBroken, StateError

TRIES = 100
# Sealed files that stay open for the next question: a year of a box that seals one a month.
OPEN_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A file of the log: its records are those with first <= sequence < end; `removed` leaves only hashes."""

    database: Database
    first: int
    end: int
    removed: bool


class Shelf:
    """The log that grows in the file `live`; StateError when there is none. One thread at a time."""

    def __init__(self, live: Path) -> None:
        self._live_path = live
        self._open: dict[Path, Database] = {}  # the one asked for last at the end
        self._seen = (0, 0)
        self._looks = 0
        self._sealed: list[Segment] = []
        self._live: Opened | None = None
        self._look()

    @property
    def live(self) -> Opened | None:
        """The file that grows; None while the log is between two files."""
        return self._live

    def refresh(self) -> int:
        """Look again, if a file was sealed or removed since; a number that is another then."""
        if self._stands() != self._seen or self._live is None:
            self._look()
        return self._looks

    def files(
        self, *, first: int = 0, end: int = AFTER_ALL, removed: bool = False
    ) -> Iterator[Opened]:
        """The files that may hold a record with first <= sequence < end, oldest first, each opened when reached.

        With `removed` also what is left of removed ones.
        """
        live = self._live
        yield from self._reached(
            [each for each in self._sealed if each.end > first and each.first < end],
            removed=removed,
        )
        if live is not None and live.first < end:
            yield live

    def first(self) -> int:
        """The sequence of the oldest record that is not removed."""
        there = (segment.first for segment in self._sealed if not segment.removed)
        return next(there, self.size() if self._live is None else self._live.first)

    def newest_first(self, *, removed: bool = False) -> Iterator[Opened]:
        """All files that have records, newest first, each opened when reached; with `removed` as for `files`."""
        sealed = self._sealed
        if self._live is not None:
            yield self._live
        yield from self._reached(reversed(sealed), removed=removed)

    def size(self) -> int:
        """How many records the log has."""
        if self._live is not None:
            return max(count_records(self._live.database.connection), self._live.first)
        return self._sealed[-1].end

    def close(self) -> None:
        """Close every file."""
        live = [] if self._live is None else [self._live.database]
        for database in (*live, *self._open.values()):
            database.close()

    def _reached(self, segments: Iterable[Segment], *, removed: bool) -> Iterator[Opened]:
        for segment in segments:
            if removed or not segment.removed:
                found = self._opened(segment)
                if removed or not found.removed:
                    yield found

    def _opened(self, segment: Segment) -> Opened:
        """The file of `segment`, or what is left of it since it was looked for. Raises StateError."""
        database = self._open.pop(segment.path, None)
        if database is None:
            try:
                database = Database.read(segment.path, SCHEMA, at_rest=True)
            except StateError:
                kept = roots_path(segment.path)
                if segment.removed or segment.path.exists() or not kept.exists():
                    raise
                return self._opened(replace(segment, path=kept, removed=True))
        self._open[segment.path] = database
        if len(self._open) > OPEN_MAX:
            # Not closed here either: see `_look`.
            del self._open[next(iter(self._open))]
        return Opened(
            database=database, first=segment.first, end=segment.end, removed=segment.removed
        )

    def _look(self) -> None:
        # Not closed here: whoever is in the midst of it has it still, and the last to let go of it closes it.
        self._live = None
        first = end = 0
        for _ in range(TRIES):
            seen = self._stands()
            database: Database | None = None
            try:
                self._sealed = sealed_segments(self._live_path)
                first = end = self._sealed[-1].end if self._sealed else 0
                database = self._read_live()
                if database is not None and self._sealed:
                    first = self._begins(database, end)
            except (StateError, AuditBroken):
                if self._stands() == seen:
                    raise
                # Something was sealed or removed meanwhile: what seemed missing or damaged has moved.
            else:
                if self._stands() == seen and first == end:
                    self._keep(database, first, seen)
                    return
            if database is not None:
                database.close()
        raise broken(end, f"the growing file begins with record {first}")

    def _keep(self, live: Database | None, first: int, seen: tuple[int, int]) -> None:
        """Go on with what was found as the files stood at `seen`."""
        there = {segment.path for segment in self._sealed}
        self._open = {path: one for path, one in self._open.items() if path in there}
        if seen != self._seen or live is not None:
            self._looks += 1  # nothing new while no file follows the sealed one
        self._seen = seen
        if live is not None:
            self._live = Opened(database=live, first=first, end=AFTER_ALL, removed=False)

    def _stands(self) -> tuple[int, int]:
        """What changes when a file is sealed or removed."""
        live, sealed = _stat(self._live_path), _stat(sealed_directory(self._live_path))
        return (0 if live is None else live.st_ino, 0 if sealed is None else sealed.st_mtime_ns)

    def _begins(self, database: Database, end: int) -> int:
        """The first sequence of the growing file, `end` when nothing is in it yet."""
        try:
            found = first_sequence(database.connection)
        except SQLITE_ERRORS as error:
            raise broken(end, f"the file is damaged here: {error}") from error
        return end if found is None else found

    def _read_live(self) -> Database | None:
        """The growing file; None while a new one is being made after older ones."""
        if self._sealed and moving_path(self._live_path).exists():
            with suppress(StateError):
                return Database.read(self._live_path, SCHEMA)
            return None
        return Database.read(self._live_path, SCHEMA)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
