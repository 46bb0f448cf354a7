"""Sequences: requests that share a state, one after another.

Knows: the live sequences of one version, their states, and the requests that wait for the one before them.
Rules: one request of a sequence computes at a time, in the order of arrival; each gets the states that the one
before left; when one that had its place fails, its sequence ends there, so that no answer comes of a state
that lacks a request; nothing waits here. The texts are those of Triton, which clients match on. Leaves to
others: batches (`runtime.batching`: many sequences share one), which version (`runtime.swap`).
"""

import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import Protocol

import msgspec

from appliance.clock import Clock
from appliance.config import SequencesConfig
from appliance.errors import ApplianceError, Overloaded, RequestError, SequenceBroken
from runtime.batching import Batcher, Outcome
from runtime.batching.waiting import expired
from runtime.codec import Sequence
from runtime.places import Asked, Live, Name, Turn
from runtime.router import Route
from runtime.servable import Inputs

ID_CHARACTERS_MAX = 128


class Version(Protocol):
    """What a sequence needs of the version that began it."""

    def hold_again(self) -> bool:
        """Count one more user of a version that has one already."""

    def release(self) -> None:
        """Count one user less."""


class Sequences:
    """The sequences of one version of `model`; every method may be called from any thread."""

    def __init__(
        self,
        batcher: Batcher,
        config: SequencesConfig,
        clock: Clock,
        *,
        model: str,
        state_bytes: int,
    ) -> None:
        """The states of one sequence have `state_bytes` bytes."""
        self._batcher, self._clock, self._model = batcher, clock, model
        self._waiting_max = config.waiting_requests_max
        self._live_max = min(config.sequences_max, config.state_bytes_max // max(state_bytes, 1))
        self._idle_ns = int(config.idle_seconds * 1e9)
        self._lock = threading.Lock()
        self._live: dict[Name, Live] = {}

    @property
    def count(self) -> int:
        """Sequences that are kept now."""
        return len(self._live)

    def route(self, name: Name) -> Route | None:
        """How the sequence came to this version, None when it takes no further request."""
        with self._lock:
            live = self._live.get(name)
            return None if live is None or not self._goes_on(live) else live.route

    def submit(
        self,
        inputs: Inputs,
        rows: int,
        then: Callable[[Outcome], None],
        *,
        sequence: Sequence | None,
        name: str,
        version: Version,
        route: Route,
        key: Hashable,
        client: str = "",
        priority: int = 0,
        deadline_ns: int | None = None,
        timeout_us: int = 0,
        gather: Callable[[Batcher], None] | None = None,
    ) -> Turn:
        """Let the next request of the caller `name`'s `sequence` be answered; the rest as in `Batcher.submit`.

        The caller holds `version`; `route` led here. Raises also RequestError when the request names no
        sequence, does not begin one that is not there, or has several rows, and Overloaded when too many
        are kept or wait; then nothing has changed.
        """
        sequence = self._checked(rows, sequence)
        asked = Asked(inputs, rows, key, client, priority, deadline_ns, timeout_us)
        turn = Turn(asked, then, start=sequence.start, leave=self._cancel)
        now = self._clock.monotonic_ns()
        with self._lock:
            live = self._placed((name, sequence.id), sequence, version, route, now)
            before = live.open, live.steps, live.route
            turn.place(live, route, now)
            live.open = not sequence.end
            first = live.running is None
            if first:
                live.running = turn
            else:
                live.waiting.append(turn)
        if first:
            try:
                self._compute(live, turn, gather)
            except BaseException:
                self._refused(live, before)
                raise
        return turn

    def leave(self, name: Name) -> None:
        """Take no further request of a sequence: it begins anew elsewhere."""
        with self._lock:
            live = self._live.get(name)
            if live is not None:
                live.shut()
            release = self._let_go(live)
        release()

    def end(self, name: Name) -> None:
        """End a sequence whose states cannot be relied on: what waits in it is refused, up to a new beginning."""
        broken: list[Turn] = []
        with self._lock:
            live = self._live.get(name)
            if live is not None:
                broken = live.cut()
            release = self._let_go(live)
        self._tell_broken(broken)
        release()

    def check(self) -> None:
        """Forget idle sequences; to be called about every second."""
        with self._lock:
            idle = [live for live in self._live.values() if self._is_idle(live)]
            for live in idle:
                live.shut()
            releases = [self._let_go(live) for live in idle]
        for release in releases:
            release()

    def forget(self) -> None:
        """Forget all; what computes is still answered, what waits for it is refused."""
        refused: list[Turn] = []
        with self._lock:
            lives = list(self._live.values())
            for live in lives:
                refused += live.waiting
                live.waiting.clear()
                live.shut()
            releases = [self._let_go(live) for live in lives]
        for release in releases:
            release()
        self._tell_broken(refused)

    def _checked(self, rows: int, sequence: Sequence | None) -> Sequence:
        if sequence is None:
            raise RequestError(
                f"inference request to model '{self._model}' must specify a non-zero or non-empty "
                "correlation ID",
                remedy="send sequence_id, and sequence_start with a sequence's first request",
            )
        if len(f"{sequence.id}") > ID_CHARACTERS_MAX:
            raise RequestError(
                f"the sequence id is longer than {ID_CHARACTERS_MAX} characters",
                remedy="send a shorter sequence_id",
            )
        if rows > 1:
            raise RequestError(
                f"inference request to model '{self._model}' must specify batch-size 1 due to "
                "requirements of sequence batcher",
                remedy="send each row in the request of a sequence of its own",
            )
        return sequence

    def _placed(
        self, name: Name, sequence: Sequence, version: Version, route: Route, now: int
    ) -> Live:
        """The sequence that takes the request. The caller holds the lock."""
        live = self._live.get(name)
        if not sequence.start and (live is None or not self._goes_on(live)):
            raise RequestError(
                f"inference request for sequence {sequence.id} to model '{self._model}' must specify "
                "the START flag on the first request of the sequence",
                remedy="begin it again: a sequence is forgotten when it ends, when a request of it "
                f"fails, after {self._idle_ns / 1e9:g} s without one, when its version is closed "
                "and when the server starts again",
            )
        if live is not None:
            if len(live.waiting) >= self._waiting_max:
                raise Overloaded(
                    f"Exceeds maximum queue size: {len(live.waiting)} requests of sequence "
                    f"{sequence.id} wait",
                    remedy="wait for answers, or raise [sequences] waiting_requests_max",
                )
            return live
        if len(self._live) >= self._live_max:
            raise Overloaded(
                f"model '{self._model}' keeps {len(self._live)} sequences, and no more",
                remedy="end sequences with sequence_end, or raise [sequences] sequences_max and "
                "state_bytes_max, or lower idle_seconds",
            )
        held = version.hold_again()
        assert held, "whoever submits holds the version"
        live = self._live[name] = Live(name=name, route=route, release=version.release, used_ns=now)
        return live

    def _compute(
        self, live: Live, turn: Turn, gather: Callable[[Batcher], None] | None = None
    ) -> None:
        """Give a request with its states to the batcher; raises as that does."""
        asked, timeout_us = turn.asked, turn.asked.timeout_us
        if timeout_us:
            timeout_us -= (self._clock.monotonic_ns() - turn.placed_ns) // 1000
            if timeout_us <= 0:
                raise expired()
        ticket = self._batcher.submit(
            asked.inputs if turn.start else {**asked.inputs, **live.states},
            asked.rows,
            partial(self._told, live, turn),
            key=asked.key,
            client=asked.client,
            priority=asked.priority,
            deadline_ns=asked.deadline_ns,
            timeout_us=timeout_us,
            gather=gather,
        )
        turn.computing(ticket)

    def _told(self, live: Live, turn: Turn, outcome: Outcome) -> None:
        """The batcher's outcome: tell it, then let the next request compute."""
        if isinstance(outcome, ApplianceError):
            self._ended(live, turn, outcome)
        else:
            live.states = outcome.answer.states
            self._ended(live, turn, msgspec.structs.replace(outcome, step=turn.step))

    def _ended(self, live: Live, turn: Turn, outcome: Outcome | None) -> None:
        """A request is answered, has failed, or its caller has left (None): the next one computes."""
        following = self._taken_out(live, turn, outcome)
        while following is not None:
            try:
                self._compute(live, following)
            except ApplianceError as error:
                following = self._taken_out(live, following, error)
            else:
                return

    def _taken_out(self, live: Live, turn: Turn, outcome: Outcome | None) -> Turn | None:
        """Tell what became of the request that computed; the one that computes next, if any."""
        broken: list[Turn] = []
        with self._lock:
            if outcome is None or isinstance(outcome, ApplianceError):
                broken = live.cut()
            live.used_ns = self._clock.monotonic_ns()
            following = live.running = live.waiting.popleft() if live.waiting else None
            release = self._let_go(live)
        turn.tell(outcome)
        self._tell_broken(broken)
        release()
        return following

    def _refused(self, live: Live, before: tuple[bool, int, Route]) -> None:
        """The batcher did not take a request at its coming: as if it had not come, unless others wait for it."""
        with self._lock:
            running = live.running if live.waiting else None
            if running is None:
                was_open, live.steps, live.route = before
                live.open, live.running = was_open and not live.closed, None
            release = self._let_go(live)
        release()
        if running is not None:
            self._ended(live, running, None)

    def _cancel(self, turn: Turn) -> bool:
        """Whether the request will never be answered; its sequence ends there, as it does for a failure."""
        live, ticket = turn.live, turn.ticket
        if live is None:
            return False  # it has ended
        if ticket is not None:
            cancelled = ticket.cancel()
            if cancelled:
                self._ended(live, turn, None)
            return cancelled
        with self._lock:
            if turn not in live.waiting:
                return False
            broken = live.cut(turn)
        turn.tell(None)
        self._tell_broken(broken)
        return True

    def _tell_broken(self, turns: list[Turn]) -> None:
        for turn in turns:
            turn.tell(
                SequenceBroken(
                    f"the sequence of this request to model '{self._model}' has ended before it: a "
                    "request ahead of it failed, or its version was closed",
                    remedy="begin the sequence again with sequence_start",
                )
            )

    def _goes_on(self, live: Live) -> bool:
        """Whether a further request may follow. The caller holds the lock."""
        return live.open and not self._is_idle(live)

    def _is_idle(self, live: Live) -> bool:
        return live.running is None and self._clock.monotonic_ns() - live.used_ns > self._idle_ns

    def _let_go(self, live: Live | None) -> Callable[[], None]:
        """Forget a sequence that is over, and give its version back by what this returns, without the lock."""
        if live is None or live.open or live.running or self._live.get(live.name) is not live:
            return _nothing
        del self._live[live.name]
        return live.release


def _nothing() -> None:
    """Nothing is over."""
