"""The reader of kept payloads, beside a running writer or without one.

Knows: the questions of who shows, replays and warms. Rules: reads only, in short transactions; a payload is
checked against the digest in its record before it is given out. Leaves to others: what is done with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from appliance.database import SQLITE_ERRORS, Connection, Database
from appliance.errors import StateError
from appliance.payloads.payload import Payload
from appliance.payloads.schema import SCHEMA, SELECT, payload_of
from appliance.payloads.writer import blobs_beside

ALWAYS_NS = 2**63 - 1
_PAGE = 64
_WITHIN = "FROM payload WHERE model = ? AND wall_ns >= ? AND wall_ns < ?"
_COUNT = "SELECT count(*) " + _WITHIN
_NUMBERS = "SELECT number " + _WITHIN


class PayloadReader:
    """Opened for reading; StateError when nothing was ever kept. One thread at a time.

    Every method raises PayloadBroken on a payload that does not fit its record, StateError when the file
    cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self._database = Database.read(file, SCHEMA)
        self._blobs = blobs_beside(file)

    def find(self, sha256: str) -> Payload | None:
        """The payload that a record names by its salted digest, None when it is no longer kept."""
        with self._reading() as connection:
            row = connection.execute(f"{SELECT} WHERE sha256 = ?", (sha256,)).fetchone()
        return None if row is None else payload_of(row, self._blobs)

    def newest(self, model: str, count: int) -> list[Payload]:
        """The last `count` payloads of a model, oldest first."""
        with self._reading() as connection:
            rows = connection.execute(
                f"{SELECT} WHERE model = ? ORDER BY number DESC LIMIT ?", (model, count)
            ).fetchall()
        return [payload_of(row, self._blobs) for row in reversed(rows)]

    def count(self, model: str, *, since_ns: int = 0, until_ns: int = ALWAYS_NS) -> int:
        """How many payloads of a model with since <= time < until (UTC) are kept."""
        with self._reading() as connection:
            found = connection.execute(_COUNT, (model, since_ns, until_ns))
            return int(found.fetchone()[0])

    def each(
        self,
        model: str,
        *,
        since_ns: int = 0,
        until_ns: int = ALWAYS_NS,
        last: int | None = None,
    ) -> Iterator[Payload]:
        """Payloads of a model with since <= time < until (UTC), oldest first: all, or the `last` so many.

        Few are in memory at a time; those that are erased meanwhile are left out.
        """
        within = (model, since_ns, until_ns)
        after = 0 if last is None else self._before_last(within, last)
        while True:
            with self._reading() as connection:
                found = connection.execute(
                    _NUMBERS + " AND number > ? ORDER BY number LIMIT ?",
                    (*within, after, _PAGE),
                ).fetchall()
            for (number,) in found:
                with self._reading() as connection:
                    row = connection.execute(f"{SELECT} WHERE number = ?", (number,)).fetchone()
                if row is not None:
                    yield payload_of(row, self._blobs)
            if len(found) < _PAGE:
                return
            (after,) = found[-1]

    def _before_last(self, within: tuple[str, int, int], last: int) -> int:
        """The number just before the `last` payloads; 0 where there are no more than these."""
        with self._reading() as connection:
            found = connection.execute(
                _NUMBERS + " ORDER BY number DESC LIMIT 1 OFFSET ?",
                (*within, last),
            ).fetchone()
        return 0 if found is None else int(found[0])

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            yield self._database.connection
        except SQLITE_ERRORS as error:
            raise StateError(
                f"the payloads in {self._database.path} cannot be read: {error}",
                remedy="check the disk; the audit log is not affected",
            ) from error
