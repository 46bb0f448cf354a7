"""What the owner of a GPU has on it, and how a fresh process gets all of it again.

Knows: engines, lanes with their programs, shared memory. Rules: engines that are served come first, for they may need the memory of the
others; what cannot be brought back costs only those who use it, is told, and is tried again where it was for want of
memory; a GPU that is lost meanwhile ends the attempt. Leaves to others: when (`owner`), how it is asked (`process`).
"""

import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TypeAlias

from appliance import journal
from appliance.errors import ApplianceError, GpuLost, GpuMemory
from runtime.gpu.link import Load, Loaded, Reply, Request, Share, Unload
from runtime.gpu.opened import Engine, Lane, Shared

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
        """Bring everything back to a fresh process, as far as it can be. Raises GpuLost."""
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
        """Bring back what there was no memory for, if there is now. Raises GpuLost."""
        for engine in self.wanting_memory:
            self._bring_back(engine)

    def load(self, engine: Engine) -> None:
        """Load an engine; others may be evicted for it. Raises EngineLoad, GpuMemory, GpuError."""
        reply = self._told(Load(engine=engine.number, path=str(engine.path)), ())
        assert isinstance(reply, Loaded)
        engine.header_bytes, engine.evicted = reply.header, False

    def evicted(self, number: int) -> None:
        """The process closed an engine to make room."""
        if number in self.engines:
            self.engines[number].evicted = True
            path = self.engines[number].path
            journal.event("gpu.evicted", device=self._device, engine=str(path))

    def open(self, lane: Lane) -> None:
        """Open a lane, and a line for its runs. Raises GpuError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, ExitStack() as failing:
            failing.callback(ours.close)
            self._told(lane.opening(), (lane.memory.descriptor, theirs.fileno()))
            failing.pop_all()
        ours.settimeout(self._run_seconds_max)
        drop_line(lane)
        lane.line, lane.trouble = ours, None

    def resident(self) -> list[Engine]:
        """The engines that are on the GPU, or shall be again."""
        return [engine for engine in list(self.engines.values()) if not engine.evicted]

    def _bring_back(self, engine: Engine) -> None:
        """Load an engine that is lost, with its lanes and their programs; or keep why that cannot be."""
        try:
            self.load(engine)
            for lane in list(engine.lanes.values()):
                self.open(lane)
                for number, program in list(lane.programs.items()):
                    self._told(lane.installing(number, program), ())
        except GpuLost:
            raise
        except ApplianceError as error:
            engine.evicted = not engine.lanes  # then whoever opens the first loads it
            for lane in list(engine.lanes.values()):
                drop_line(lane)
                lane.trouble = error
            self._told(Unload(engine=engine.number), ())  # what of it is there

    def _lost(self) -> dict[Engine, ApplianceError]:
        """The engines whose lanes were not brought back, and why."""
        lanes = list(self.lanes.values())
        return {lane.engine: lane.trouble for lane in lanes if lane.trouble is not None}


def drop_line(lane: Lane) -> None:
    """Close the line of a lane's runs, if there is one; a run on another thread wakes."""
    line, lane.line = lane.line, None
    if line is not None:
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
        with lane.busy:
            line.close()
