"""Answers one request.

Knows: the steps from a call to its answer: route, check, batch, record. Rules: no answer without a
record, and no refusal without one either; a request that does not fit the interface never reaches the
engine; nothing here waits, so that whichever thread carries a request is soon free. Leaves to others:
each step (`runtime.answering`), the wire (`runtime.codec`), batching, loading.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeAlias

from appliance.clock import Clock
from appliance.errors import AccessError, ApplianceError, Draining, Overloaded
from runtime.access import ANYONE, Allowance, Principal
from runtime.answering import Answering, Request, Rooms, Then
from runtime.batching import Batcher
from runtime.codec import Call
from runtime.evidence import Keeper
from runtime.metrics import Metrics
from runtime.recorder import Recorder
from runtime.shadowing import Shadowing
from runtime.swap import ServedTable
from runtime.traces import Metadata, Traces

# Has a refusal of the door recorded.
KeptOut: TypeAlias = Callable[[AccessError, Call, Principal], None]


def unrecorded(_: AccessError, __: Call, ___: Principal) -> None:
    """Nobody records it: where there is no door."""


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
        keeper: Keeper | None = None,
        kept_out: KeptOut = unrecorded,
    ) -> None:
        """`awaited` says whether a reply waits until its record is durable; `kept_out` records for the door."""
        self._kept_out = kept_out
        shadowing = Shadowing(table, recorder, clock)
        self._rooms = Rooms(
            table, recorder, shadowing, metrics, traces or Traces(), clock, awaited, keeper
        )
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._calls = self._bytes = 0
        self._gathered: set[Batcher] = set()
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self.draining = False
        # Why nothing is answered for now, such as a full disk; set by whoever watches it.
        self.refusing: ApplianceError | None = None

    def infer(
        self,
        request: Request,
        then: Then,
        *,
        principal: Principal = ANYONE,
        deadline_ns: int | None = None,
        metadata: Metadata = (),
        streamed: bool = False,
    ) -> Answering | None:
        """Begin to answer `request`; its tensors are read here, so that a refusal of them is recorded.

        `principal` is who asks, as let in; `deadline_ns` is on the clock's monotonic_ns;
        `metadata` is the caller's, which may name the trace that the request belongs to; `streamed` says
        that it is one of many of a call, so that the door has not counted it. `then` gets the reply, or
        UnknownModel, UnknownVersion, VersionNotServed, RequestError, Overloaded, Draining, EngineError,
        AuditUnwritable or a fault of our own; it may be called before this returns. Who may not ask this,
        or not yet, gets an AccessError at once, and None is returned: such a refusal is recorded as the
        door's are. The thread that brings requests calls `settle` after them. Any thread.
        """
        call = request.call
        if principal is not ANYONE:
            try:
                principal.begin(
                    call.model, call.bytes, self._rooms.clock.monotonic_ns() if streamed else None
                )
            except AccessError as error:
                self._kept_out(error, call, principal)
                then(error)
                return None
        answering = self._answering(call, principal, then, metadata, principal.allowance)
        no_room = self._no_room()
        if no_room is not None:
            answering.refuse(no_room)
        else:
            answering.begin(request, deadline_ns, self._gathered.add)
        return answering

    def settle(self) -> None:
        """Run what `infer` left for its thread: to be called there, after a burst of requests."""
        while self._gathered:
            self._gathered.pop().run_gathered()

    def refuse(
        self,
        call: Call,
        error: Exception,
        then: Then,
        *,
        principal: Principal = ANYONE,
        metadata: Metadata = (),
    ) -> None:
        """Record that what came as `call` is refused with `error`, then tell `then`; the rest as in `infer`."""
        self._answering(call, principal, then, metadata).refuse(error)

    async def drain(self, seconds: float, hurry: asyncio.Event) -> None:
        """Refuse what comes from now on; wait for what is running, at most `seconds` or until `hurry`."""
        with self._lock:
            self.draining = True
            running = self._calls
        if not running:
            return
        waits = {asyncio.create_task(event.wait()) for event in (self._idle, hurry)}
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _answering(
        self,
        call: Call,
        principal: Principal,
        then: Then,
        metadata: Metadata,
        allowance: Allowance | None = None,
    ) -> Answering:
        """A request that has come. Once draining it is not counted: refusals without end are no work to wait for."""
        with self._lock:
            size = 0 if self.draining else call.bytes
            calls = 0 if self.draining else 1
            self._calls += calls
            self._bytes += size
        ended = partial(self._leave, calls, size)
        if allowance is not None:
            ended = partial(_give_back, allowance, call.bytes, ended)
        return Answering(self._rooms, call, principal.name, then, ended, metadata=metadata)

    def _leave(self, calls: int, size: int) -> None:
        with self._lock:
            self._calls -= calls
            self._bytes -= size
            last = self.draining and not self._calls
        if last:
            with suppress(RuntimeError):  # the loop has ended: nobody waits
                self._loop.call_soon_threadsafe(self._idle.set)

    def _no_room(self) -> ApplianceError | None:
        """Why nothing more is taken, None when there is room."""
        if self.draining:
            return Draining("GRPC server is shutting down", remedy="try again later")
        if self._bytes > self._bytes_max:
            return Overloaded(
                f"requests of {self._bytes} bytes are in flight, more than {self._bytes_max}",
                remedy="send fewer at a time, or raise [server] bytes_in_flight_max",
            )
        return self.refusing


def _give_back(allowance: Allowance, size: int, ended: Callable[[], None]) -> None:
    allowance.give(size)
    ended()
