"""What the owner of a GPU has on it, and how a fresh process gets all of it again.

Knows: engines, lanes with their programs, shared memory. Rules: engines that are served come first, for they may need the memory of the
others; what cannot be brought back costs only those who use it, is told, and is tried again where it was for want of
memory; a lane is used when all of its engine is back; a GPU that is lost or of no use meanwhile ends the attempt. Leaves
to others: when (`owner`), how it is asked (`process`).
"""

import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TypeAlias

from appliance import journal
from appliance.errors import ApplianceError, EngineError, GpuLost, GpuMemory
from runtime.gpu.link import OVER, Load, Loaded, Reply, Request, Share, Unload
from runtime.gpu.opened import Engine, Lane, Shared
from runtime.gpu.standing import gone

# Asks the process; descriptors go with the request.
Ask: TypeAlias = Callable[[Request, tuple[int, ...]], Reply]


class Belongings:
    """Everything on `device`, by number. Used by whoever may ask the process."""

    def __init__(self, device: str, told: Ask, run_seconds_max: float) -> None:
        self._device, self._told, self._run_seconds_max = device, told, run_seconds_max
        self.engines: dict[int, Engine] = {}
        self.lanes: dict[int, Lane] = {}
        self.shared: dict[int, Shared] = {}

    @property
    def trouble(self) -> str:
        """What could not be brought back, and why; "" when all of it is there."""
        lost = self._lost().items()
        return "; ".join(f"{each.path.parent.name}/{each.path.name}: {why}" for each, why in lost)

    @property
    def wanting_memory(self) -> list[Engine]:
        """The engines that there was no memory for."""
        return [engine for engine, why in self._lost().items() if isinstance(why, GpuMemory)]

    def restore(self) -> None:
        """Bring everything back to a fresh process, as far as it can be. Raises GpuLost, GpuUnusable."""
        # Those that are served first: for they may need the memory of the others.
        for engine in sorted(self.resident(), key=lambda engine: not engine.lanes):
            self._bring_back(engine)
        for shared in list(self.shared.values()):
            try:
                self._told(Share(shared=shared.number, handle=shared.handle, size=shared.size), ())
            except GpuLost:
                raise
            except ApplianceError:
                self.shared.pop(shared.number, None)  # its client is gone too: uses are refused

    def try_again(self) -> None:
        """Bring back what there was no memory for, if there is now. Raises GpuLost, GpuUnusable."""
        for engine in self.wanting_memory:
            self._bring_back(engine)

    def load(self, engine: Engine) -> None:
        """Load an engine; others may be evicted for it. Raises EngineLoad, GpuMemory, GpuError."""
        reply = self._told(Load(engine=engine.number, path=str(engine.path)), ())
        assert isinstance(reply, Loaded)
        engine.header_bytes, engine.evicted = reply.header, False

    def evicted(self, number: int) -> None:
        """The process closed an engine to make room."""
        engine = self.engines.get(number)
        if engine is not None:
            engine.evicted = True
            journal.event("gpu.evicted", device=self._device, engine=str(engine.path))

    def open(self, lane: Lane) -> None:
        """Open a lane, and a line for its runs. Raises GpuError."""
        with ExitStack() as failing:
            line = self._opened(lane, failing)
            failing.pop_all()
        _use(lane, line)

    def line_of(self, lane: Lane) -> socket.socket:
        """The line of a lane's runs. Raises why there is none."""
        line = lane.line  # before the check: a lane is closed first, and then has none
        check_open(lane)
        if line is None:
            raise lane.trouble or gone(self._device, "the lane was not brought back")
        return line

    def forget(self, thing: Engine | Lane | Shared) -> None:
        """It is not brought back any more; a run on its way ends."""
        for kept in (self.engines, self.lanes, self.shared):
            kept.pop(thing.number, None)  # no two things share a number
        if isinstance(thing, Lane):
            _drop_line(thing)

    def resident(self) -> list[Engine]:
        """The engines that are on the GPU, or shall be again."""
        return [engine for engine in list(self.engines.values()) if not engine.evicted]

    def _bring_back(self, engine: Engine) -> None:
        """Load an engine that is lost, with its lanes and their programs; or keep why that cannot be."""
        lines: dict[Lane, socket.socket] = {}
        with ExitStack() as failing:
            try:
                self.load(engine)
                for lane in list(engine.lanes.values()):
                    lines[lane] = self._opened(lane, failing)
                    for number, program in list(lane.programs.items()):
                        self._told(lane.installing(number, program), ())
            except OVER:
                raise
            except ApplianceError as error:
                engine.evicted = not engine.lanes  # then whoever opens the first loads it
                for lane in list(engine.lanes.values()):
                    _drop_line(lane)
                    lane.trouble = error
                self._told(Unload(engine=engine.number), ())  # what of it is there
                return
            failing.pop_all()
        for lane, line in lines.items():
            _use(lane, line)

    def _opened(self, lane: Lane, failing: ExitStack) -> socket.socket:
        """The line for the runs of a lane that is opened now; closed by `failing`. Raises GpuError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        failing.callback(ours.close)
        with theirs:
            self._told(lane.opening(), (lane.memory.descriptor, theirs.fileno()))
        ours.settimeout(self._run_seconds_max)
        return ours

    def _lost(self) -> dict[Engine, ApplianceError]:
        """The engines whose lanes were not brought back, and why."""
        lanes = list(self.lanes.values())
        return {lane.engine: lane.trouble for lane in lanes if lane.trouble is not None}


def check_open(lane: Lane) -> None:
    """Raise EngineError when the lane was closed."""
    if lane.closed:
        raise EngineError("the lane was closed", remedy="send the request again")


def _use(lane: Lane, line: socket.socket) -> None:
    _drop_line(lane)
    lane.line, lane.trouble = line, None


def _drop_line(lane: Lane) -> None:
    """Close the line of a lane's runs, if there is one; a run on another thread wakes."""
    line, lane.line = lane.line, None
    if line is not None:
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
        with lane.busy:
            line.close()
