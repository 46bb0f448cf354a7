"""The audit log's writer: records become durable in groups, checkpoints are signed as it grows.

Knows: where the log stands (how many records, the tree's frontier, the last checkpoint). Rules: a group is
one transaction, on stable storage when `append` returns and wholly absent when it raises; what is held in
memory always equals the file; a checkpoint is written with the records it covers; a file that is sealed ends
with one and the next begins with it. Leaves to others: how a file stands when it is opened (`audit.resuming`),
reading (`audit.reader`), proving the whole (`audit.verify`), when to seal, threads and queues
(`runtime.recorder`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from appliance import clock as clocks
from appliance.audit import retention
from appliance.audit.checkpoint import origin_of, sign_checkpoint
from appliance.audit.keyring import key_change
from appliance.audit.kinds import AnyRecord, Removed, Sealed
from appliance.audit.reader import AuditReader
from appliance.audit.resuming import (
    base_of_next,
    check_follows,
    check_there,
    clear_moving,
    entry_at,
    mark_moving,
    resume,
)
from appliance.audit.schema import (
    INSERT_CHECKPOINT,
    INSERT_RECORD,
    INSERT_SUBTREE,
    INSERT_TILE,
    LEAF,
    SCHEMA,
    Row,
    said,
)
from appliance.audit.segments import sealed_directory, sealed_path, sealed_segments
from appliance.audit.tiles import TILE_RECORDS, Tile
from appliance.audit.tree import Frontier
from appliance.audit.writing import Times, row_from, unwritable
from appliance.clock import Clock
from appliance.database import SQLITE_ERRORS, Database
from appliance.errors import ApplianceError
from appliance.files import make_directory
from appliance.signing import SigningKey

CHECKPOINT_RECORDS = 1024
CHECKPOINT_SECONDS = 60.0
# Sealed files removed at one go.
REMOVED_MAX = 4
_NS = 1_000_000_000


class AuditLog:
    """The one writer of a log. One thread at a time; `open` makes it."""

    def __init__(
        self,
        database: Database,
        *,
        key: SigningKey,
        clock: Clock,
        boot_id: str,
        checkpoint_records: int,
        checkpoint_seconds: float,
        bytes_max: int | None = None,
    ) -> None:
        self._database = database
        self._key = key
        self._clock = clock
        self._times = Times(clock, boot_id)
        self._checkpoint_records = checkpoint_records
        self._checkpoint_ns = int(checkpoint_seconds * _NS)
        self._bytes_max = bytes_max
        self._signed_at_ns = clock.monotonic_ns()
        self._between = False
        self._stand()

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
        """Open the log that grows at `path`, made if missing, and sign a checkpoint over all it holds.

        `key` is the box key that signed it last, `bytes_max` the most the file may take, `boot_id` this
        boot's (the kernel's by default). Raises StateError when it has another writer or is no audit log,
        AuditBroken when a file is missing, or the last checkpoint or a record after that does not verify,
        AuditUnwritable when the checkpoint cannot be written.
        """
        check_there(path)
        database = Database.write(path, SCHEMA, bytes_max=bytes_max)
        try:
            log = cls(
                database,
                key=key,
                clock=clock,
                boot_id=clocks.boot_id() if boot_id is None else boot_id,
                checkpoint_records=checkpoint_records,
                checkpoint_seconds=checkpoint_seconds,
                bytes_max=bytes_max,
            )
            log.checkpoint()
        except SQLITE_ERRORS as error:
            database.close()
            raise unwritable(error) from error
        except BaseException:
            database.close()
            raise
        return log

    @property
    def size(self) -> int:
        """How many records the log holds; also the next record's sequence."""
        return self._frontier.size

    @property
    def file_bytes(self) -> int:
        """How large the growing file is."""
        return self._database.path.stat().st_size

    @property
    def checkpoint_due(self) -> bool:
        """True when records wait for a checkpoint by the limit of records or of seconds.

        `append` sees to it by itself; a log that falls idle needs someone to ask and call `checkpoint`.
        """
        return self._due(self._frontier.size, self._clock.monotonic_ns())

    def append(self, records: Sequence[AnyRecord]) -> range:
        """Write `records` as one durable transaction and return their sequences.

        A step of the wall clock since the record before is recorded in front of them. Raises
        AuditUnwritable when nothing of it was written; the next call may try again.
        """
        return self._append(records) if records else range(self.size, self.size)

    def change_key(self, new: SigningKey, *, reason: str, by: str) -> int:
        """Let `new` sign from here on, vouched for by the key so far; returns the sequence of the record.

        One transaction holds the record and the first checkpoint that `new` signs, under the log's name.
        Raises AuditUnwritable when nothing of it was written; the old key then goes on.
        """
        change = key_change(self._key, new.public, reason=reason, by=by)
        return self._append([change], heir=new)[-1]

    def checkpoint(self) -> None:
        """Sign a checkpoint over all records unless the last one covers them; AuditUnwritable."""
        if self._signed != self._frontier.size:
            self._commit([], [], self._frontier, sign=True)

    def seal_due(self, *, bytes_max: int, seconds: float) -> bool:
        """Whether the growing file is over `bytes_max` or its first record `seconds` old."""
        if self._begun_ns is None or self._between:
            return False
        old = self._clock.wall_ns() - self._begun_ns >= seconds * _NS
        return old or self.file_bytes >= bytes_max

    def seal(self) -> bool:
        """Seal the growing file and go on in a new one; False when it cannot be just now.

        It waits for readers in the midst of a page and for open decisions, and an empty file is not sealed. Raises
        AuditUnwritable; the log then goes on in the file that there is.
        """
        path = self._database.path
        if self.size == self._first:
            return False
        self.checkpoint()
        with AuditReader(path) as reader:
            if reader.open_decisions():
                return False
        try:
            target = sealed_path(path, self._first, self.size)
            make_directory(sealed_directory(path))
            mark_moving(path)
            self._between = True
            if not self._database.move(target, SCHEMA):
                self._between = False
                clear_moving(path)
                return False
        except (*SQLITE_ERRORS, OSError, ApplianceError) as error:
            raise unwritable(error) from error
        self._begin_file()
        return True

    def remove_expired(self, days: int) -> int:
        """Remove sealed files whose newest record is `days` older than the growing file; how many went.

        A few at most, because whoever writes waits meanwhile. Each removal is recorded before it is done. Raises
        AuditUnwritable, StateError, AuditBroken.
        """
        begun = None if self._between else entry_at(self._database, self._first)
        if begun is None:
            return 0
        expired = retention.expired(self._database.path, begun, days * 86_400 * _NS)[:REMOVED_MAX]
        for segment in expired:
            root = retention.keep_roots(segment)
            reason = f"its records are more than {days} days old"
            removed = Removed(first=segment.first, end=segment.end, root=root, reason=reason)
            self.append([removed])
            retention.remove(segment)
        return len(expired)

    def close(self) -> None:
        """Sign a last checkpoint and give the file back. Raises AuditUnwritable, closed all the same."""
        try:
            if not self._between:
                self.checkpoint()
        finally:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stand(self) -> None:
        """Take up how the file stands; a new one begins where the last sealed one ended."""
        path = self._database.path
        standing = resume(self._database, self._key.public)
        base = None if standing.origin else base_of_next(path)
        if base is not None:
            with self._database.transaction() as connection:
                connection.execute(INSERT_CHECKPOINT, base)
            standing = resume(self._database, self._key.public)
        check_follows(path, standing.first)
        self._first, self._frontier, self._signed = (
            standing.first,
            standing.frontier,
            standing.signed,
        )
        self._origin = standing.origin or origin_of(self._key.public)
        self._tile, self._begun_ns = standing.tile, standing.begun_ns
        self._times.go_on(standing.last)
        if self._first and self._first == self.size:
            self._record_sealed()
        clear_moving(path)

    def _append(self, records: Sequence[AnyRecord], heir: SigningKey | None = None) -> range:
        if self._between:
            self._begin_file()
        now, step = self._times.now()
        frontier, tile = self._frontier.copy(), self._tile.copy()
        rows, tiles = [], []
        for record in (*step, *records):
            rows.append(row_from(self._times.entry(frontier.size, now, self._key.public, record)))
            frontier.append(rows[-1][LEAF])
            tile.add(*said(rows[-1]))
            if not frontier.size % TILE_RECORDS:
                tiles.append(tile)
                tile = Tile(tile.number + 1)
        written = range(self.size + len(step), frontier.size)
        self._commit(rows, tiles, frontier, sign=self._due(frontier.size, now[1]), heir=heir)
        self._tile = tile
        self._times.keep(now)
        if self._begun_ns is None:
            self._begun_ns = now.wall_ns
        else:
            self._begun_ns += sum(record.step_ns for record in step)
        return written

    def _begin_file(self) -> None:
        """Go on in whatever file there is after one was sealed, or should have been."""
        try:
            self._database.reopen(SCHEMA, bytes_max=self._bytes_max)
            self._between = False
            self._stand()
        except (*SQLITE_ERRORS, OSError, ApplianceError) as error:
            self._between = True
            raise unwritable(error) from error

    def _record_sealed(self) -> None:
        """Record, first of all in this file, what was sealed before it and how the models stand."""
        with AuditReader(self._database.path) as reader:
            standing = tuple(reader.last_outcomes().values())
        before = sealed_segments(self._database.path)[-1]
        root = self._frontier.root().hex()
        self.append([Sealed(first=before.first, end=before.end, root=root, standing=standing)])

    def _due(self, size: int, monotonic_ns: int) -> bool:
        waiting = size - self._signed
        return waiting >= self._checkpoint_records or (
            waiting > 0 and monotonic_ns - self._signed_at_ns >= self._checkpoint_ns
        )

    def _commit(
        self,
        rows: list[Row],
        tiles: list[Tile],
        frontier: Frontier,
        *,
        sign: bool,
        heir: SigningKey | None = None,
    ) -> None:
        """Write rows and, if asked or for an `heir`, a checkpoint at `frontier`; only then believe it."""
        size, key, note = frontier.size, heir or self._key, None
        if sign or heir:
            note = sign_checkpoint(size, frontier.root(), key, origin=self._origin)
        try:
            if len(rows) == 1 and not (tiles or frontier.completed or note):
                # One statement is a transaction of its own: BEGIN and COMMIT around it cost a fifth more.
                self._database.connection.execute(INSERT_RECORD, rows[0])
            else:
                with self._database.transaction() as connection:
                    connection.executemany(INSERT_RECORD, rows)
                    connection.executemany(INSERT_SUBTREE, frontier.completed)
                    connection.executemany(INSERT_TILE, [tile.row() for tile in tiles])
                    if note is not None:
                        connection.execute(INSERT_CHECKPOINT, (size, frontier.to_bytes(), note))
        except SQLITE_ERRORS as error:
            raise unwritable(error) from error
        frontier.completed.clear()
        self._frontier, self._key = frontier, key
        if note is not None:
            self._signed = size
            self._signed_at_ns = self._clock.monotonic_ns()
