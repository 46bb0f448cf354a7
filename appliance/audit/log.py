"""The audit log's writer: records become durable in groups, checkpoints are signed as it grows.

Knows: where the log stands (how many records, the tree's frontier, the last checkpoint). Rules: a group is
one transaction, on stable storage when `append` returns and wholly absent when it raises; what is held in
memory always equals the file; a checkpoint is written with the records it covers. Opening trusts only a
signed checkpoint and re-reads every record after it. Leaves to others: reading (`audit.reader`), proving
the whole (`audit.verify`), threads and queues (`runtime.recorder`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from appliance import clock as clocks
from appliance.audit.checkpoint import sign_checkpoint
from appliance.audit.pages import count_records, last_checkpoints, pages
from appliance.audit.record import EVIDENCE_REMEDY, AnyRecord, Entry, encode
from appliance.audit.schema import (
    INSERT_CHECKPOINT,
    INSERT_RECORD,
    LEAF,
    SCHEMA,
    Row,
    broken,
    checkpoint_of,
    entry_of,
    row_of,
)
from appliance.audit.tree import Frontier, leaf_hash
from appliance.clock import Clock
from appliance.database import SQLITE_ERRORS, Database
from appliance.errors import AuditBroken, AuditUnwritable
from appliance.signing import PublicKey, SigningKey

CHECKPOINT_RECORDS = 1024
CHECKPOINT_SECONDS = 60.0
# A record is small; one this large is a mistake that must not fill the disk.
RECORD_BYTES_MAX = 16 << 20
NEVER_SIGNED = -1
_NS = 1_000_000_000
_DISK_REMEDY = "check the disk: `journalctl -k` shows what it reported"


class AuditLog:
    """The one writer of a log file. One thread at a time; `open` makes it."""

    def __init__(
        self,
        database: Database,
        *,
        key: SigningKey,
        clock: Clock,
        boot_id: str,
        checkpoint_records: int,
        checkpoint_seconds: float,
    ) -> None:
        self._database = database
        self._key = key
        self._clock = clock
        self._boot_id = boot_id
        self._checkpoint_records = checkpoint_records
        self._checkpoint_ns = int(checkpoint_seconds * _NS)
        self._signed_at_ns = clock.monotonic_ns()
        self._frontier, self._signed = _resume(database, key.public)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        key: SigningKey,
        clock: Clock,
        checkpoint_records: int = CHECKPOINT_RECORDS,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        bytes_max: int | None = None,
        boot_id: str | None = None,
    ) -> Self:
        """Open the log at `path`, made if missing, and sign a checkpoint over all it holds.

        `key` is the box key that signed it so far, `bytes_max` the most the file may take, `boot_id` this
        boot's (the kernel's by default). Raises StateError when it has another writer or is no audit log,
        AuditBroken when its last checkpoint or a record after that does not verify, AuditUnwritable when
        the checkpoint cannot be written.
        """
        database = Database.write(path, SCHEMA, bytes_max=bytes_max)
        try:
            log = cls(
                database,
                key=key,
                clock=clock,
                boot_id=clocks.boot_id() if boot_id is None else boot_id,
                checkpoint_records=checkpoint_records,
                checkpoint_seconds=checkpoint_seconds,
            )
            log.checkpoint()
        except SQLITE_ERRORS as error:
            database.close()
            raise _unwritable(error) from error
        except BaseException:
            database.close()
            raise
        return log

    @property
    def size(self) -> int:
        """How many records the log holds; also the next record's sequence."""
        return self._frontier.size

    @property
    def checkpoint_due(self) -> bool:
        """True when records wait for a checkpoint by the limit of records or of seconds.

        `append` sees to it by itself; a log that falls idle needs someone to ask and call `checkpoint`.
        """
        return self._due(self._frontier.size, self._clock.monotonic_ns())

    def append(self, records: Sequence[AnyRecord]) -> range:
        """Write `records` as one durable transaction and return their sequences.

        Raises AuditUnwritable when nothing of it was written; the next call may try again.
        """
        if not records:
            return range(self.size, self.size)
        wall_ns, monotonic_ns = self._clock.wall_ns(), self._clock.monotonic_ns()
        frontier = self._frontier.copy()
        rows = []
        for record in records:
            entry = self._entry(frontier.size, wall_ns, monotonic_ns, record)
            rows.append(_row(entry))
            frontier.append(rows[-1][LEAF])
        written = range(self.size, frontier.size)
        self._commit(rows, frontier, sign=self._due(frontier.size, monotonic_ns))
        return written

    def checkpoint(self) -> None:
        """Sign a checkpoint over all records unless the last one covers them; AuditUnwritable."""
        if self._signed != self._frontier.size:
            self._commit([], self._frontier, sign=True)

    def close(self) -> None:
        """Sign a last checkpoint and give the file back. Raises AuditUnwritable, closed all the same."""
        try:
            self.checkpoint()
        finally:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _entry(self, sequence: int, wall_ns: int, monotonic_ns: int, record: AnyRecord) -> Entry:
        return Entry(
            sequence=sequence,
            wall_ns=wall_ns,
            monotonic_ns=monotonic_ns,
            boot_id=self._boot_id,
            box=self._key.public.key_id,
            record=record,
        )

    def _due(self, size: int, monotonic_ns: int) -> bool:
        waiting = size - self._signed
        return waiting >= self._checkpoint_records or (
            waiting > 0 and monotonic_ns - self._signed_at_ns >= self._checkpoint_ns
        )

    def _commit(self, rows: list[Row], frontier: Frontier, *, sign: bool) -> None:
        """Write rows and, if asked, a checkpoint at `frontier`; only then believe it."""
        size = frontier.size
        note = sign_checkpoint(size, frontier.root(), self._key) if sign else None
        try:
            with self._database.transaction() as connection:
                connection.executemany(INSERT_RECORD, rows)
                if note is not None:
                    connection.execute(INSERT_CHECKPOINT, (size, frontier.to_bytes(), note))
        except SQLITE_ERRORS as error:
            raise _unwritable(error) from error
        self._frontier = frontier
        if note is not None:
            self._signed = size
            self._signed_at_ns = self._clock.monotonic_ns()


def _row(entry: Entry) -> Row:
    body = encode(entry)
    if len(body) > RECORD_BYTES_MAX:
        raise AuditUnwritable(
            f"a record of {len(body)} bytes is over the limit of {RECORD_BYTES_MAX}",
            remedy="send fewer rows in one request",
        )
    return row_of(entry, leaf_hash(body), body)


def _resume(database: Database, public: PublicKey) -> tuple[Frontier, int]:
    """Where the file stands: its last checkpoint's frontier, then every record after that.

    Returns the frontier and the size of that checkpoint, NEVER_SIGNED when there is none yet.
    """
    connection = database.connection
    size = count_records(connection)
    stored = last_checkpoints(connection, 1)
    if not stored:
        if size:
            raise AuditBroken("the log has records but no checkpoint", remedy=EVIDENCE_REMEDY)
        return Frontier(), NEVER_SIGNED
    checkpoint, frontier = checkpoint_of(stored[0], public)
    if checkpoint.size > size:
        raise broken(size, f"it is missing; a checkpoint covers {checkpoint.size} records")
    for rows in pages(connection, after=checkpoint.size - 1):
        for row in rows:
            entry_of(row, frontier.size)
            frontier.append(row[LEAF])
    return frontier, checkpoint.size


def _unwritable(error: Exception) -> AuditUnwritable:
    remedies = {
        "SQLITE_FULL": "free disk space",
        "SQLITE_READONLY": "check the owner and permissions of the audit directory",
        "SQLITE_BUSY": "close the other program that has the log open for writing",
        "SQLITE_CONSTRAINT": "start the runtime again: another program wrote to the log",
    }
    # The extended name, such as SQLITE_IOERR_WRITE, begins with the plain one.
    name = getattr(error, "sqlite_errorname", "")
    remedy = next((text for key, text in remedies.items() if name.startswith(key)), _DISK_REMEDY)
    return AuditUnwritable(f"the audit log cannot be written: {error}", remedy=remedy)
