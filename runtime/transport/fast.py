"""The fast lane: grpcio's core, driven by one thread.

Knows: how calls are asked for, polled and counted, and how the core is shut down. Rules: one thread polls
and runs the methods, so they must not block; a number of calls is always asked for in advance; over the
limit a call is refused before its message is read. Leaves to others: one call's operations (`calls`),
options and binding (`listening`).
"""

import asyncio
import time
from collections.abc import Callable
from threading import Lock, Thread
from typing import Any

from appliance import journal
from appliance.config import ServerConfig
from runtime.affinity import share_processor
from runtime.certificates import Certificates
from runtime.interceptors import Refusal, not_served, over_limit
from runtime.transport.arriving import FastArrival
from runtime.transport.calls import (
    Event,
    FastCall,
    StreamCall,
    UnaryCall,
    failed,
    refuse,
)
from runtime.transport.core import cygrpc
from runtime.transport.exchange import Admit, Methods, Settle, Streaming, let_in, settled
from runtime.transport.listening import bind, options

# Calls asked for in advance: as many may arrive at once without waiting for the poller.
ASKED_FOR = 64
# Completions that are taken at once, from so many open calls on, and the deadline of a poll that does not wait.
BURST_MAX, ALONE, NOW = 64, 2, 0
# How long cut calls may take to be over.
CUT_SECONDS = 5.0


class FastTransport:
    """A bound server (a Transport). Raises ListenError."""

    def __init__(self, config: ServerConfig, certificates: Certificates | None = None) -> None:
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(tuple(options(config)), False)  # noqa: FBT003 - no xDS
        self._server.register_completion_queue(self._queue)
        self.address = bind(config, self._add_port, certificates)
        self._methods: dict[bytes, Any] = {}
        self._settle: Settle = settled
        self._admit: Admit = let_in
        self._calls_max = config.requests_in_flight_max
        self._over_limit = over_limit(self._calls_max)
        self.refused = 0
        self._running_since = 0.0
        self._calls: set[FastCall] = set()
        # Held for what must not meet the core's end: asking, shutting down, cutting, destroying.
        self._core = Lock()
        self._asked_for = 0
        self._draining = self._shut = self._destroyed = False
        self._thread: Thread | None = None

    @property
    def in_flight(self) -> int:
        """Calls that have begun and whose close has not come."""
        return len(self._calls)

    @property
    def held_seconds(self) -> float:
        """See Transport."""
        since = self._running_since
        return time.monotonic() - since if since else 0.0

    def start(self, methods: Methods, settle: Settle = settled, admit: Admit = let_in) -> None:
        """See Transport."""
        self._settle, self._admit = settle, admit
        self._methods = {path.encode(): method for path, method in methods.items()}
        self._server.start()
        for _ in range(ASKED_FOR):
            self._ask()
        self._thread = Thread(target=self._serve, name="holdfast-wire", daemon=True)
        self._thread.start()

    async def stop(self, seconds: float) -> None:
        """See Transport."""
        if self._thread is None:
            self.start({})  # the core gives a port back only by shutting down
        assert self._thread is not None
        with self._core:
            if not self._draining:
                self._draining = True
                self._server.shutdown(self._queue, self._shut_down)
        await asyncio.to_thread(self._thread.join, seconds)
        if self._thread.is_alive():
            for call in list(self._calls):
                call.watch()
            with self._core:
                if not self._destroyed:
                    self._server.cancel_all_calls()
            await asyncio.to_thread(self._thread.join, CUT_SECONDS)
        if self._thread.is_alive():
            journal.event("transport.stuck", calls=len(self._calls))

    def _add_port(self, address: str, credentials: Any) -> int:
        private = credentials._credentials if credentials else None  # noqa: SLF001 - for the core
        return int(self._server.add_http2_port(address.encode(), private))

    def _ask(self) -> None:
        """Ask the core for one more call, unless it is to take no more."""
        with self._core:
            if self._draining:
                return
            self._server.request_call(self._queue, self._queue, self._arrived)
            self._asked_for += 1

    def _serve(self) -> None:
        """Poll until the core is shut down and every call is over; what completes runs here."""
        share_processor()
        while not (self._shut and not self._calls and not self._asked_for):
            self._run_burst()
        with self._core:
            self._destroyed = True
            self._server.destroy()

    def _run_burst(self) -> None:
        """Wait until something completes, and run it with all that has completed since.

        Polling gives the interpreter to other threads; between the methods of a burst nobody else runs, so
        that their requests meet in one batch, which `settle` runs. Nothing of it is kept alive while the
        next is long in coming.
        """
        poll = self._queue.poll
        burst = [poll()]
        while len(self._calls) > ALONE and len(burst) < BURST_MAX:
            event = poll(NOW)
            if event.tag is None:
                break
            burst.append(event)
        self._running_since = time.monotonic()
        for event in burst:
            self._run(event.tag, event)
        self._run(self._settle)
        self._running_since = 0.0

    def _run(self, then: Callable[..., None], *given: Event) -> None:
        try:
            then(*given)
        except Exception as error:  # noqa: BLE001 - one call must not end all others
            failed(error)

    def _arrived(self, event: Event) -> None:
        self._asked_for -= 1
        if not event.success:
            return  # shutting down
        self._ask()
        method = self._methods.get(event.call_details.method)
        if method is None:
            refuse(event, not_served(event.call_details.method.decode(errors="replace")))
        elif len(self._calls) >= self._calls_max:
            self.refused += 1
            refuse(event, self._over_limit)
        elif isinstance(principal := self._admit(FastArrival(event)), Refusal):
            refuse(event, principal)
        else:
            kind = StreamCall if isinstance(method, Streaming) else UnaryCall
            self._calls.add(kind(event, method, principal, self._let_go))

    def _let_go(self, call: FastCall) -> None:
        """A call is over."""
        self._calls.discard(call)
        if (allowance := call.principal.allowance) is not None:
            allowance.leave()

    def _shut_down(self, _: Event) -> None:
        self._shut = True
