"""The owner of one GPU, from the runtime's side: a process that is started again when its GPU is lost.

Knows: engines, lanes, programs and shared memory that the GPU has to have. Rules: a process that died, broke or does not answer in
time costs each run that was on its way one GpuLost; then it is started anew and everything is brought back, before the next
run; one that breaks too often rests, and says so; nobody here touches CUDA. Leaves to others: what the process does
(`child`), starting and ending it (`process`), which of several GPUs (`placing`).
"""

import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from appliance import journal
from appliance.clock import Clock, SystemClock
from appliance.config import GpuConfig
from appliance.errors import ApplianceError, EngineError, GpuLost
from runtime.gpu.belongings import Belongings, check_open
from runtime.gpu.link import (
    OVER,
    RAN,
    REFUSAL_BYTES_MAX,
    RUN,
    Load,
    Reply,
    Request,
    Share,
    Survey,
    Surveyed,
    raised_from,
)
from runtime.gpu.opened import Engine, Lane, Shared
from runtime.gpu.process import Process
from runtime.gpu.program import Program
from runtime.gpu.slots import Slot
from runtime.gpu.standing import Restarts, Standing, State, gone

__all__ = ["Engine", "Lane", "Owner", "Shared", "Standing"]

ANSWER_SECONDS_MAX = 20.0  # of what takes milliseconds


class Owner:
    """One GPU. Thread-safe; see Holder."""

    def __init__(
        self,
        device: str = "0",
        *,
        executions: str = "runtime.gpu.execution:open_execution",
        devices: str = "runtime.gpu.opening:open_device",
        settings: GpuConfig | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Start the process that owns `device`. Raises GpuUnusable, GpuError, EngineError."""
        self.device = device
        self._settings = settings or GpuConfig()
        self._restarts = Restarts(self._settings, clock or SystemClock())
        self._belongings = Belongings(device, self._told, self._settings.run_seconds_max)
        gone = self._belongings.evicted
        self._process = Process(device, devices, executions, self._settings, gone)
        self._numbers = itertools.count(1)
        self._state = State.STARTING
        self._generation = 0
        self._trouble = ""
        self._surveyed = Surveyed()
        # Held by whoever asks the process something, and while everything is brought back.
        self._asking = threading.RLock()
        self._changed = threading.Condition()
        self._loads = 0  # how many began or ended: odd while an engine is loaded
        self._refusals: list[ApplianceError] = []  # of the first start
        self._tending = threading.Thread(target=self._tend, name=f"gpu-{device}", daemon=True)
        self._tending.start()
        with self._changed:
            self._changed.wait_for(lambda: self._state is not State.STARTING)
        for refusal in self._refusals:
            self._tending.join()
            raise refusal

    def load(self, path: Path) -> Engine:
        """Load the engine file at `path`. Raises EngineLoad, GpuMemory, GpuError."""
        with self._steady():
            engine = Engine(self, next(self._numbers), path)
            self._belongings.load(engine)
            self._belongings.engines[engine.number] = engine
        return engine

    def share(self, handle: bytes, size: int) -> Shared:
        """Open `size` bytes that another process shares by the 64 bytes of its handle. Raises GpuError."""
        with self._steady():
            shared = Shared(self, next(self._numbers), handle, size)
            self._told(Share(shared=shared.number, handle=handle, size=size))
            self._belongings.shared[shared.number] = shared
        return shared

    @property
    def ill(self) -> str:
        """Why it cannot run all that it has, "" when it can or has nothing. Asks nobody, waits for nobody."""
        if self._state is not State.READY:
            told = f"GPU {self.device} is {self._state.value}: {self._trouble}"
            return told if self._belongings.engines else ""
        trouble = self._belongings.trouble
        return f"GPU {self.device} did not take an engine back: {trouble}" if trouble else ""

    def resting(self, lane: Lane) -> bool:
        """See Holder."""
        return self._state is not State.READY or lane.line is None

    def standing(self) -> Standing:
        """How it stands, at once: memory is as it was when last somebody could ask."""
        if self._state is State.READY and self._asking.acquire(blocking=False):
            try:
                with suppress(ApplianceError):
                    reply = self._told(Survey())
                    assert isinstance(reply, Surveyed)
                    self._surveyed = reply
            finally:
                self._asking.release()
        told = self._surveyed
        return Standing(
            device=self.device,
            name=told.name,
            state=self._state.value,
            trouble=self._belongings.trouble if self._state is State.READY else self._trouble,
            restarts=self._restarts.count,
            pid=self._process.pid,
            free_bytes=told.free_bytes,
            total_bytes=told.total_bytes,
            engines=tuple(str(e.path) for e in self._belongings.resident()),
            lanes=len(self._belongings.lanes),
            graphs=told.graphs,
            ungraphed=told.ungraphed,
        )

    def close(self) -> None:
        """Give the GPU back. Runs on their way end with GpuLost, and so does a load, which is not waited for."""
        with self._changed:
            if self._state is State.CLOSED:
                return
            ready, self._state = self._state is State.READY, State.CLOSED
            self._changed.notify_all()
        seconds = 0.0 if self._loads % 2 else ANSWER_SECONDS_MAX
        if ready and self._asking.acquire(timeout=seconds):
            try:
                self._process.end(ANSWER_SECONDS_MAX)
            finally:
                self._asking.release()
        self._process.kill()
        self._tending.join()
        for engine in list(self._belongings.engines.values()):
            engine.close()

    def ask(self, request: Request) -> Reply:
        """See Holder."""
        with self._steady():
            return self._told(request)

    def open_lane(self, engine: Engine, slot_bytes: int) -> Lane:
        """See Holder."""
        with self._steady():
            if engine.closed:
                raise EngineError("the engine is closed", remedy="load the version again")
            if engine.evicted:
                self._belongings.load(engine)
            lane = Lane(self, engine, next(self._numbers), Slot.made())
            try:
                lane.memory.grow(slot_bytes)
                self._belongings.open(lane)
            except BaseException:
                lane.memory.close()
                raise
            engine.lanes[lane.number] = self._belongings.lanes[lane.number] = lane
        return lane

    def install(self, lane: Lane, number: int, program: Program) -> None:
        """See Holder."""
        with self._steady():
            self._belongings.line_of(lane)  # if it is not there, the process would not know why
            self._told(lane.installing(number, program))
            lane.programs[number] = program

    def run(self, lane: Lane, number: int) -> None:
        """See Holder."""
        line, generation = self._line(lane)
        try:
            with lane.busy:
                line.send(RUN.pack(number))
                reply = self._awaited(line)
        except TimeoutError:
            reply = b""
            self._mark(generation, f"a batch took over {self._settings.run_seconds_max:g} seconds")
        except OSError:
            reply = b""
        if reply == RAN:
            return
        check_open(lane)
        error = raised_from(reply) if reply else None
        if error is not None and not isinstance(error, OVER):
            raise error
        self._mark(generation, str(error) if error else "its process ended")
        raise gone(self.device, str(error) if error else self._trouble or "its process ended")

    def gone(self, thing: Engine | Lane | Shared, request: Request) -> None:
        """See Holder."""
        self._belongings.forget(thing)
        # After a loss it is simply not brought back.
        with suppress(ApplianceError), self._asking:
            if self._state is State.READY:
                self._told(request)
        self._belongings.forget(thing)  # if it was brought back meanwhile

    def _awaited(self, line: socket.socket) -> bytes:
        """The answer to a run. Raises TimeoutError when none came in time; a load may hold runs up."""
        while True:
            loads = self._loads
            try:
                return line.recv(REFUSAL_BYTES_MAX)
            except TimeoutError:
                if loads == self._loads and not loads % 2:
                    raise

    def _tend(self) -> None:
        """The life of the process: started, waited for, started again."""
        try:
            self._process.start()
        except Exception as error:  # noqa: BLE001 - whoever waits for the start must hear of it
            self._refusals.append(_told_of(error))
            self._process.tidy()
            self._become(State.CLOSED)
            return
        self._ready()
        while not self._is(State.CLOSED):
            rest = self._settings.rest_seconds if self._belongings.wanting_memory else None
            if ending := self._process.wait(rest):
                self._mark(self._generation, f"its process ended {ending}")
                with self._asking:
                    self._process.tidy()
                self._start_again()
            else:
                self._try_again()
        self._process.tidy()

    def _try_again(self) -> None:
        """Bring back what there was no memory for. Whatever goes wrong meanwhile, a fresh process clears it."""
        try:
            with self._asking:
                if self._state is State.READY:
                    self._belongings.try_again()
        except Exception as error:  # noqa: BLE001 - as in _start_again
            self._mark(self._generation, str(error))

    def _start_again(self) -> None:
        """Until it is ready or closed."""
        while not self._is(State.CLOSED):
            journal.event("gpu.lost", device=self.device, reason=self._trouble)
            rest = self._restarts.rest_seconds()
            if rest:
                self._become(State.FAILED)
                with self._changed:
                    self._changed.wait_for(lambda: self._is(State.CLOSED), rest)
                    if self._is(State.CLOSED):
                        return
            try:
                with self._asking:
                    self._process.start()
                    self._belongings.restore()
                    self._ready()  # before anybody else asks, who would take it for lost
            except Exception as error:  # noqa: BLE001 - this thread is all that can try again
                self._trouble = str(error)
                self._process.tidy()
            else:
                return

    def _told(self, request: Request, descriptors: tuple[int, ...] = ()) -> Reply:
        """The process's reply, when `_asking` is held. Raises as Process.ask."""
        loading = isinstance(request, Load)
        seconds = self._settings.load_seconds_max if loading else self._settings.run_seconds_max
        self._loads += loading
        try:
            return self._process.ask(request, descriptors, seconds)
        except GpuLost as lost:
            self._mark(self._generation, str(lost))
            raise
        finally:
            self._loads += loading

    @contextmanager
    def _steady(self) -> Iterator[None]:
        """Inside, nobody else asks, and the process is there unless it dies meanwhile. Raises GpuLost."""
        while True:
            with self._changed:
                self._await_ready()
            with self._asking:
                if self._state is State.READY:
                    yield
                    return

    def _line(self, lane: Lane) -> tuple[socket.socket, int]:
        """The socket of a lane's runs and the generation it is of, once there is one. Raises GpuLost."""
        with self._changed:
            if self._state is not State.READY:
                self._await_ready()
            return self._belongings.line_of(lane), self._generation

    def _await_ready(self) -> None:
        """Wait while it is started again. Raises GpuLost when it rests, or is closed."""
        waiting = (State.STARTING, State.RESTARTING)
        self._changed.wait_for(lambda: self._state not in waiting, self._settings.load_seconds_max)
        if self._state is not State.READY:
            raise gone(self.device, self._trouble or self._state.value)

    def _mark(self, generation: int, trouble: str) -> None:
        """The process of that generation is no use any more: it ends, if it has not by itself."""
        with self._changed:
            if self._state is State.READY and self._generation == generation:
                self._state, self._trouble = State.RESTARTING, trouble
                self._process.kill()
                self._changed.notify_all()

    def _ready(self) -> None:
        self._become(State.READY)
        journal.event("gpu.ready", device=self.device, pid=self._process.pid)

    def _become(self, state: State) -> None:
        with self._changed:
            if self._state is not State.CLOSED:
                self._state = state
                self._generation += state is State.READY
                self._changed.notify_all()

    def _is(self, state: State) -> bool:
        return self._state is state


def _told_of(error: Exception) -> ApplianceError:
    if isinstance(error, ApplianceError):
        return error
    return EngineError(f"the GPU's owner cannot start: {error}", remedy="see the journal")
