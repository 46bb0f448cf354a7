"""Looks at the GPUs again and again, beside all else.

Knows: the newest look. Rules: it begins when somebody asks while a GPU is in use, so that a box without one pays nothing; the
library is asked on a thread of its own, since it hangs when a GPU falls off the bus; a look that is too old is shown to
nobody. Leaves to others: the library (`telemetry`), showing it (`runtime.metrics`, `runtime.services`).
"""

from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Protocol

from appliance import journal
from appliance.clock import Clock
from appliance.errors import GpuUnusable

if TYPE_CHECKING:
    from runtime.gpu.telemetry import Reading

INTERVAL_SECONDS = 5.0
AGE_SECONDS_MAX = 4 * INTERVAL_SECONDS
CLOSING_SECONDS_MAX = 1.0


class Source(Protocol):
    """What is looked through (see `telemetry.Telemetry`)."""

    def read(self) -> "tuple[Reading, ...]":
        """One look at each GPU."""

    def close(self) -> None:
        """Nothing is asked afterwards."""


class GpuWatch:
    """The newest look at the GPUs.

    `opened` opens the library and may raise GpuUnusable, which is told once; `in_use` says whether a GPU is used.
    """

    def __init__(
        self,
        opened: Callable[[], Source],
        in_use: Callable[[], bool],
        clock: Clock,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._opened, self._in_use, self._clock = opened, in_use, clock
        self._interval_seconds = interval_seconds
        self._lock, self._ended = Lock(), Event()
        self._thread: Thread | None = None
        self._newest: tuple[int, tuple[Reading, ...]] = (0, ())
        self._told = False

    def newest(self) -> "tuple[Reading, ...]":
        """What was seen last; nothing before the first look, or when there was none lately. From any thread."""
        with self._lock:
            if self._thread is None and self._in_use() and not self._ended.is_set():
                # A daemon: one that hangs in the library must not hold up the process's end.
                self._thread = Thread(target=self._look, name="gpu-watch", daemon=True)
                self._thread.start()
        taken_ns, readings = self._newest
        fresh = self._clock.monotonic_ns() - taken_ns <= AGE_SECONDS_MAX * 1e9
        return readings if fresh else ()

    def close(self) -> None:
        """End the looking; a thread that hangs is left behind."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(CLOSING_SECONDS_MAX)

    def _look(self) -> None:
        """Until the end; when the library cannot be opened, again each time."""
        source: Source | None = None
        while True:
            source = source or self._open()
            if source is not None:
                self._newest = self._clock.monotonic_ns(), source.read()
            if self._ended.wait(self._interval_seconds):
                break
        if source is not None:
            source.close()

    def _open(self) -> Source | None:
        try:
            return self._opened()
        except GpuUnusable as error:
            if not self._told:
                journal.failure("gpu.telemetry", error)
                self._told = True
            return None
