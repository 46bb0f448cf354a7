"""What the owner of a GPU has on it, and how a fresh process gets all of it again.

Knows: engines, lanes with their programs, shared memory. Rules: engines that are served come first, for they may need the memory of the
others; what cannot be brought back costs only those who use it, and is told; a GPU that is lost meanwhile ends the
attempt. Leaves to others: when (`owner`), how it is asked (`process`).
"""

import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TypeAlias

from appliance import journal
from appliance.errors import ApplianceError, GpuLost
from runtime.gpu.link import Load, Loaded, Reply, Request, Share
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

    def restore(self) -> str:
        """Bring everything back to a fresh process; what could not be. Raises GpuLost."""
        troubles = []
        # Those that are served first: for they may need the memory of the others.
        for engine in sorted(self.resident(), key=lambda engine: not engine.lanes):
            try:
                self.load(engine)
                for lane in list(engine.lanes.values()):
                    self.open(lane)
                    for number, program in list(lane.programs.items()):
                        self._told(lane.installing(number, program), ())
            except GpuLost:
                raise
            except ApplianceError as error:
                troubles.append(f"{engine.path.parent.name}/{engine.path.name}: {error}")
                for lane in list(engine.lanes.values()):
                    drop_line(lane)
                    lane.trouble = error
        for shared in list(self.shared.values()):
            try:
                self._told(Share(shared=shared.number, handle=shared.handle, size=shared.size), ())
            except GpuLost:
                raise
            except ApplianceError:
                self.shared.pop(shared.number, None)  # its client is gone too: uses are refused
        return "; ".join(troubles)

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


def drop_line(lane: Lane) -> None:
    """Close the line of a lane's runs, if there is one; a run on another thread wakes."""
    line, lane.line = lane.line, None
    if line is not None:
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
        with lane.busy:
            line.close()
