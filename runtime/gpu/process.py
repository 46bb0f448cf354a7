"""The process that owns a GPU, from outside: started, asked, killed.

Knows: how it is started and which device it sees. Rules: it sees exactly one device, its own; it imports from where its parent
does; it lives no longer than the thread that started it; it is asked by one thread at a time. Leaves to others: when
(`owner`), what it is asked (`link`).
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping

import msgspec

from appliance.config import GpuConfig
from appliance.errors import GpuLost, GpuUnusable
from runtime.gpu.link import Begin, End, Refused, Reply, Request, raised, receive_reply, send

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
# What systemd tells the service itself: its watchdog, its sockets, its secrets.
UNTOLD = frozenset(
    {
        "CREDENTIALS_DIRECTORY",
        "LISTEN_FDS",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)
# A lane of a version beyond those that run: four streams keep copies and kernels of a GPU busy, more only cost memory.
STREAMS_MAX = 4


class Process:
    """The owner's process for `device`. `pid` is 0 while there is none."""

    def __init__(
        self,
        device: str,
        devices: str,
        executions: str,
        settings: GpuConfig,
        evicted: Callable[[int], None],
    ) -> None:
        """`evicted` is told of each engine that the process closed to make room."""
        self._evicted = evicted
        self._settings = settings
        self._device = device
        self._devices, self._executions = devices, executions
        self._child: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        return self._child.pid if self._child is not None else 0

    def start(self) -> None:
        """Start it and wait until it has the device. Raises what it was refused by, GpuUnusable when it died.

        The calling thread must live as long as the process shall.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(  # noqa: S603 - this interpreter, with a room of ours
                [sys.executable, "-P", "-m", "runtime.gpu.child", str(theirs.fileno())],
                env=environment(os.environ, self._device),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        ours.settimeout(self._settings.load_seconds_max)
        self._control = ours
        try:
            self.ask(self._begin())
        except GpuLost as lost:
            raise GpuUnusable(
                f"the process for GPU {self._device} ended at its start ({self.ending()})",
                remedy="see the journal and `holdfast doctor`",
            ) from lost

    def ask(
        self, request: Request, descriptors: tuple[int, ...] = (), seconds: float | None = None
    ) -> Reply:
        """The reply. Raises the error that it was refused by, GpuLost when none came in time."""
        assert self._control is not None
        try:
            self._control.settimeout(seconds or self._settings.load_seconds_max)
            send(self._control, request, descriptors)
            reply = receive_reply(self._control)
        except (OSError, EOFError, msgspec.DecodeError) as error:
            self.kill()  # what it answers later would be taken for the next reply
            why = f"{type(error).__name__}: {error}" if str(error) else "it ended"
            raise GpuLost(
                f"the owner of GPU {self._device} did not answer ({why})",
                remedy="it starts anew by itself; try again",
            ) from error
        for number in reply.evicted:
            self._evicted(number)
        if isinstance(reply, Refused):
            raise raised(reply)
        return reply

    def wait(self, seconds: float | None = None) -> str:
        """Wait for its end, so many seconds at most; how it ended, "" when it has not."""
        assert self._child is not None
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return ""
        return self.ending()

    def ending(self) -> str:
        """How it ended, in words."""
        assert self._child is not None
        code = self._child.wait()
        return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with status {code}"

    def end(self, seconds: float) -> None:
        """Ask it to give everything back and end."""
        with contextlib.suppress(GpuLost):
            self.ask(End(), seconds=seconds)
            assert self._child is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(seconds)

    def kill(self) -> None:
        """End it, whatever it is at. Any thread."""
        if self._child is not None:
            self._child.kill()

    def tidy(self) -> None:
        """End it if it has not ended, and let go of what is left of it."""
        self.kill()
        if self._child is not None:
            self._child.wait()
        if self._control is not None:
            self._control.close()
            self._control = None

    def _begin(self) -> Begin:
        return Begin(
            device="0",
            devices=self._devices,
            executions=self._executions,
            library=self._settings.library,
            memory_share=self._settings.memory_share,
            streams=min(self._settings.lanes, STREAMS_MAX),
            graphs=self._settings.graphs,
            nice=os.getpriority(os.PRIO_PROCESS, os.getpid()),
        )


def environment(given: Mapping[str, str], device: str) -> dict[str, str]:
    """That of the process, in which `device`, an index or a UUID, is the only one.

    MIG instances can be chosen in no other way (CUDA Programming Guide, CUDA_VISIBLE_DEVICES).
    """
    kept = {name: value for name, value in given.items() if name not in UNTOLD}
    places = os.pathsep.join(place for place in sys.path if place)
    return {**kept, VISIBLE: shown(given, device), ORDER: "PCI_BUS_ID", "PYTHONPATH": places}


def shown(given: Mapping[str, str], device: str) -> str:
    """`device` as a process that sees all of them calls it. Raises GpuUnusable when there are not so many.

    An index counts those that this process sees, in PCI order, as nvidia-smi does. Where some were hidden from this
    process already, it counts those that were left.
    """
    seen = [name.strip() for name in given.get(VISIBLE, "").split(",") if name.strip()]
    if device.isdecimal() and VISIBLE in given:
        if int(device) >= len(seen):
            raise GpuUnusable(
                f"there is no GPU {device}: {VISIBLE} lists {len(seen)}",
                remedy=f"name another in [gpu] devices, or set {VISIBLE} otherwise",
            )
        return seen[int(device)]
    return device
