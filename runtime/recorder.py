"""The one thread that appends to the audit log.

Knows: the queue in front of the log. Rules: whoever awaits `append` goes on only when the record is
durable; everything that queued during one commit shares the next; a log that fails fails those who wait,
and is tried again for the next. Leaves to others: what a record says.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from appliance import journal
from appliance.audit.record import AnyRecord
from appliance.errors import ApplianceError, AuditUnwritable, Overloaded

Entry = Callable[[], AnyRecord]
# How soon an idle log notices that a checkpoint is due.
IDLE_SECONDS = 1.0


class Log(Protocol):
    """What the recorder needs of `appliance.audit.log.AuditLog`."""

    def append(self, records: Sequence[AnyRecord]) -> Sequence[int]:
        """Make the records durable in one transaction and return their sequence numbers."""

    @property
    def size(self) -> int:
        """Durable records."""

    @property
    def checkpoint_due(self) -> bool:
        """Whether records wait for a checkpoint."""

    def checkpoint(self) -> None:
        """Sign a checkpoint over all records."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    entry: Entry
    future: "asyncio.Future[int]"


class Recorder:
    """A queue and its thread; `append` is called on the event loop it was made on."""

    def __init__(self, log: Log, *, queue_records_max: int) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(queue_records_max)
        self.failure = ""
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    @property
    def records(self) -> int:
        """Records that are durable."""
        return self._log.size

    @property
    def queued(self) -> int:
        """Records that wait for the next commit."""
        return self._queue.qsize()

    async def append(self, entry: Entry) -> int:
        """Make the record that `entry` builds durable and return its sequence number.

        `entry` runs on the recorder's thread, so that hashing never holds up the event loop. Raises
        Overloaded when the queue is full, AuditUnwritable when the log cannot take the record.
        """
        waiting = _Waiting(entry, self._loop.create_future())
        try:
            self._queue.put_nowait(waiting)
        except queue.Full:
            raise Overloaded(
                "the audit log is behind: too many records wait",
                remedy="send fewer at a time, or give the state directory a faster disk",
            ) from None
        return await waiting.future

    def close(self) -> None:
        """Write what is queued, then end the thread; blocks until it has ended."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            group = self._next_group()
            results = self._commit([item for item in group if item is not None])
            if results:
                self._loop.call_soon_threadsafe(_deliver, results)
            if None in group:
                return

    def _next_group(self) -> list[_Waiting | None]:
        """Everything that waits, None at the end when the recorder closes; empty after a while."""
        group: list[_Waiting | None] = []
        with suppress(queue.Empty):
            group.append(self._queue.get(timeout=IDLE_SECONDS))
            while group[-1] is not None:
                group.append(self._queue.get_nowait())
        return group

    def _commit(self, group: list[_Waiting]) -> "list[tuple[_Waiting, int | ApplianceError]]":
        """Append all entries that can be built; each gets its number or what went wrong."""
        built: list[tuple[_Waiting, AnyRecord]] = []
        results: list[tuple[_Waiting, int | ApplianceError]] = []
        for item in group:
            try:
                built.append((item, item.entry()))
            except Exception as error:  # noqa: BLE001 - one bad entry must not stop the log
                results.append((item, _unwritable(error)))
        try:
            numbers = self._log.append([record for _, record in built])
            if self._log.checkpoint_due:
                self._log.checkpoint()
        except Exception as error:  # noqa: BLE001 - the thread must outlive any fault of the log
            told = error if isinstance(error, ApplianceError) else _unwritable(error)
            self._note(told)
            return results + [(item, told) for item, _ in built]
        self.failure = ""
        return results + [(item, number) for (item, _), number in zip(built, numbers, strict=True)]

    def _note(self, error: ApplianceError) -> None:
        if not self.failure:
            journal.failure("audit.unwritable", error)
        self.failure = str(error)


def _deliver(results: "list[tuple[_Waiting, int | ApplianceError]]") -> None:
    for waiting, result in results:
        if waiting.future.done():
            continue
        if isinstance(result, ApplianceError):
            waiting.future.set_exception(result)
        else:
            waiting.future.set_result(result)


def _unwritable(error: Exception) -> AuditUnwritable:
    journal.failure("audit.entry", error)
    return AuditUnwritable(
        f"a record could not be made: {error}", remedy="report this with the journal's lines"
    )
