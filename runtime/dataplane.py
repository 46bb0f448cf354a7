"""Answers one request.

Knows: the steps from a call to its answer: route, check, batch, record. Rules: no answer without a
record, and no refusal without one either; a request that does not fit the interface never reaches the
engine; nothing here waits, so that whichever thread carries a request is soon free. Leaves to others:
each step (`runtime.answering`), the wire (`runtime.codec`), batching, loading.
"""

import asyncio
import threading

from appliance.clock import Clock
from appliance.errors import Draining, Overloaded
from runtime.answering import Answering, Request, Rooms, Then
from runtime.metrics import Metrics
from runtime.recorder import Recorder
from runtime.shadowing import Shadowing
from runtime.swap import ServedTable
from runtime.traces import Traces

# With more calls than these the next is worth waiting for: running one at once would keep it from a batch.
INLINE_CALLS_MAX = 2


class DataPlane:
    """Every inference request passes through `infer`."""

    def __init__(
        self,
        *,
        table: ServedTable,
        recorder: Recorder,
        metrics: Metrics,
        clock: Clock,
        bytes_max: int,
        awaited: bool = True,
        traces: Traces | None = None,
    ) -> None:
        """`awaited` says whether a reply waits until its record is durable."""
        shadowing = Shadowing(table, recorder, clock)
        self._rooms = Rooms(table, recorder, shadowing, metrics, traces or Traces(), clock, awaited)
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._calls = self._bytes = 0
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self.draining = False

    def infer(self, request: Request, then: Then, *, deadline_ns: int | None = None) -> Answering:
        """Begin to answer `request`; its tensors are read here, so that a refusal of them is recorded.

        `deadline_ns` is on the clock's monotonic_ns. `then` gets the reply, or UnknownModel,
        UnknownVersion, VersionNotServed, RequestError, Overloaded, Draining, EngineError,
        AuditUnwritable or a fault of our own; it may be called before this returns. Any thread.
        """
        size = request.call.bytes
        with self._lock:
            self._calls += 1
            self._bytes += size
            alone = self._calls <= INLINE_CALLS_MAX

        def ended() -> None:
            self._leave(size)

        answering = Answering(self._rooms, request, then, ended)
        answering.begin(self._no_room(), deadline_ns, may_inline=alone)
        return answering

    async def drain(self, seconds: float, hurry: asyncio.Event) -> None:
        """Refuse what comes from now on; wait for what is running, at most `seconds` or until `hurry`."""
        self.draining = True
        with self._lock:
            running = self._calls
        if not running:
            return
        waits = {asyncio.create_task(event.wait()) for event in (self._idle, hurry)}
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _leave(self, size: int) -> None:
        with self._lock:
            self._calls -= 1
            self._bytes -= size
            last = self.draining and not self._calls
        if last:
            self._loop.call_soon_threadsafe(self._idle.set)

    def _no_room(self) -> Draining | Overloaded | None:
        """Why nothing more is taken, None when there is room."""
        if self.draining:
            return Draining("GRPC server is shutting down", remedy="try again later")
        if self._bytes > self._bytes_max:
            return Overloaded(
                f"requests of {self._bytes} bytes are in flight, more than {self._bytes_max}",
                remedy="send fewer at a time, or raise [server] bytes_in_flight_max",
            )
        return None
