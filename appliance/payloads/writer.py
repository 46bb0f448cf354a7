"""The one writer of kept payloads.

Knows: where small and large bodies go, what is erased and in which order. Rules: what is erased is overwritten
in the file and its salt with it; a file that nothing names any more is removed, at the latest at the next
start; the oldest go first. Leaves to others: which requests are kept, and the records about them
(`runtime.payloads`).
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from appliance.database import SQLITE_ERRORS, Connection, Database
from appliance.errors import StateError
from appliance.files import make_directory
from appliance.payloads.blobs import Blobs
from appliance.payloads.payload import Payload, pack
from appliance.payloads.schema import BLOB, BYTES, INSERT, SCHEMA, Row, row_of

BLOB_BYTES_MIN = 100_000  # SQLite reads and writes larger ones slower than the file system does
_TRIMMED = (
    0.95  # of the budget is left when it was exceeded, so that not every payload erases another
)
_PAGES_FREED = 4096
_DIRECTORY_MODE = 0o750  # inputs are nobody's business but the runtime's user and group
_ERASED_AT_ONCE = 500


class Removed(NamedTuple):
    """How many payloads of each model were erased, and the bytes of them all together.

    `error` is what kept the rest, or the write-ahead log that they may live on in, from being erased.
    """

    models: Mapping[str, int]
    bytes: int
    error: StateError | None = None


class PayloadWriter:
    """The payloads below one directory, open for writing. One thread at a time."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs
        total = database.connection.execute("SELECT coalesce(sum(bytes), 0) FROM payload")
        self.bytes = int(total.fetchone()[0])

    @classmethod
    def open(cls, file: Path) -> Self:
        """Open, or make, the payloads in `file` and beside it. Raises StateError as Database.write does."""
        make_directory(file.parent, mode=_DIRECTORY_MODE)
        database = Database.write(file, SCHEMA)
        try:
            connection = database.connection
            # The log's own syncs are what answers wait for; a power cut may take the last payloads.
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA secure_delete=ON")
            if connection.execute("PRAGMA auto_vacuum").fetchone() != (2,):
                # Only a new file is without it, so there is nothing to move about.
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
                connection.execute("VACUUM")
            writer = cls(database, blobs_beside(file))
            writer._sweep()
        except (*SQLITE_ERRORS, OSError) as error:
            database.close()
            raise _unusable(file, error) from error
        return writer

    def put(self, payloads: Sequence[Payload]) -> None:
        """Keep `payloads`: a crash of this process loses none, a power cut the last ones at most.

        Raises StateError; none is kept then.
        """
        rows: list[Row] = []
        try:
            for payload in payloads:
                packed = pack(payload.inputs)
                large = len(packed.data) >= BLOB_BYTES_MIN
                blob = self._blobs.write(packed.data) if large else None
                rows.append(row_of(payload, packed, blob))
            with self._database.transaction() as connection:
                connection.executemany(INSERT, rows)
        except (*SQLITE_ERRORS, StateError) as error:
            with suppress(*SQLITE_ERRORS, OSError):
                self._blobs.remove(
                    unnamed(
                        self._database.connection, [str(row[BLOB]) for row in rows if row[BLOB]]
                    )
                )
            if isinstance(error, StateError):
                raise
            raise _unusable(self._database.path, error) from error
        self.bytes += sum(row[BYTES] for row in rows)

    def erase(self, request_id: str) -> Removed:
        """Erase every payload of a request, of which there may be none. Raises StateError."""
        return self._erase("SELECT number FROM payload WHERE request_id = ?", request_id)

    def erase_before(self, wall_ns: int) -> Removed:
        """Erase what was kept before `wall_ns`, UTC. Raises StateError."""
        return self._erase("SELECT number FROM payload WHERE wall_ns < ?", wall_ns)

    def erase_over(self, bytes_max: int) -> Removed:
        """Erase the oldest until what is left is well within `bytes_max`, if it is not within. StateError."""
        if self.bytes <= bytes_max:
            return Removed({}, 0)
        surplus = self.bytes - int(bytes_max * _TRIMMED)
        return self._erase(
            "SELECT number FROM (SELECT number, sum(bytes) OVER (ORDER BY number) - bytes AS before "
            "FROM payload) WHERE before < ?",
            surplus,
        )

    def fold(self) -> Removed:
        """Empty the write-ahead log, now and then: an erasure beside a long reader could not. StateError."""
        try:
            self._fold()
        except SQLITE_ERRORS as error:
            raise _unusable(self._database.path, error) from error
        return Removed({}, 0)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _erase(self, sql: str, value: str | int) -> Removed:
        """Erase the rows whose numbers `sql` selects, then their files and the pages they lay in.

        Raises StateError when none was; of a part the result tells.
        """
        counted: Counter[str] = Counter()
        freed = 0
        try:
            numbers = [number for (number,) in self._database.connection.execute(sql, (value,))]
            for start in range(0, len(numbers), _ERASED_AT_ONCE):
                with self._database.transaction() as connection:
                    part = numbers[start : start + _ERASED_AT_ONCE]
                    models, size, blobs = _deleted(connection, part)
                    # Before the rows are gone for good: what could not be removed is still found.
                    self._blobs.remove(blobs)
                counted.update(models)
                freed += size
                self.bytes -= size
            if numbers:
                self._fold()
        except (*SQLITE_ERRORS, OSError) as error:
            if not counted:
                raise _unusable(self._database.path, error) from error
            return Removed(counted, freed, _unusable(self._database.path, error))
        return Removed(counted, freed)

    def _fold(self) -> None:
        """Give free pages back and empty the write-ahead log, in which what was erased would live on."""
        connection = self._database.connection
        connection.execute(f"PRAGMA incremental_vacuum({_PAGES_FREED})").fetchall()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _sweep(self) -> None:
        """Remove files that no row names: a crash came between the two."""
        rows = self._database.connection.execute("SELECT blob FROM payload WHERE blob IS NOT NULL")
        self._blobs.remove(self._blobs.names() - {blob for (blob,) in rows})


def blobs_beside(file: Path) -> Blobs:
    """The large bodies that belong to the payloads in `file`."""
    return Blobs(file.parent / "blobs")


def _deleted(connection: Connection, numbers: Sequence[int]) -> tuple[list[str], int, list[str]]:
    """Delete these rows: their models, their bytes, and the files that nothing names any more."""
    models, size, blobs = [], 0, set()
    for number in numbers:
        found = connection.execute(
            "DELETE FROM payload WHERE number = ? RETURNING model, bytes, blob", (number,)
        ).fetchall()
        for model, length, blob in found:
            models.append(model)
            size += length
            blobs |= {blob} if blob else set()
    return models, size, unnamed(connection, blobs)


def unnamed(connection: Connection, blobs: Collection[str]) -> list[str]:
    """Those of these files that no row names."""
    named = "SELECT 1 FROM payload WHERE blob = ? LIMIT 1"
    return [blob for blob in blobs if not connection.execute(named, (blob,)).fetchone()]


def _unusable(path: Path, error: Exception) -> StateError:
    return StateError(
        f"the payloads in {path} cannot be used: {error}",
        remedy="check free space, ownership and permissions; the audit log is not affected",
    )
