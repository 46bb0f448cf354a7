"""Sends requests to a batcher at their times and looks at what becomes of them.

Knows: the open loop: a request is due when it is due, however far behind the answers are, and its time
counts from then (a caller that waits for its answer before it sends again would hide every queue). Rules:
one thread sends, as one thread receives in the server, and runs what was due at once itself under the
same condition. Leaves to others: which requests, which batcher.
"""

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import NamedTuple

from appliance.clock import Clock
from appliance.errors import ApplianceError
from runtime.batching import Batcher, Outcome, Served, Ticket
from runtime.servable import Inputs
from runtime.tuning.messages import Arrivals, Measured

LEAD_NS = 2_000_000  # from the start to the first request
TELL_EACH = 50
BURST_MAX = 64  # as the server's fast lane takes at once
CHECK_SECONDS = 1.0


class Sent(NamedTuple):
    """The inputs of a request of so many rows, and what it shares a batch by."""

    inputs: Inputs
    rows: int
    key: Hashable


class Drive:
    """One run of requests through one batcher, given up once more than `late_max` took longer than the goal."""

    def __init__(self, batcher: Batcher, clock: Clock, *, goal_ns: int, late_max: int) -> None:
        self._batcher, self._clock, self._goal_ns = batcher, clock, goal_ns
        self._late_max = late_max
        self._lock = threading.Condition()
        self._flying = self._late = self._came = 0
        self._gathered: set[Batcher] = set()
        self._took_ns: list[int] = []
        self._rows = 0
        self._batches = 0.0
        self._ended_ns = 0

    def run(
        self,
        arrivals: Arrivals,
        requests: Mapping[int, Sent],
        reached: Callable[[int], None] = lambda _requests: None,
    ) -> Measured:
        """Send `arrivals`, at least one, and say how it went; `reached` is told now and then.

        `requests` has one for each number of rows that arrives.
        """
        cpu_ns = time.process_time_ns()
        start = self._clock.monotonic_ns() + LEAD_NS
        tickets: list[Ticket] = []
        for at_ns, rows in zip(arrivals.at_ns, arrivals.rows, strict=True):
            if self._clock.monotonic_ns() < start + at_ns or self._came % BURST_MAX == 0:
                self._settle()
            self._wait_until(start + at_ns)
            if self._hopeless:
                break
            self._send(requests[rows], start + at_ns, tickets)
            if self._came % TELL_EACH == 0:
                reached(self._came)
        abandoned = self._hopeless
        self._finish(tickets)
        cpu_ns = time.process_time_ns() - cpu_ns
        return self._measured(start + arrivals.at_ns[0], cpu_ns, abandoned=abandoned)

    @property
    def _hopeless(self) -> bool:
        return self._late > self._late_max

    def _wait_until(self, due_ns: int) -> None:
        left = due_ns - self._clock.monotonic_ns()
        if left > 0:
            time.sleep(left / 1e9)

    def _send(self, sent: Sent, due_ns: int, tickets: list[Ticket]) -> None:
        with self._lock:
            self._came += 1
            self._flying += 1
        then = partial(self._told, sent.rows, due_ns)
        try:
            ticket = self._batcher.submit(
                sent.inputs, sent.rows, then, key=sent.key, gather=self._gathered.add
            )
        except ApplianceError as error:
            then(error)
        else:
            tickets.append(ticket)

    def _settle(self) -> None:
        while self._gathered:
            self._gathered.pop().run_gathered()

    def _told(self, rows: int, due_ns: int, outcome: Outcome) -> None:
        now = self._clock.monotonic_ns()
        with self._lock:
            if isinstance(outcome, Served):
                self._took_ns.append(now - due_ns)
                self._rows += rows
                self._batches += rows / outcome.batch_rows
                self._ended_ns = now
            self._late += not isinstance(outcome, Served) or now - due_ns > self._goal_ns
            self._left()

    def _left(self) -> None:
        self._flying -= 1
        if not self._flying:
            self._lock.notify_all()

    def _finish(self, tickets: list[Ticket]) -> None:
        """Wait for what is running; of a run that is hopeless nothing that waits is computed."""
        self._settle()
        if self._hopeless:
            for ticket in tickets:
                if ticket.cancel():
                    with self._lock:
                        self._late += 1
                        self._left()
        while True:
            with self._lock:
                if self._lock.wait_for(lambda: not self._flying, CHECK_SECONDS):
                    return
            self._batcher.check()

    def _measured(self, start_ns: int, cpu_ns: int, *, abandoned: bool) -> Measured:
        answered = sorted(self._took_ns)
        seconds = max(self._ended_ns - start_ns, 1) / 1e9
        return Measured(
            requests=self._came,
            late=self._late,
            abandoned=abandoned,
            throughput=len(answered) / seconds if answered else 0.0,
            p50_ms=self._quantile_ms(answered, 50),
            p99_ms=self._quantile_ms(answered, 99),
            batch_rows=self._rows / self._batches if self._batches else 0.0,
            cpu_us_row=cpu_ns / 1e3 / self._rows if self._rows else 0.0,
        )

    def _quantile_ms(self, answered: list[int], percent: int) -> float | None:
        """The smallest time that `percent` of all that came do not exceed; None where they got no answer."""
        place = -(-self._came * percent // 100) - 1
        return answered[place] / 1e6 if 0 <= place < len(answered) else None
