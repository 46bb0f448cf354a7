"""Everything that waits for one servable. Pure: no thread, no clock, no engine.

Knows: lines by priority, their bounds and what becomes of a request whose time is over. Rules: a higher
priority is always first; behind each line stands one of those that are late and may be; what is over is
swept before a batch is taken, so it never reaches the engine; a full queue refuses, unless somebody waits
in it with less right: of a lower priority, late, or the newest of a client who has two more there than the
newcomer. Leaves to others: the turn within a line (`line`), how many rows (`sizes`), threads (`batcher`).
"""

from collections.abc import Hashable
from typing import TypeAlias

from appliance.config import BatchingConfig, QueueConfig
from appliance.errors import ApplianceError, Overloaded
from runtime.batching.line import Line
from runtime.batching.sizes import Sizes
from runtime.batching.ticket import NEVER, Ticket

Leaving: TypeAlias = list[tuple[Ticket, ApplianceError]]  # must still be told, outside of any lock


class Waiting:
    """The queue of one servable. Times are in nanoseconds on one monotonic clock."""

    def __init__(self, config: BatchingConfig, sizes: Sizes) -> None:
        self._sizes = sizes
        self._requests_max = config.queue_requests_max
        self._policies = config.queues or (QueueConfig(),)
        lowest = len(self._policies)
        self._priority_default = min(config.priority_default or lowest, lowest)
        # Of priority p, from 1: those in time at 2 * (p - 1), those that are late behind them.
        self._lines = tuple(Line() for _ in range(2 * len(self._policies)))
        self._rows_of: dict[Hashable, int] = {}
        self._due_ns = NEVER  # nothing is over before
        self._numbered = 0
        self.requests = self.rows = 0

    def put(
        self,
        ticket: Ticket,
        *,
        priority: int,
        timeout_us: int,
        row_ns: int,
        now_ns: int,
        running_rows: int = 0,
    ) -> Leaving:
        """Let a request wait; return those that leave for it, which may be this one.

        priority: 1 is the highest, any other than there are counts as the default. timeout_us: of its
        wait, 0 for the queue's own. row_ns: what a waiting row costs now, 0 when that is not known;
        running_rows: that are being computed where it is soonest done. One that would wait beyond its
        timeout, or be answered beyond its deadline, is refused at once.
        """
        if not 1 <= priority <= len(self._policies):
            priority = self._priority_default
        policy, place = self._policies[priority - 1], 2 * (priority - 1)
        answer_by_ns = ticket.deadline_ns
        _set_times(ticket, policy, timeout_us)
        if ticket.deadline_ns <= now_ns:
            return [(ticket, expired())]
        if row_ns and ticket.deadline_ns < NEVER and (self.requests or running_rows):
            wait_ns = row_ns * self._rows_ahead(ticket, place)
            answer_ns = (wait_ns + row_ns * (running_rows + ticket.rows)) * 5 // 4
            if now_ns + wait_ns > ticket.deadline_ns or now_ns + answer_ns > answer_by_ns:
                return [(ticket, _hopeless(answer_ns))]
        leaving: Leaving = []
        if self._is_full(policy, place):
            leaving = self.expire(now_ns)
            if self._is_full(policy, place):
                leaving.append((self._least_right(ticket, place), _full()))
                if leaving[-1][0] is ticket:
                    return leaving
                self._remove(leaving[-1][0])
        self._numbered += 1
        ticket.number, ticket.line = self._numbered, place
        self._lines[place].put(ticket)
        self._due_ns = min(self._due_ns, ticket.due_ns)
        self.requests += 1
        self.rows += ticket.rows
        self._rows_of[ticket.key] = self._rows_of.get(ticket.key, 0) + ticket.rows
        return leaving

    def leave(self, ticket: Ticket) -> bool:
        """Take a request out if it still waits, and say whether it did."""
        if ticket.line < 0:
            return False
        self._remove(ticket)
        return True

    def expire(self, now_ns: int) -> Leaving:
        """Take out what is over; what may be late goes to the line behind its own."""
        if now_ns < self._due_ns:
            return []
        over = [ticket for line in self._lines for ticket in line if ticket.due_ns <= now_ns]
        leaving: Leaving = []
        for ticket in over:
            if ticket.deadline_ns <= now_ns:
                self._remove(ticket)
                leaving.append((ticket, expired()))
            else:
                self._lines[ticket.line].remove(ticket)
                ticket.line, ticket.due_ns = ticket.line + 1, ticket.deadline_ns
                self._lines[ticket.line].put(ticket)
        self._due_ns = min((t.due_ns for line in self._lines for t in line), default=NEVER)
        return leaving

    def clear(self) -> list[Ticket]:
        """Take everything out."""
        waiting = [ticket for line in self._lines for ticket in line]
        for ticket in waiting:
            self._remove(ticket)
        return waiting

    def next(self) -> tuple[Ticket, int] | None:
        """The request that the next batch begins with, and how many rows of its key wait."""
        for line in self._lines:
            if line.requests:
                ticket = line.next()
                return ticket, self._rows_of[ticket.key]
        return None

    def take(self, lanes: int) -> list[Ticket]:
        """Take the batch for one of `lanes` free lanes; empty when nothing waits. `expire` comes first.

        All have one key. The first may have more rows than a batch and is alone then.
        """
        found = self.next()
        if found is None:
            return []
        first, fitting = found
        self._lines[first.line].take_one(first)
        batch = [first]
        room = self._sizes.limit(fitting, self.rows, lanes) - first.rows
        for line in self._lines[first.line :]:
            if room <= 0:
                break
            if line.requests:
                more = line.take(first.key, room)
                room -= sum(ticket.rows for ticket in more)
                batch += more
        for ticket in batch:
            ticket.line = -1
        self._count_out(first.key, len(batch), sum(ticket.rows for ticket in batch))
        return batch

    def _is_full(self, policy: QueueConfig, place: int) -> bool:
        if self.requests >= self._requests_max:
            return True
        own = self._lines[place].requests + self._lines[place + 1].requests
        return 0 < policy.requests_max <= own

    def _least_right(self, newcomer: Ticket, place: int) -> Ticket:
        """Who has to leave a full queue: somebody who waits in it, or the newcomer."""
        everybody = self.requests >= self._requests_max
        lines = self._lines[place:] if everybody else self._lines[place : place + 2]
        for line in reversed(lines[1:]):
            if (client := line.greediest()) is not None:
                return client.newest()
        client = lines[0].greediest()
        if client and client.requests > lines[0].requests_of(newcomer.client) + 1:
            return client.newest()
        return newcomer

    def _rows_ahead(self, ticket: Ticket, place: int) -> int:
        before = sum(line.rows for line in self._lines[:place])
        return before + self._lines[place].ahead(ticket.client, ticket.rows)

    def _remove(self, ticket: Ticket) -> None:
        self._lines[ticket.line].remove(ticket)
        ticket.line = -1
        self._count_out(ticket.key, 1, ticket.rows)

    def _count_out(self, key: Hashable, requests: int, rows: int) -> None:
        self.requests -= requests
        self.rows -= rows
        left = self._rows_of[key] - rows
        if left:
            self._rows_of[key] = left
        else:
            del self._rows_of[key]


def _set_times(ticket: Ticket, policy: QueueConfig, timeout_us: int) -> None:
    """Say when the ticket's time is over. A request may shorten its queue's own timeout only."""
    own = policy.timeout_us_default
    asked = timeout_us if policy.timeout_override else 0
    timeout = min(own, asked) if own and asked else own or asked
    until = ticket.queued_ns + timeout * 1000 if timeout else NEVER
    if policy.timeout_action == "reject":
        ticket.deadline_ns = min(ticket.deadline_ns, until)
    ticket.due_ns = min(ticket.deadline_ns, until)


def expired() -> Overloaded:
    """The refusal of a request whose time is over, in the words of Triton."""
    return Overloaded("Request timeout expired", remedy="allow more time or send fewer at a time")


def _hopeless(answer_ns: int) -> Overloaded:
    return Overloaded(
        f"Request timeout would expire: an answer takes about {answer_ns // 1_000_000} ms",
        remedy="allow more time or send fewer at a time",
    )


def _full() -> Overloaded:
    return Overloaded("Exceeds maximum queue size", remedy="send fewer at a time")
