"""One lane of an engine: its programs, run on its stream over its slot.

Knows: how a program becomes calls of the device, and when it becomes a graph. Rules: a program that is repeatable runs twice as
it is written; then, when its results are out and the engine's context still has its shapes, it is captured, and replayed
from its third run on; a graph or an address is never used after the memory under it moved; one that cannot be captured
goes on as written, and says so. Leaves to others: the process (`child`), memory's bounds (`holding`).
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from appliance.errors import EngineError, GpuError, GpuLost
from runtime.gpu.contexts import Contexts
from runtime.gpu.device import Address, Device, Function, Pointer, Scalar
from runtime.gpu.engine import HeldEngine
from runtime.gpu.program import (
    Argument,
    CopyIn,
    CopyOut,
    Execute,
    Launch,
    Place,
    Program,
    scalar_of,
)
from runtime.gpu.slots import Slot
from runtime.gpu.tracks import Need, Track

# A call of the device, or of the engine's context, with all it takes.
Call: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...]]

RUNS_BEFORE_GRAPH = 2


class Installed:
    """A program, and how far it has come. `calls` are for addresses as they were at `moves`."""

    def __init__(self, program: Program, constants: Pointer, need: Need) -> None:
        self.program, self.constants, self.need = program, constants, need
        self.calls: list[Call] = []
        self.moves = -1
        self.runs = 0
        self.graph = 0
        self.ungraphed = ""


class Lane:
    """Programs of one lane. `running` is the one that is on its way."""

    def __init__(
        self,
        device: Device,
        engine: HeldEngine,
        track: Track,
        slot: Slot,
        *,
        number: int,
        graphs: bool,
    ) -> None:
        """A lane called `number`; `graphs` is whether any may be captured. Raises GpuError."""
        self._device, self.engine, self._track, self._slot = device, engine, track, slot
        self._number, self._graphs = number, graphs
        self._programs: dict[int, Installed] = {}
        self._contexts = Contexts(engine.execution)
        self._slot_at: Pointer = 0
        self._slot_moves = 0
        self._event = device.event()
        self.running: Installed | None = None
        track.reserve(number, Need(0, 0))

    @property
    def graphs(self) -> int:
        """How many programs run as graphs."""
        return sum(1 for installed in self._programs.values() if installed.graph)

    @property
    def ungraphed(self) -> set[str]:
        """Why others do not, of those that might."""
        return {each.ungraphed for each in self._programs.values() if each.ungraphed}

    def install(
        self, number: int, program: Program, slot_bytes: int, admit: Callable[[int], None]
    ) -> None:
        """Keep a program; the slot has `slot_bytes` now. `admit` makes room for so many bytes of the device.

        Raises GpuMemory, GpuError; nothing is kept of the program then.
        """
        self._map_slot(slot_bytes)
        pool = self._contexts.take(program)
        try:
            need = self._most(Need(program.arena_bytes, pool))
            admit(self._track.beyond(need) + len(program.constants))
            constants = self.engine.constants.take(program.constants)
            try:
                self._track.reserve(self._number, need)
            except BaseException:
                self.engine.constants.give(program.constants)
                raise
        except BaseException:
            self._contexts.give(program)
            raise
        self._programs[number] = Installed(program, constants, need)

    def forget(self, number: int) -> None:
        """Drop a program; its memory stays with the track until the lane goes."""
        installed = self._programs.pop(number, None)
        if installed is not None:
            self._drop_graph(installed)
            self.engine.constants.give(installed.program.constants)
            self._contexts.give(installed.program)

    def begin(self, number: int) -> None:
        """Queue all of a program. Raises GpuError; what was queued of it then does no harm."""
        installed = self._programs.get(number)
        if installed is None or self.running is not None:
            raise EngineError(
                f"the lane has no program {number} to run now", remedy="report this: it is a fault"
            )
        self._resolve(installed)
        if installed.graph:
            self._device.replay(installed.graph, self._track.stream)
        else:
            for call, arguments in installed.calls:
                call(*arguments)
        self._device.record(self._event, self._track.stream)
        self.running = installed

    def reached(self) -> bool:
        """Whether the results lie in the slot. Raises what failed; the lane runs nothing then."""
        try:
            over = self._device.reached(self._event)
        except BaseException:
            self.running = None
            raise
        if over:
            self.running = None
        return over

    def settle(self, installed: Installed) -> None:
        """After a run's reply is out: capture what has run often enough. Raises GpuLost only."""
        installed.runs += 1
        if (
            installed.graph
            or installed.ungraphed
            or installed.runs < RUNS_BEFORE_GRAPH
            or not (self._graphs and installed.program.repeatable)
        ):
            return
        try:
            with self._device.captured(self._track.stream) as capture:
                for call, arguments in installed.calls:
                    call(*arguments)
            installed.graph = capture.graph
        except GpuLost:
            raise
        except (GpuError, EngineError) as error:
            installed.ungraphed = str(error)

    def wait(self) -> None:
        """Wait for whatever is on its way. Raises what failed."""
        self.running = None
        self._device.synchronise(self._track.stream)

    def close(self) -> None:
        """Give everything back, once nothing is on its way."""
        for number in list(self._programs):
            self.forget(number)
        self._device.drop_event(self._event)
        if self._slot_at:
            self._device.unpin(self._slot_at)
        self._slot.close()
        self._track.leave(self._number)

    def _most(self, need: Need) -> Need:
        """The larger of it and of what is installed."""
        every = [need, *(installed.need for installed in self._programs.values())]
        return Need(max(each.arena for each in every), max(each.pool for each in every))

    def _map_slot(self, slot_bytes: int) -> None:
        if slot_bytes <= self._slot.view.nbytes:
            return
        # The new mapping is pinned before the old one is let go: if it cannot be, programs run on over the old one.
        before, self._slot.view = self._slot.view, self._slot.mapped(slot_bytes)
        try:
            slot_at = self._device.pin(self._slot.view)
        except BaseException:
            self._slot.view = before
            raise
        self._slot_moves += 1
        old, self._slot_at = self._slot_at, slot_at
        if old:
            self._device.synchronise(self._track.stream)
            self._device.unpin(old)

    @property
    def _moves(self) -> int:
        """Counts how often anything moved that a program may point to; both only grow."""
        return self._track.moves + self._slot_moves

    def _resolve(self, installed: Installed) -> None:
        """Have calls and graph for the addresses as they are now."""
        if installed.moves == self._moves:
            return
        self._track.ready()
        self._drop_graph(installed)
        installed.calls = [self._call(installed, step) for step in installed.program.steps]
        installed.moves = self._moves

    def _drop_graph(self, installed: Installed) -> None:
        if installed.graph:
            self._device.drop_graph(installed.graph)
        installed.graph = installed.runs = 0

    def _call(self, installed: Installed, step: CopyIn | CopyOut | Launch | Execute) -> Call:
        device, stream = self._device, self._track.stream
        match step:
            case CopyIn(slot=slot, to=to, size=size):
                place = self._address(installed, to)
                return device.copy_in, (place, self._slot_at + slot, size, stream)
            case CopyOut(source=source, slot=slot, size=size):
                place = self._address(installed, source)
                return device.copy_out, (self._slot_at + slot, place, size, stream)
            case Launch(kernel=kernel, grid=grid, block=block, arguments=arguments):
                function: Function = self.engine.kernel(kernel)
                values = tuple(self._scalar(installed, argument) for argument in arguments)
                return device.launch, (function, grid, block, values, stream)
            case Execute(shapes=shapes, inputs=inputs, outputs=outputs):  # pragma: no branch
                addresses = {
                    name: self._address(installed, place)
                    for name, place in (inputs | outputs).items()
                }
                context = self._contexts.of(shapes)
                if self._track.pool.size:
                    context.lend(self._track.pool.pointer, self._track.pool.size)
                return context.enqueue, (addresses, stream)

    def _address(self, installed: Installed, place: Place) -> Pointer:
        within = place.space == "constants"
        return (installed.constants if within else self._track.arena.pointer) + place.offset

    def _scalar(self, installed: Installed, argument: Argument) -> Scalar:
        if isinstance(argument, Place):
            return Address(self._address(installed, argument))
        return scalar_of(argument)
