"""Forms batches and runs them on the servable's lanes.

Knows: the queue of one servable and the threads that empty it. Rules: a request that finds a lane idle
is not held; a batch is what queued while the lanes were busy, and only a lane that comes back to a queue
waits for more, if a delay is set; what comes at once for a quick engine is one batch that the thread which
brought it runs itself; a thread is woken only when there is work for it and never by a timer
else; each caller gets exactly its own rows, once; outcomes are told outside of the lock. The requests of a
lane that hangs get an error, and if its call should end after all nobody hears of it. Leaves to others:
which lanes hang and what takes their place (`lanes`), what a batch computes (`runtime.servable`), calling
`check`.
"""

import threading
from collections.abc import Callable, Hashable, Sequence

from appliance import journal
from appliance.clock import Clock
from appliance.config import BatchingConfig
from appliance.errors import Draining
from runtime.batching.lane import Lane, Runner, tell
from runtime.batching.lanes import Lanes
from runtime.batching.learned import Learned
from runtime.batching.sizes import Sizes
from runtime.batching.ticket import NEVER, Outcome, Ticket, outcome_of
from runtime.batching.waiting import Leaving, Waiting
from runtime.servable import Inputs


class Batcher:
    """One queue and one thread a lane. Every method may be called from any thread."""

    def __init__(
        self, runners: Sequence[Runner], config: BatchingConfig, clock: Clock, *, name: str
    ) -> None:
        """Run batches on `runners`, at least one, which are the batcher's from now on; `name` is told."""
        self._clock = clock
        self._name = name
        self._sizes = Sizes(
            min(config.rows_max, max(runners[0].interface.batch_max, 1)),
            preferred=config.preferred_rows,
            buckets=config.bucket_rows,
        )
        self._waiting = Waiting(config, self._sizes)
        self._learned = Learned(inline_ns=config.inline_us_max * 1000)
        self._delay_ns = config.delay_us_max * 1000
        self._leave = self._cancel  # one bound method for all tickets
        self._lock = threading.Lock()
        self._closed = False
        call_ns_max = int(config.engine_seconds_max * 1e9)
        self._lanes = Lanes(runners, self._work, call_ns_max=call_ns_max, name=name)
        # They sleep until there is work; the last to fall asleep is woken.
        self._idle: list[Lane] = []
        self._holding: list[Lane] = []  # they wait for more, for as long as the delay lets them
        for lane in self._lanes.working:
            lane.thread.start()

    @property
    def queued(self) -> int:
        """Requests that wait now."""
        return self._waiting.requests

    @property
    def lanes(self) -> tuple[int, int]:
        """Lanes at work, and engine calls that hang."""
        return len(self._lanes.working), len(self._lanes.lost)

    @property
    def trouble(self) -> str:
        """What is wrong with the lanes, for whoever asks about health; "" when nothing is."""
        return self._lanes.trouble

    def submit(
        self,
        inputs: Inputs,
        rows: int,
        then: Callable[[Outcome], None],
        *,
        key: Hashable,
        client: str = "",
        priority: int = 0,
        deadline_ns: int | None = None,
        timeout_us: int = 0,
        gather: "Callable[[Batcher], None] | None" = None,
    ) -> Ticket:
        """Let `rows` rows be answered; `then` gets the outcome, once, on the thread that has it.

        Requests of equal `key` fit one engine call. priority: 1 is the highest, 0 the queue's default.
        deadline_ns: on the clock's monotonic_ns; nobody listens afterwards. timeout_us: of the wait, 0
        for the queue's own. With `gather` the caller brings requests in bursts: when a lane is idle and
        the engine quick enough for all that wait, it is told this batcher and calls `run_gathered` after
        the burst. Never blocks. Raises Overloaded when the queue is full or the time is or would be over,
        Draining after `close`, EngineError when every lane hangs; `then` is not called then.
        """
        assert rows > 0
        now = self._clock.monotonic_ns()
        deadline = NEVER if deadline_ns is None else deadline_ns
        ticket = Ticket(inputs, rows, then, key, client, now, deadline, self._leave)
        woken: Lane | None = None
        with self._lock:
            self._check_open()
            leaving = self._waiting.put(
                ticket,
                priority=priority,
                timeout_us=timeout_us,
                row_ns=self._learned.row_ns // len(self._lanes.working),
                now_ns=now,
                running_rows=0 if deadline_ns is None else self._lanes.fewest_rows,
            )
            if gather and self._idle and self._learned.quick(self._waiting.rows):
                ticket.gathered = True
            elif self._idle or self._holding:
                woken = self._sleeper()
        if ticket.gathered and gather:
            gather(self)
        if woken is not None:
            woken.wake()
        if leaving:
            _tell_others(leaving, ticket)
        return ticket

    def run_gathered(self) -> None:
        """Run what was gathered, on this thread; a lane that came first, or comes back, takes it as well."""
        while (lane := self._gathered()) is not None:
            self._run(lane, lane.batch)
            with self._lock:
                asleep = not (lane.lost or self._closed)
                if asleep:
                    self._idle.append(lane)
            if not asleep:
                lane.wake()

    def check(self) -> None:
        """Give up lanes that hang and sweep requests whose time is over; to be called about every second."""
        with self._lock:
            now = self._clock.monotonic_ns()
            leaving = self._waiting.expire(now)
            # Whoever gathered it hangs elsewhere.
            forgotten = self._roused() if self._waiting.requests else None
            replace = not self._closed or self.queued > 0
            hanging, fresh = self._lanes.give_up(now, self._start_again if replace else None)
            for lane in hanging:
                leaving += [(ticket, self._lanes.hang()) for ticket in lane.batch]
                lane.batch = []
            leaving += self._stranded()
        if forgotten is not None:
            forgotten.wake()
        for lane in fresh:
            lane.thread.start()
        for lane in hanging:
            journal.event("engine.hung", batcher=self._name, trouble=self.trouble)
            lane.over.set()
        for ticket, error in leaving:
            tell(ticket, error)

    def close(self) -> None:
        """Answer what is queued, end the threads and close the runners; blocks until all has been done.

        A lane that hangs is given up as ever, and closes its runner when its call ends.
        """
        with self._lock:
            self._closed = True
            sleepers = self._idle + self._holding
            self._idle, self._holding = [], []
        for lane in sleepers:
            lane.wake()
        while working := self._working():
            if not working.over.wait(self._lanes.call_ns_max / 1e9):
                self.check()

    def _working(self) -> Lane | None:
        with self._lock:
            return next((lane for lane in self._lanes.working if not lane.over.is_set()), None)

    def _check_open(self) -> None:
        if self._closed:
            raise _draining()
        if not self._lanes.working:
            raise self._lanes.hang()

    def _stranded(self) -> Leaving:
        """What waits though no lane is left. The caller holds the lock."""
        if not all(lane.ended for lane in self._lanes.working):
            return []
        return [(ticket, self._lanes.hang()) for ticket in self._waiting.clear()]

    def _cancel(self, ticket: Ticket) -> bool:
        with self._lock:
            return self._waiting.leave(ticket)

    def _sleeper(self) -> Lane | None:
        """A lane to wake for what has just been queued. The caller holds the lock."""
        if (idle := self._roused()) is not None:
            return idle
        if self._holding and self._waiting.rows >= self._sizes.enough:
            return self._holding.pop()
        return None

    def _roused(self) -> Lane | None:
        """An idle lane that would take a batch, idle no more. The caller holds the lock."""
        for lane in reversed(self._idle):
            if not self._lanes.defers(lane):
                self._idle.remove(lane)
                return lane
        return None

    def _start_again(self, lane: Lane) -> None:
        """The thread of a lane that replaces one that hangs; its runner is still the other's."""
        try:
            lane.runner = lane.runner.lane()
        except Exception as error:  # noqa: BLE001 - no lane is no reason to end the others
            journal.failure("engine.unreplaced", error, batcher=self._name)
            with self._lock:
                self._lanes.working.remove(lane)
                leaving = self._stranded()
            lane.over.set()
            for ticket, told in leaving:
                tell(ticket, told)
        else:
            self._work(lane)

    def _work(self, lane: Lane) -> None:
        """The life of a lane's thread."""
        while self._work_once(lane):
            pass
        try:
            lane.runner.close()
        except Exception as error:  # noqa: BLE001 - a library's fault must not keep `close` waiting
            journal.failure("engine.unclosed", error, batcher=self._name)
        lane.over.set()

    def _work_once(self, lane: Lane) -> bool:
        """Wait for a batch and run it; nothing of it is kept while the lane sleeps again."""
        batch = self._next(lane)
        if batch:
            self._run(lane, batch)
        return bool(batch)

    def _next(self, lane: Lane) -> list[Ticket]:
        """Wait for work and take a batch; empty when there will be none."""
        while True:
            with self._lock:
                if lane.lost and not self._lanes.came_back(lane, wanted=not self._closed):
                    return []
                now = self._clock.monotonic_ns()
                leaving = self._waiting.expire(now)
                batch: list[Ticket] = []
                other: Lane | None = None
                hold_ns = 0
                if self._lanes.defers(lane):
                    # Its device may have gone after it was woken for what waits.
                    other = self._sleeper() if self._waiting.requests else None
                elif not (hold_ns := self._hold_ns(lane, now)):
                    batch = lane.batch = self._waiting.take(1 + self._lanes.free_beside(lane))
                    lane.started_ns = now
                ended = lane.ended = self._closed and not batch
                if not batch and not ended:
                    (self._holding if hold_ns else self._idle).append(lane)
            if other is not None:
                other.wake()
            for ticket, error in leaving:
                tell(ticket, error)
            if batch or ended:
                return batch
            self._sleep(lane, hold_ns)

    def _hold_ns(self, lane: Lane, now: int) -> int:
        """How long a lane waits for more rows; 0 not at all."""
        if not self._delay_ns or self._closed:
            return 0
        if not all(self._lanes.defers(idle) for idle in self._idle):
            return 0
        found = self._waiting.next()
        if found is None or found[1] >= self._sizes.enough:
            return 0
        came_ns = found[0].queued_ns
        return max(came_ns + self._delay_ns - now, 0) if came_ns < lane.ended_ns else 0

    def _sleep(self, lane: Lane, hold_ns: int) -> None:
        if not hold_ns:
            lane.sleep()
        elif not lane.sleep(hold_ns / 1e9):
            with self._lock:
                woken = lane not in self._holding
                if not woken:
                    self._holding.remove(lane)
            if woken:
                lane.sleep()  # somebody has just taken it out and is about to wake it

    def _gathered(self) -> Lane | None:
        """An idle lane with what was gathered as its batch; None when nothing is left for this thread."""
        lane: Lane | None = None
        with self._lock:
            now = self._clock.monotonic_ns()
            leaving = self._waiting.expire(now)
            if self._waiting.requests and (lane := self._roused()) is not None:
                lane.batch, lane.started_ns = self._waiting.take(1), now
        for ticket, error in leaving:
            tell(ticket, error)
        return lane

    def _run(self, lane: Lane, batch: list[Ticket]) -> None:
        started, rows = lane.started_ns, sum(ticket.rows for ticket in batch)
        answers = lane.answers(batch, self._sizes.padded(rows))
        lane.ended_ns = self._clock.monotonic_ns()
        took = lane.ended_ns - started
        with self._lock:
            if lane.lost:
                return  # they were told
            lane.batch = []
            self._learned.add(took, rows=rows)
        for ticket, answer in zip(batch, answers, strict=True):
            tell(ticket, outcome_of(answer, started - ticket.queued_ns, took, rows))


def _draining() -> Draining:
    return Draining("GRPC server is shutting down", remedy="try again later")


def _tell_others(leaving: Leaving, newcomer: Ticket) -> None:
    """Tell those that left for `newcomer`; raises its own error when it is among them."""
    own = None
    for ticket, error in leaving:
        if ticket is newcomer:
            own = error
        else:
            tell(ticket, error)
    if own is not None:
        raise own
