"""An owner without a process: the GPU held by whoever calls.

Knows: the same engines and lanes as `owner`, over the same `holding`. Rules: for a process that builds or proves one engine and
may start no other; the first call makes its thread the GPU's, and all others are refused there; a lost GPU stays lost. Leaves to
others: serving (`owner`).
"""

import itertools
import os
import threading
from pathlib import Path

from appliance.config import GpuConfig
from appliance.errors import EngineError, GpuLost
from runtime.gpu.child import opened
from runtime.gpu.link import Begin, Load, Loaded, Reply, Request, Share, Survey, Surveyed
from runtime.gpu.opened import Engine, Lane, Shared
from runtime.gpu.program import Program
from runtime.gpu.slots import Slot
from runtime.gpu.standing import Standing, State


class OwnerHere:
    """See Owner; used by the one thread that made it."""

    def __init__(
        self,
        device: str = "0",
        *,
        executions: str = "runtime.gpu.execution:open_execution",
        devices: str = "runtime.gpu.opening:open_device",
        settings: GpuConfig | None = None,
    ) -> None:
        """Open the device in this thread. Raises GpuUnusable, GpuError."""
        told = settings or GpuConfig()
        self.device = device
        self._thread = threading.get_ident()
        self._holding = opened(
            Begin(
                device=device,
                devices=devices,
                executions=executions,
                library=told.library,
                memory_share=told.memory_share,
                streams=1,
                graphs=told.graphs,
                nice=0,
            )
        )
        self._engines: dict[int, Engine] = {}
        self._state, self._trouble = State.READY, ""
        self._numbers = itertools.count(1)

    def load(self, path: Path) -> Engine:
        """See Owner."""
        engine = Engine(self, next(self._numbers), path)
        self._load(engine)
        self._engines[engine.number] = engine
        return engine

    def share(self, handle: bytes, size: int) -> Shared:
        """See Owner."""
        shared = Shared(self, next(self._numbers), handle, size)
        self.ask(Share(shared=shared.number, handle=handle, size=size))
        return shared

    @property
    def ill(self) -> str:
        """See Owner."""
        if self._state is State.READY or not self._engines:
            return ""
        return f"GPU {self.device} is {self._state.value}: {self._trouble}"

    def standing(self) -> Standing:
        """See Owner."""
        told = Surveyed()
        if self._state is State.READY:
            reply = self.ask(Survey())
            assert isinstance(reply, Surveyed)
            told = reply
        resident = [engine for engine in self._engines.values() if not engine.evicted]
        return Standing(
            device=self.device,
            name=told.name,
            state=self._state.value,
            trouble=self._trouble,
            restarts=0,
            pid=os.getpid(),
            free_bytes=told.free_bytes,
            total_bytes=told.total_bytes,
            engines=tuple(str(engine.path) for engine in resident),
            lanes=sum(len(engine.lanes) for engine in resident),
            graphs=told.graphs,
            ungraphed=told.ungraphed,
        )

    def close(self) -> None:
        """Give the GPU back, unless it is lost."""
        if self._state is State.READY:
            self._holding.close()
        self._state = State.CLOSED

    def ask(self, request: Request, descriptors: tuple[int, ...] = ()) -> Reply:
        """See Holder."""
        self._check()
        try:
            return self._holding.answer(request, descriptors)
        except GpuLost as lost:
            self._state, self._trouble = State.FAILED, str(lost)
            raise
        finally:
            for number in self._holding.take_evicted():
                self._engines[number].evicted = True

    def open_lane(self, engine: Engine, slot_bytes: int) -> Lane:
        """See Holder."""
        if engine.evicted:
            self._load(engine)
        lane = Lane(self, engine, next(self._numbers), Slot.made())
        try:
            lane.memory.grow(slot_bytes)
            self.ask(lane.opening(), (os.dup(lane.memory.descriptor),))
        except BaseException:
            lane.memory.close()
            raise
        engine.lanes[lane.number] = lane
        return lane

    def install(self, lane: Lane, number: int, program: Program) -> None:
        """See Holder."""
        self.ask(lane.installing(number, program))
        lane.programs[number] = program

    def run(self, lane: Lane, number: int) -> None:
        """See Holder."""
        self._check()
        held = self._holding.lanes[lane.number].lane
        try:
            held.begin(number)
            installed = held.running
            assert installed is not None
            held.wait()
            held.settle(installed)
        except GpuLost as lost:
            self._state, self._trouble = State.FAILED, str(lost)
            raise

    def resting(self, lane: Lane) -> bool:  # noqa: ARG002 - one lost is lost for all
        """See Holder."""
        return self._state is not State.READY

    def gone(self, thing: Engine | Lane | Shared, request: Request) -> None:
        """See Holder."""
        if isinstance(thing, Engine):
            self._engines.pop(thing.number, None)
        if self._state is State.READY:
            self.ask(request)

    def _load(self, engine: Engine) -> None:
        reply = self.ask(Load(engine=engine.number, path=str(engine.path)))
        assert isinstance(reply, Loaded)
        engine.header_bytes, engine.evicted = reply.header, False

    def _check(self) -> None:
        if threading.get_ident() != self._thread:
            raise EngineError(
                "a GPU that this process holds itself is used by one thread only",
                remedy="report this: it is a fault",
            )
        if self._state is not State.READY:
            raise GpuLost(
                f"GPU {self.device} was lost: {self._trouble or 'it was given back'}",
                remedy="begin again: the process that held it must end first",
            )
