"""The one thread that appends to the audit log.

Knows: the queue in front of the log. Rules: what follows a record runs only when it is durable, on a
thread of the recorder's own; everything that queued during one commit shares the next; a log that fails fails
those who wait, and is tried again for the next. Leaves to others: what a record says.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Protocol, TypeAlias

from appliance import journal
from appliance.audit.kinds import AnyRecord, Stop
from appliance.errors import ApplianceError, AuditUnwritable, Overloaded
from runtime.affinity import share_processor
from runtime.metrics import Commits
from runtime.omissions import Omissions

Entry: TypeAlias = Callable[[], AnyRecord]
# What follows: gets the record's sequence number, or what kept it from being written.
Then: TypeAlias = Callable[[int | ApplianceError], None]
Result: TypeAlias = tuple[Then, int | ApplianceError]
Waiting: TypeAlias = tuple[Entry, Then, str]
# Instead of a number: the record has none, being counted in a summary, or none yet, since nobody waited.
NO_RECORD = -1
# How soon an idle log notices that a checkpoint is due.
IDLE_SECONDS = 1.0
# How long records that nobody waits for are gathered: a commit costs the same for one and for hundreds.
GATHER_SECONDS = 0.005


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


class Recorder:
    """A queue and its thread; `append` may be called on any thread."""

    def __init__(
        self,
        log: Log,
        *,
        queue_records_max: int,
        omissions: Omissions | None = None,
        tend: Callable[[], None] | None = None,
    ) -> None:
        """`omissions` says what is not written by itself; `tend` is called about once a second, between commits."""
        self._log = log
        self._omissions, self._tend = omissions, tend
        self._tended = monotonic()
        self._queue_max = queue_records_max
        self._waiting: deque[Waiting] = deque()
        # Waking a thread costs more than a commit's share, so the bell is rung for a sleeping one only.
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._asleep = self._gathering = False
        self._closed = self._sign_asked = False
        self.failure = ""
        self.commits = Commits()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._committed: SimpleQueue[list[Result] | None] = SimpleQueue()
        self._telling = threading.Thread(target=self._work_on, name="recorder telling", daemon=True)
        self._telling.start()
        self._thread.start()

    @property
    def records(self) -> int:
        """Records that are durable."""
        return self._log.size

    @property
    def queued(self) -> int:
        """Records that wait for the next commit."""
        return len(self._waiting)

    def append(self, entry: Entry, then: Then, *, request_id: str = "") -> None:
        """Have the record that `entry` builds made durable, then call `then`; never waits.

        Both run on threads of the recorder's own, so that hashing holds up nobody; `then` gets the
        sequence number, or AuditUnwritable when the log cannot take the record, and must not block.
        `request_id` is for the journal, should the record be impossible to build. Raises Overloaded when
        the queue is full.
        """
        if len(self._waiting) >= self._queue_max:
            raise Overloaded(
                "the audit log is behind: too many records wait",
                remedy="send fewer at a time, or give the state directory a faster disk",
            )
        self._waiting.append((entry, then, request_id))
        self._ring(then)

    async def appended(self, entry: Entry) -> int:
        """Make the record that `entry` builds durable and return its sequence number.

        For the event loop. Raises Overloaded and AuditUnwritable as `append` tells them.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()

        def told(result: int | ApplianceError) -> None:
            loop.call_soon_threadsafe(_settle, future, result)

        self.append(entry, told)
        return await future

    def sign_soon(self) -> None:
        """Have a checkpoint signed with the next commit, or within a second; never waits."""
        self._sign_asked = True
        if self._asleep:
            self._asleep = False
            self._bell.put(None)

    def close(self) -> None:
        """Write what is queued, then end the thread; blocks until it has ended."""
        self._closed = True
        self._bell.put(None)
        self._thread.join()
        self._telling.join()

    def _ring(self, then: Then) -> None:
        if self._asleep or (self._gathering and then is not unheard):
            self._asleep = self._gathering = False
            self._bell.put(None)

    def _work(self) -> None:
        share_processor()
        while self._work_once():
            pass
        self._committed.put(None)

    def _work_once(self) -> bool:
        """Commit what waits; False when all is written. Nothing of it is kept while the thread sleeps again."""
        closing = self._closed  # read before the queue: nothing queued before it is lost
        group = self._next_group()
        results = self._commit(group, last=closing and not group)
        if self._waiting:
            # Under load the next commit need not wait until these have been told.
            self._committed.put(results)
        else:
            _tell(results)
        if self._tend is not None and monotonic() - self._tended >= IDLE_SECONDS:
            self._tended = monotonic()
            try:
                self._tend()
            except Exception as error:  # noqa: BLE001 - the thread must outlive any fault
                journal.failure("audit.untended", error)
        return not closing or bool(group)

    def _work_on(self) -> None:
        """The life of the second thread, which tells results while the first commits."""
        share_processor()
        while (results := self._committed.get()) is not None:
            _tell(results)
            del results  # not kept while the thread sleeps

    def _next_group(self) -> list[Waiting]:
        """Everything that waits; empty after a while without anything."""
        self._asleep = True  # said before the queue is looked at, so that no append goes unheard
        if not self._waiting and not self._closed:
            self._sleep(IDLE_SECONDS)
        self._asleep = False
        self._gathering = True
        if not self._closed and all(then is unheard for _, then, _ in list(self._waiting)):
            self._sleep(GATHER_SECONDS)
        self._gathering = False
        group = []
        while self._waiting:
            group.append(self._waiting.popleft())
        return group

    def _sleep(self, seconds: float) -> None:
        with suppress(Empty):
            self._bell.get(timeout=seconds)

    def _commit(self, group: list[Waiting], *, last: bool) -> list[Result]:
        """Append all entries that can be built; each gets its number or what went wrong."""
        built: list[tuple[Then, AnyRecord]] = []
        results: list[Result] = []
        omissions = self._omissions
        for entry, then, request_id in group:
            try:
                record = entry()
            except Exception as error:  # noqa: BLE001 - one bad entry must not stop the log
                results.append((then, _unwritable(error, request_id=request_id)))
                continue
            if omissions is None or omissions.keep(record):
                built.append((then, record))
            else:
                results.append((then, NO_RECORD))
        # A stop is the last record of its run: what is counted so far stands before it.
        last = last or any(isinstance(record, Stop) for _, record in built)
        due = () if omissions is None else omissions.due(last=last)
        try:
            numbers = self._append([*due, *(record for _, record in built)])
        except Exception as error:  # noqa: BLE001 - the thread must outlive any fault of the log
            told = error if isinstance(error, ApplianceError) else _unwritable(error)
            self._note(told)
            return results + [(then, self._missed(record, told)) for then, record in built]
        if omissions is not None and due:
            omissions.written()
        self._sign(wrote=bool(numbers))
        own = numbers[len(due) :]
        return results + [(then, number) for (then, _), number in zip(built, own, strict=True)]

    def _sign(self, *, wrote: bool) -> None:
        """Sign a checkpoint if one is due; what was appended stays durable when that fails, and is told so.

        What was wrong is over once something was written: an idle log says nothing of its disk.
        """
        try:
            if self._log.checkpoint_due or self._sign_asked:
                self._sign_asked = False
                self._log.checkpoint()
                wrote = True
        except Exception as error:  # noqa: BLE001 - the thread must outlive any fault of the log
            self._note(error if isinstance(error, ApplianceError) else _unwritable(error))
        else:
            if wrote:
                self.failure = ""

    def _missed(self, record: AnyRecord, error: ApplianceError) -> int | ApplianceError:
        """What whoever waits for `record` is told: the error, unless answers go on without a record."""
        if self._omissions is not None and self._omissions.missed(record, str(error)):
            return NO_RECORD
        return error

    def _append(self, records: Sequence[AnyRecord]) -> Sequence[int]:
        """Append `records`, of which there may be none, and count the commit."""
        if not records:
            return self._log.append(records)
        durable = 0
        self.commits.begun()
        try:
            numbers = self._log.append(records)
            durable = len(numbers)
        finally:
            self.commits.ended(durable)
        return numbers

    def _note(self, error: ApplianceError) -> None:
        if not self.failure:
            journal.failure("audit.unwritable", error)
        self.failure = str(error)


def _tell(results: list[Result]) -> None:
    for then, result in results:
        try:
            then(result)
        except Exception as error:  # noqa: BLE001 - the thread must outlive any fault
            journal.failure("audit.entry", error)


def _settle(future: "asyncio.Future[int]", result: int | ApplianceError) -> None:
    if future.done():
        return
    if isinstance(result, ApplianceError):
        future.set_exception(result)
    else:
        future.set_result(result)


def _unwritable(error: Exception, **about: str) -> AuditUnwritable:
    journal.failure("audit.entry", error, **about)
    return AuditUnwritable(
        f"a record could not be made: {error}", remedy="report this with the journal's lines"
    )


def unheard(result: int | ApplianceError) -> None:
    """What follows a record that nobody waits for: a log that takes none tells it in `failure`."""
