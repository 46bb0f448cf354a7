"""What an owner's user has in hand: an engine, its lanes, shared memory.

Knows: how they ask their owner. Rules: what is asked may be asked again by the owner after its GPU was lost, so everything that
makes an engine, a lane or shared memory what it is stays here: paths, programs, handles; what is closed asks nothing any
more, and closing twice is fine. Leaves to others: the owner's life (`owner`, `here`).
"""

import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from appliance.errors import ApplianceError, EngineError
from runtime.gpu.engine_file import Header
from runtime.gpu.link import (
    AskShapes,
    CloseLane,
    Forget,
    Held,
    Install,
    OpenLane,
    ReadShared,
    Reply,
    Request,
    Shape,
    Shapes,
    Unload,
    Unshare,
    WriteShared,
)
from runtime.gpu.program import Program
from runtime.gpu.slots import Slot


class Holder(Protocol):
    """What they ask of their owner. Thread-safe."""

    def ask(self, request: Request) -> Reply:
        """The reply. Raises EngineError and its kinds; GpuLost when the GPU was lost meanwhile."""

    def open_lane(self, engine: "Engine", slot_bytes: int) -> "Lane":
        """A lane of `engine`, which is loaded again first if it was evicted."""

    def install(self, lane: "Lane", number: int, program: Program) -> None:
        """Have `lane` keep a program, and remember that it does."""

    def run(self, lane: "Lane", number: int) -> None:
        """Run a program of `lane` and wait for it."""

    def resting(self, lane: "Lane") -> bool:
        """Whether `lane` could not run now. Asks nobody, waits for nobody."""

    def gone(self, thing: "Engine | Lane | Shared", request: Request) -> None:
        """Forget `thing`, telling the GPU by `request` if it can be told."""


class Engine:
    """An engine that an owner was asked to load. Thread-safe."""

    def __init__(self, holder: Holder, number: int, path: Path) -> None:
        self._holder = holder
        self.number, self.path = number, path
        self.header_bytes = b""
        self.evicted = self.closed = False
        self.lanes: dict[int, Lane] = {}

    @property
    def header(self) -> Header:
        """What the engine file says of itself."""
        return msgspec.msgpack.decode(self.header_bytes, type=Header)

    def shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shapes of the outputs for those of the inputs, by name. Raises GpuError when the engine takes no such."""
        reply = self._holder.ask(AskShapes(engine=self.number, inputs=dict(inputs)))
        assert isinstance(reply, Shapes)
        return reply.outputs

    def lane(self, slot_bytes: int = 0) -> "Lane":
        """A lane of its own, whose slot has `slot_bytes` at least. Raises GpuError, GpuMemory."""
        return self._holder.open_lane(self, slot_bytes)

    def close(self) -> None:
        """Give back the engine's memory and its lanes'."""
        if not self.closed:
            self.closed = True
            for lane in list(self.lanes.values()):
                lane.close()
            self._holder.gone(self, Unload(engine=self.number))


class Lane:
    """A lane of an engine, used by one thread at a time; `close` may come from any."""

    def __init__(self, holder: Holder, engine: Engine, number: int, slot: Slot) -> None:
        self._holder = holder
        self.engine, self.number, self.memory = engine, number, slot
        self.programs: dict[int, Program] = {}
        self.closed = False
        # The owner's: the socket of its runs, or why there is none.
        self.line: socket.socket | None = None
        self.trouble: ApplianceError | None = None
        self.busy = threading.Lock()  # held while the line is used
        self._numbers = 0

    @property
    def slot(self) -> memoryview:
        """The slot's memory, writable; a view stays valid but is short of what came after an install that grew it."""
        return self.memory.view

    @property
    def resting(self) -> bool:
        """Whether it could not run now: its GPU is being started again, or did not take its engine back."""
        return self._holder.resting(self)

    def shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        """See Engine.shapes."""
        return self.engine.shapes(inputs)

    def install(self, program: Program) -> int:
        """Keep a program; the number to run it by. Raises EngineError, GpuError, GpuMemory; nothing is kept then."""
        self._check_open()
        self._numbers += 1
        self.memory.grow(program.slot_bytes)
        self._holder.install(self, self._numbers, program)
        return self._numbers

    def forget(self, number: int) -> None:
        """Drop a program. Raises nothing: after a lost GPU it is simply not brought back."""
        if self.programs.pop(number, None) is not None and not self.closed:
            try:
                self._holder.ask(Forget(lane=self.number, number=number))
            except ApplianceError:
                return  # the GPU was lost, and the program with it

    def run(self, number: int) -> None:
        """Run a program; its results lie in the slot afterwards.

        Raises EngineError or GpuError when it failed and the lane stays usable, GpuLost when the GPU broke: once for
        each run that was on its way.
        """
        self._check_open()
        self._holder.run(self, number)

    def close(self) -> None:
        """Give back what the lane has. A run on another thread ends with an error."""
        if not self.closed:
            self.closed = True
            self.engine.lanes.pop(self.number, None)
            self._holder.gone(self, CloseLane(lane=self.number))
            self.memory.close()

    def opening(self) -> OpenLane:
        """The request that opens it."""
        return OpenLane(engine=self.engine.number, lane=self.number)

    def installing(self, number: int, program: Program) -> Install:
        """The request that installs a program, with the slot as it is now."""
        slot_bytes = self.memory.view.nbytes
        return Install(lane=self.number, number=number, program=program, slot_bytes=slot_bytes)

    def _check_open(self) -> None:
        if self.closed:
            raise EngineError(
                "the lane is closed", remedy="the version is on its way out: try again"
            )


class Shared:
    """Device memory of a client that an owner has open. Thread-safe."""

    def __init__(self, holder: Holder, number: int, handle: bytes, size: int) -> None:
        self._holder = holder
        self.number, self.handle, self.size = number, handle, size
        self.closed = False

    def read(self, offset: int, size: int) -> bytes:
        """A copy of the bytes there. Raises GpuError."""
        reply = self._holder.ask(ReadShared(shared=self.number, offset=offset, size=size))
        assert isinstance(reply, Held)
        return reply.data

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Set the bytes there. Raises GpuError."""
        self._holder.ask(WriteShared(shared=self.number, offset=offset, data=bytes(data)))

    def close(self) -> None:
        """Let go of it."""
        if not self.closed:
            self.closed = True
            self._holder.gone(self, Unshare(shared=self.number))
