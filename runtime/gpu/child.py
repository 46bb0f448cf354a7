"""The process that owns one GPU.

Knows: its life: begin, answer, end. Rules: one thread does everything, but for loading engines, which another does meanwhile;
while nothing runs it sleeps, while something runs it asks the device in short turns, so that a run's reply waits for nobody; a
broken GPU ends the process at once, after every run on its way was told; it ends with the runtime. It imports neither numba nor grpc.
Leaves to others: what is held (`holding`), starting it again (`owner`).

Run as `python -P -m runtime.gpu.child DESCRIPTOR`, whose socket speaks `link`.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from typing import Any

import msgspec

from appliance.errors import ApplianceError, EngineError, GpuLost
from runtime.gpu.holding import Holding, OpenedLane
from runtime.gpu.link import (
    OVER,
    RAN,
    RUN,
    Begin,
    Done,
    End,
    Load,
    Reply,
    receive_request,
    refusal_bytes,
    refused,
    send,
)

EXIT_FAULT, EXIT_LOST = 1, 70
# A run is asked for without a pause at first, since most are over by then; afterwards with pauses of a fiftieth of
# what it took so far: so a run is answered late by so much at most, and a long one costs the processor little.
EAGER_SECONDS = 0.0003
PAUSE_SHARE = 0.02
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.00002, 0.001
TURN_SECONDS = 0.0001  # runs wait so long for Python's lock while an engine is loaded, instead of Python's 5 ms
_PR_SET_PDEATHSIG, _PR_SET_TIMERSLACK = 1, 29  # prctl(2)


def main() -> int:
    """Hold the GPU until the other side ends it or is gone."""
    control = socket.socket(fileno=int(sys.argv[1]))
    _end_with_parent()
    # systemd sends it to all processes of a unit; the runtime finishes what it has taken on, and then ends this one.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        begin, _ = receive_request(control)
    except EOFError:
        return 0
    assert isinstance(begin, Begin)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, begin.nice)
    try:
        holding = opened(begin)
    except Exception as error:  # noqa: BLE001 - whatever a driver's library raises is told to whoever started this
        send(control, refused(error))
        return 1
    send(control, Done())
    sys.setswitchinterval(TURN_SECONDS)
    try:
        Serving(control, holding).run()
    except Exception:  # noqa: BLE001 - at once: Python would wait for an engine that is being loaded, and runs for Python
        traceback.print_exc()
        os._exit(EXIT_FAULT)
    return 0


def opened(begin: Begin) -> Holding:
    """The device that `begin` names, held by this thread. Raises GpuError."""
    device = named(begin.devices)(begin.device, begin.library)
    return Holding(device, named(begin.executions), begin)


def named(place: str) -> Any:
    """What "room:name" names. Raises EngineError when there is nothing."""
    room, _, name = place.partition(":")
    try:
        return getattr(import_module(room), name)
    except (ImportError, AttributeError) as error:
        raise EngineError(
            f"{place} cannot be had: {error}", remedy="install the extra 'gpu'"
        ) from error


class Serving:
    """Requests from `control` and runs from each lane's own socket, until either side ends.

    While an engine is loaded no other request is answered, but runs are.
    """

    def __init__(self, control: socket.socket, holding: Holding) -> None:
        self._control, self._holding = control, holding
        self._begun = 0.0  # when the latest run was
        self._loader = ThreadPoolExecutor(1, "loader")
        self._loading: Future[Reply] | None = None
        self._loaded = os.eventfd(0)

    def run(self) -> None:
        """Until the end."""
        while True:
            running = self._running()
            lines = {
                opened.connection.fileno(): (number, opened)
                for number, opened in self._holding.lanes.items()
                if opened.connection is not None
            }
            asking = self._loaded if self._loading else self._control.fileno()
            readers = [asking, *lines]
            ready, _, _ = select.select(readers, (), (), self._pause() if running else None)
            try:
                for descriptor in ready:
                    if descriptor in lines:
                        self._begin(*lines[descriptor])
                for opened in self._running():
                    self._look(opened)
                if asking not in ready:
                    continue
                if self._loading:
                    self._finish_load(self._loading)
                elif not self._answer():
                    return
            except OVER as lost:
                self._lost(lost)

    def _running(self) -> list[OpenedLane]:
        return [each for each in self._holding.lanes.values() if each.lane.running is not None]

    def _pause(self) -> float:
        taken = time.monotonic() - self._begun
        if taken < EAGER_SECONDS:
            return 0.0
        return min(max(taken * PAUSE_SHARE, PAUSE_SECONDS_MIN), PAUSE_SECONDS_MAX)

    def _begin(self, number: int, opened: OpenedLane) -> None:
        """Start the run that a lane's socket asks for."""
        assert opened.connection is not None
        try:
            asked = opened.connection.recv(RUN.size)
        except OSError:
            asked = b""
        if not asked:  # its other end is gone
            self._holding.close_lane(number)
            return
        try:
            opened.lane.begin(RUN.unpack(asked)[0])
        except OVER as lost:
            _tell(opened, refusal_bytes(lost))
            raise
        except Exception as error:  # noqa: BLE001 - of one run; the others go on
            _tell(opened, refusal_bytes(error))
        else:
            self._begun = time.monotonic()

    def _look(self, opened: OpenedLane) -> None:
        """Answer a run that is over."""
        installed = opened.lane.running
        if installed is None:
            return
        try:
            if not opened.lane.reached():
                return
        except OVER as lost:
            _tell(opened, refusal_bytes(lost))
            raise
        except Exception as error:  # noqa: BLE001 - as in _begin
            _tell(opened, refusal_bytes(error))
            return
        _tell(opened, RAN)
        opened.lane.settle(installed)

    def _answer(self) -> bool:
        """Answer one request; False when it was the last."""
        try:
            request, descriptors = receive_request(self._control)
        except (EOFError, OSError):
            os._exit(0)  # the runtime is gone: nobody needs the GPU to be tidied up
        if isinstance(request, End):
            self._holding.close()
            send(self._control, Done())
            return False
        if isinstance(request, Load):
            self._loading = self._loader.submit(self._load, request)
            self._loading.add_done_callback(lambda _: os.eventfd_write(self._loaded, 1))
        else:
            self._reply(lambda: self._holding.answer(request, descriptors))
        return True

    def _load(self, request: Load) -> Reply:
        """On the loader's thread."""
        with self._holding.device.entered():
            return self._holding.answer(request, ())

    def _finish_load(self, loading: Future[Reply]) -> None:
        os.eventfd_read(self._loaded)
        self._loading = None
        self._reply(loading.result)

    def _reply(self, answer: Callable[[], Reply]) -> None:
        """Send what `answer` gives, or the error that it raises; GpuLost goes on."""
        try:
            reply = answer()
        except GpuLost as lost:  # what is unusable may be a library, or a client's memory
            send(self._control, refused(lost))
            raise
        except Exception as error:  # noqa: BLE001 - whatever a library raises is the asker's
            reply = refused(error)
        evicted = self._holding.take_evicted()
        send(self._control, msgspec.structs.replace(reply, evicted=evicted) if evicted else reply)

    def _lost(self, lost: ApplianceError) -> None:
        """Tell every run on its way, and end without touching CUDA again: after a sticky error it may hang."""
        for opened in self._running():
            _tell(opened, refusal_bytes(lost))
        os._exit(EXIT_LOST)


def _tell(opened: OpenedLane, data: bytes) -> None:
    """Answer a run. One whose asker is gone needs no answer."""
    assert opened.connection is not None
    with contextlib.suppress(OSError):
        opened.connection.send(data)


def _end_with_parent() -> None:
    """Be killed when the thread that started this process ends, and sleep as short as is asked (prctl(2))."""
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    library.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
