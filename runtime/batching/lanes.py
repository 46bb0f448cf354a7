"""The lanes of one batcher: those at work, and those whose engine call hangs.

Knows: how long an engine call may take, and how many lanes are wanted. Rules: a lane whose call takes longer is
given up and a fresh one takes its place, a few times at most; one that comes back works again where one is missing;
one whose device is away leaves batches to the others while there are any.
Leaves to others: the lock that guards all of this, threads and requests (`batcher`).
"""

from collections.abc import Callable, Sequence

from appliance.errors import EngineError
from runtime.batching.lane import Lane, Runner

LOST_MAX = 3  # lanes that hang at a time and are replaced: each keeps a thread and its buffers


class Lanes:
    """`working` and `lost` lanes, on `runners` at first; whoever calls holds the batcher's lock."""

    def __init__(
        self,
        runners: Sequence[Runner],
        work: Callable[[Lane], None],
        *,
        call_ns_max: int,
        name: str,
    ) -> None:
        """`work` is the life of a lane's thread, which the caller starts; an engine call may take `call_ns_max`."""
        self._name, self._wanted = name, len(runners)
        self.call_ns_max = call_ns_max
        self.working = [self._new(runner, work) for runner in runners]
        self.lost: list[Lane] = []

    @property
    def trouble(self) -> str:
        """What is wrong with the lanes, "" when nothing is; needs no lock."""
        hanging, left = len(self.lost), len(self.working)
        if left >= self._wanted and not hanging:
            return ""
        return (
            f"{self._name}: engine calls that have not ended within "
            f"{self.call_ns_max / 1e9:g} s: {hanging}; lanes at work: {left} of {self._wanted}"
        )

    @property
    def fewest_rows(self) -> int:
        """That a lane is computing now."""
        return min(sum(ticket.rows for ticket in lane.batch) for lane in self.working)

    def free_beside(self, lane: Lane) -> int:
        """Lanes that could take a batch now, beside `lane`."""
        return sum(
            other is not lane and not other.batch and not self.defers(other)
            for other in self.working
        )

    def defers(self, lane: Lane) -> bool:
        """Whether `lane` leaves batches to others: its device is away, and that of another one is not.

        A device comes and goes at any time: who asks twice may hear two answers.
        """
        return lane.runner.resting and not all(
            other.ended or other.runner.resting for other in self.working
        )

    def give_up(
        self, now_ns: int, work: Callable[[Lane], None] | None
    ) -> tuple[list[Lane], list[Lane]]:
        """Those that hang and are lost from now on, and those that take their place.

        `work` is the life of the fresh ones' threads, None when there are to be none; a fresh one's runner
        is still the other's.
        """
        hanging = [
            lane
            for lane in self.working
            if lane.batch and now_ns - lane.started_ns > self.call_ns_max
        ]
        fresh = []
        for lane in hanging:
            lane.lost = True
            self.working.remove(lane)
            self.lost.append(lane)
            if work is not None and len(self.lost) <= LOST_MAX:
                fresh.append(self._new(lane.runner, work))
        self.working += fresh
        return hanging, fresh

    def came_back(self, lane: Lane, *, wanted: bool) -> bool:
        """Whether a lane that was given up, and is done with its call now, works again, if it is `wanted`."""
        self.lost.remove(lane)
        lane.lost = not wanted or len(self.working) >= self._wanted
        if not lane.lost:
            lane.over.clear()
            self.working.append(lane)
        return not lane.lost

    def hang(self) -> EngineError:
        """What requests get that no lane answers."""
        return EngineError(
            f"the engine of {self._name} has not answered within {self.call_ns_max / 1e9:g} s",
            remedy="see the journal; raise [batching] engine_seconds_max if the model is that slow",
        )

    def _new(self, runner: Runner, work: Callable[[Lane], None]) -> Lane:
        return Lane(runner, name=f"engine {self._name}", work=work)
