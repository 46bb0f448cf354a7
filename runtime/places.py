"""A request's place in its sequence.

Knows: what is kept of a sequence and of each request that waits in it. Rules: whoever changes either holds the
lock of the `runtime.sequences` they belong to. Leaves to others: when a request computes.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple, Protocol, TypeAlias

from appliance import journal
from runtime.batching import Outcome, Ticket
from runtime.router import Route
from runtime.servable import Inputs

# Whose sequence, and its id: callers do not share sequences.
Name: TypeAlias = tuple[str, int | str]


class Place(Protocol):
    """What stands for a request that was submitted, in a queue or in a sequence."""

    @property
    def line(self) -> int:
        """Not negative while it waits."""

    @property
    def gathered(self) -> bool:
        """Whether the thread that brought it will run it."""

    def cancel(self) -> bool:
        """True when it is gone and will never be answered. Any thread."""


class Asked(NamedTuple):
    """A request as `Batcher.submit` takes it."""

    inputs: Inputs
    rows: int
    key: Hashable
    client: str = ""
    priority: int = 0
    deadline_ns: int | None = None
    timeout_us: int = 0


class Live:
    """A sequence: its states after the last answer, who computes, who waits, and whether more may come.

    `closed` says that it ended or was forgotten since its last request came; `steps` counts the requests
    since its start; `used_ns`, monotonic, is when it was used last.
    """

    __slots__ = (
        "closed",
        "name",
        "open",
        "release",
        "route",
        "running",
        "states",
        "steps",
        "used_ns",
        "waiting",
    )

    def __init__(
        self, *, name: Name, route: Route, release: Callable[[], None], used_ns: int
    ) -> None:
        self.name, self.route, self.release = name, route, release
        self.used_ns, self.steps = used_ns, 0
        self.states: Inputs = {}
        self.running: Turn | None = None
        self.waiting: deque[Turn] = deque()
        self.open = self.closed = False

    def shut(self) -> None:
        """Let no request follow, unless it begins anew."""
        self.open, self.closed = False, True

    def cut(self, first: "Turn | None" = None) -> list["Turn"]:
        """Take out what waits from `first` on, else all, up to the next that starts anew; without `first` itself.

        Without such a one no request may follow.
        """
        turns = list(self.waiting)
        begin = 0 if first is None else turns.index(first)
        starts = (at for at in range(begin, len(turns)) if turns[at].start)
        own = first is not None and first.start
        if own:
            next(starts)
        stop = next(starts, None)
        if stop is None:
            self.shut()
        self.waiting = deque(turns[:begin] + (turns[stop:] if stop is not None else []))
        return [turn for turn in turns[begin:stop] if turn is not first]


class Turn:
    """A request that has its place in a sequence; to its caller what a ticket is."""

    __slots__ = ("asked", "leave", "live", "placed_ns", "start", "step", "then", "ticket")

    def __init__(
        self,
        asked: Asked,
        then: Callable[[Outcome], None],
        *,
        start: bool,
        leave: "Callable[[Turn], bool]",
    ) -> None:
        self.asked, self.start = asked, start
        self.then: Callable[[Outcome], None] | None = then
        self.leave = leave
        self.live: Live | None = None
        self.ticket: Ticket | None = None
        self.step = self.placed_ns = 0

    @property
    def line(self) -> int:
        """As a ticket's: not negative while it waits."""
        return 0 if self.ticket is None else self.ticket.line

    @property
    def gathered(self) -> bool:
        """As a ticket's."""
        return self.ticket is not None and self.ticket.gathered

    def place(self, live: Live, route: Route, now_ns: int) -> None:
        """Make it the sequence's next step; a first one may have come by another `route`."""
        live.steps += 1
        if self.start:
            live.route, live.steps, live.closed = route, 1, False
        self.live, self.step, self.placed_ns = live, live.steps, now_ns

    def computing(self, ticket: Ticket) -> None:
        """The batcher has it; it may even have ended there."""
        if self.then is not None:
            self.ticket = ticket

    def tell(self, outcome: Outcome | None) -> None:
        """Tell its caller, once, who may have left (None). What that raises is journalled: others wait.

        Turn, ticket and caller refer to each other and are let go of here.
        """
        then, self.then = self.then, None
        self.ticket, self.live, self.leave = None, None, _stays
        if then is None or outcome is None:
            return
        try:
            then(outcome)
        except Exception as error:  # noqa: BLE001 - as said
            journal.failure("batch.untold", error)

    def cancel(self) -> bool:
        """True when it is gone and will never be answered. Any thread."""
        return self.leave(self)


def _stays(turn: Turn) -> bool:  # noqa: ARG001
    return False
