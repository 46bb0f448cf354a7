"""What the owner of a GPU holds: engines, lanes, shared memory.

Knows: how each request is answered. Rules: memory is checked before it is taken, and room is made by engines without a lane,
the one whose last lane was opened longest ago first; an engine's lanes are closed before it; what fails leaves everything
as it was. Leaves to others: where requests come from (`child`, `here`), what a run is (`lane`).
"""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from appliance.errors import EngineError, GpuError, GpuMemory
from runtime.gpu.admission import admit, check_program
from runtime.gpu.device import Device
from runtime.gpu.engine import HeldEngine, Opener
from runtime.gpu.engine_file import EngineFile
from runtime.gpu.lane import Lane
from runtime.gpu.link import (
    AskShapes,
    Begin,
    CloseLane,
    Done,
    Forget,
    Held,
    Install,
    Load,
    Loaded,
    OpenLane,
    ReadShared,
    Reply,
    Request,
    Shapes,
    Share,
    Survey,
    Surveyed,
    Unload,
    Unshare,
    WriteShared,
)
from runtime.gpu.sharing import SharedMemory
from runtime.gpu.slots import Slot
from runtime.gpu.tracks import Track, least_used

T = TypeVar("T")


class OpenedLane(NamedTuple):
    """A lane, and the socket that its runs come by; None for one in this process."""

    lane: Lane
    connection: socket.socket | None


class Holding:
    """Everything on one device. Used by the thread that opened it; a Load may be answered on another meanwhile."""

    def __init__(self, device: Device, opener: Opener, begin: Begin) -> None:
        """Hold `device`, whose plans `opener` runs. Raises GpuError."""
        self.device, self._opener, self._begin = device, opener, begin
        self._engines: dict[int, HeldEngine] = {}
        self.lanes: dict[int, OpenedLane] = {}
        self._tracks = [Track(device) for _ in range(begin.streams)]
        self._shared = SharedMemory(device)
        self._opened = 0
        self._gone: list[int] = []

    def answer(self, request: Request, descriptors: Sequence[int]) -> Reply:
        """Do what is asked; `descriptors` are taken over. Raises EngineError, GpuError; GpuLost is the end."""
        match request:
            case Load(engine=engine, path=path):
                return self._load(engine, Path(path))
            case Unload(engine=engine):
                self._unload(engine)
            case OpenLane(engine=engine, lane=lane):
                self._open(engine, lane, descriptors)
            case CloseLane(lane=lane):
                self.close_lane(lane)
            case AskShapes(engine=engine, inputs=inputs):
                return Shapes(outputs=self._engine(engine).execution.shapes(inputs))
            case Install():
                self._install(request)
            case Forget(lane=lane, number=number):
                if lane in self.lanes:
                    self.lanes[lane].lane.forget(number)
            case Survey():
                return self._surveyed()
            case _:
                return self._answer_shared(request)
        return Done()

    def take_evicted(self) -> tuple[int, ...]:
        """The engines that were evicted since this was asked last."""
        gone, self._gone = tuple(self._gone), []
        return gone

    def _answer_shared(self, request: Request) -> Reply:
        """As `answer`, of requests for shared memory."""
        match request:
            case Share(shared=shared, handle=handle, size=size):
                self._shared.open(shared, handle, size)
            case Unshare(shared=shared):
                self._shared.close(shared)
            case ReadShared(shared=shared, offset=offset, size=size):
                return Held(data=self._shared.read(shared, offset, size))
            case WriteShared(shared=shared, offset=offset, data=data):
                self._shared.write(shared, offset, data)
            case _:
                raise EngineError("a request out of turn", remedy="report this: it is a fault")
        return Done()

    def close_lane(self, number: int) -> None:
        """Close a lane when what it runs is over; one that is unknown is fine."""
        opened = self.lanes.get(number)
        if opened is None:
            return
        opened.lane.wait()
        del self.lanes[number]
        try:
            opened.lane.close()
        finally:
            opened.lane.engine.lanes.discard(number)  # from now on a load may evict the engine
            if opened.connection is not None:
                opened.connection.close()

    def close(self) -> None:
        """Give everything back, the device too."""
        for number in list(self._engines):
            self._unload(number)
        self._shared.close_all()
        for track in self._tracks:
            track.close()
        self.device.close()

    def _load(self, number: int, path: Path) -> Loaded:
        file = EngineFile(path)
        try:
            doing = f"loading {path.parent.name}/{path.name}"
            share = self._begin.memory_share
            admit(file.header.plan.size, self.device.room, share, self._evict, doing)
            self._engines[number] = self._with_room(
                lambda: HeldEngine(self.device, path, file, self._opener)
            )
            self._touch(self._engines[number])
            header = msgspec.msgpack.encode(file.header)
        finally:
            file.close()
        return Loaded(header=header)

    def _unload(self, number: int) -> None:
        engine = self._engines.get(number)
        if engine is None:
            return
        for lane in list(engine.lanes):
            self.close_lane(lane)
        del self._engines[number]
        engine.close()

    def _open(self, number: int, lane: int, descriptors: Sequence[int]) -> None:
        slot = Slot(descriptors[0])
        connection = socket.socket(fileno=descriptors[1]) if len(descriptors) > 1 else None
        try:
            engine = self._engine(number)
            track = least_used(self._tracks)
            graphs = self._begin.graphs
            opened = Lane(self.device, engine, track, slot, number=lane, graphs=graphs)
        except BaseException:
            slot.close()
            if connection is not None:
                connection.close()
            raise
        self.lanes[lane] = OpenedLane(opened, connection)
        engine.lanes.add(lane)
        self._touch(engine)

    def _install(self, request: Install) -> None:
        lane = self._lane(request.lane)
        check_program(request.program, lane.engine.names)

        def room_for(size: int) -> None:
            share = self._begin.memory_share
            admit(size, self.device.room, share, self._evict, "a batch of this size")

        number, program, slot_bytes = request.number, request.program, request.slot_bytes
        self._with_room(lambda: lane.install(number, program, slot_bytes, room_for))

    def _with_room(self, act: Callable[[], T]) -> T:
        """What `act` gives; when the device has no room after all, with one engine after the other evicted."""
        while True:
            try:
                return act()
            except GpuMemory:
                if not self._evict():
                    raise

    def _evict(self) -> bool:
        """Close the engine without lanes that rested longest; False when there is none."""
        idle = [number for number, engine in self._engines.items() if not engine.lanes]
        if not idle:
            return False
        oldest = min(idle, key=lambda number: self._engines[number].used)
        self._unload(oldest)
        self._gone.append(oldest)
        return True

    def _touch(self, engine: HeldEngine) -> None:
        self._opened += 1
        engine.used = self._opened

    def _engine(self, number: int) -> HeldEngine:
        engine = self._engines.get(number)
        if engine is None:
            raise GpuError(
                f"the GPU has no engine {number} any more",
                remedy="load the version again: its memory was needed while nobody served it",
            )
        return engine

    def _lane(self, number: int) -> Lane:
        opened = self.lanes.get(number)
        if opened is None:
            raise EngineError("the lane was closed", remedy="report this: it is a fault")
        return opened.lane

    def _surveyed(self) -> Surveyed:
        room = self.device.room()
        lanes = [opened.lane for opened in self.lanes.values()]
        return Surveyed(
            name=self.device.name,
            capability=self.device.capability,
            free_bytes=room.free,
            total_bytes=room.total,
            graphs=sum(lane.graphs for lane in lanes),
            ungraphed=tuple(sorted(set().union(*(lane.ungraphed for lane in lanes)))),
        )
