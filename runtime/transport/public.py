"""The public lane: grpcio's published asyncio server behind the same interface.

Knows: `grpc.aio`. Rules: methods run on the event loop's thread and endings from other threads cross over
to it; the caller's leaving arrives as the cancellation of its coroutine. Leaves to others: options and
binding (`listening`).
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import grpc

from appliance.config import ServerConfig
from runtime.access import Principal
from runtime.certificates import Certificates
from runtime.interceptors import Refusal, not_one_message, not_served, over_limit, refusal, unfit
from runtime.transport.exchange import (
    Admit,
    Metadata,
    Methods,
    Receiver,
    Settle,
    Streaming,
    Unary,
    let_in,
    on_monotonic,
    settled,
)
from runtime.transport.listening import bind, options

# A reply and its trailing metadata, or a refusal.
Ending = tuple[bytes, Metadata] | Refusal
# What gRPC carries as metadata ("Custom-Metadata" in its PROTOCOL-HTTP2.md).
KEY, VALUE = re.compile(r"[0-9a-z_.-]+"), re.compile(r"[ -~]*")


class PublicTransport(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """A bound server (a Transport). Made within the running event loop. Raises ListenError."""

    def __init__(self, config: ServerConfig, certificates: Certificates | None = None) -> None:
        self._server = grpc.aio.server(options=options(config))
        self.address = bind(config, self._add_port, certificates)
        self._calls_max = config.requests_in_flight_max
        self._over_limit = over_limit(self._calls_max)
        self.refused = 0
        # Methods run on the event loop: what holds it starves the watchdog itself.
        self.held_seconds = 0.0
        self._methods: Methods = {}
        self._settle: Settle = settled
        self._admit: Admit = let_in
        self._starting: asyncio.Task[None] | None = None
        self.in_flight = 0

    def start(self, methods: Methods, settle: Settle = settled, admit: Admit = let_in) -> None:
        """See Transport."""
        self._methods, self._settle, self._admit = methods, settle, admit
        self._server.add_generic_rpc_handlers((self,))
        self._starting = asyncio.get_running_loop().create_task(self._server.start())

    async def stop(self, seconds: float) -> None:
        """See Transport."""
        if self._starting is None:
            self.start({})  # grpcio gives a port back only by shutting down
        assert self._starting is not None
        await self._starting
        await self._server.stop(seconds)

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """The handler of one call (see grpc.GenericRpcHandler); messages stay bytes."""
        method = self._methods.get(details.method)
        if method is None:
            return grpc.stream_stream_rpc_method_handler(_refuse(not_served(details.method)))
        if self.in_flight >= self._calls_max:
            self.refused += 1
            return grpc.stream_stream_rpc_method_handler(_refuse(self._over_limit))
        if isinstance(method, Streaming):
            served = self._counted(_stream, details.method, method)
            return grpc.stream_stream_rpc_method_handler(served)
        # By this shape grpcio leaves the reading to us: nobody's message is read before it is known whose it is.
        return grpc.stream_unary_rpc_method_handler(self._counted(_answer, details.method, method))

    def _add_port(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        if credentials is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, credentials)

    def _counted(
        self, serve: Callable[..., Any], path: str, method: Unary | Streaming
    ) -> Callable[..., Any]:
        async def served(_: object, context: Any) -> Any:
            principal = self._admit(PublicArrival(path, context))
            if isinstance(principal, Refusal):
                await context.abort(*principal)
                return None
            self.in_flight += 1
            try:
                return await serve(method, context, principal, self._settle)
            finally:
                self.in_flight -= 1
                if principal.allowance is not None:
                    principal.allowance.leave()

        return served


class PublicArrival:
    """A call that nobody has looked at yet (see `runtime.access.Arrival`)."""

    def __init__(self, method: str, context: Any) -> None:
        self._context = context
        self.method = method
        self.peer: str = context.peer()
        self.metadata: Metadata = context.invocation_metadata()

    def shown(self) -> Mapping[str, Sequence[bytes]]:
        """What TLS tells of the connection."""
        told: Mapping[str, Sequence[bytes]] = self._context.auth_context()
        return told


class PublicCall:
    """What unary and streaming calls share: who calls."""

    def __init__(self, context: Any, principal: Principal) -> None:
        self._loop = asyncio.get_running_loop()
        self.peer: str = context.peer()
        self.principal = principal
        self.metadata: Metadata = context.invocation_metadata()
        left = context.time_remaining()
        self.deadline_ns = None if left is None else on_monotonic(left)

    def _soon(self, then: Callable[..., object], *given: object) -> None:
        """Have the loop call `then`; a loop that is closed has no calls left."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(then, *given)


class PublicUnary(PublicCall):
    """One request, one answer (an Exchange)."""

    def __init__(self, context: Any, principal: Principal) -> None:
        super().__init__(context, principal)
        self.ending: asyncio.Future[Ending] = self._loop.create_future()
        self._then: Callable[[], object] | None = None
        self._gone = False

    def reply(self, message: bytes, trailing: Metadata = ()) -> None:
        """See Exchange."""
        self._soon(self._end, (message, trailing))

    def refuse(self, refusal: Refusal) -> None:
        """See Exchange."""
        self._soon(self._end, refusal)

    def on_gone(self, then: Callable[[], object]) -> None:
        """See Exchange."""
        self._soon(self._follow, then)

    def leave(self) -> None:
        """The caller left."""
        self._gone = True
        then, self._then = self._then, None
        if then:
            then()

    def _end(self, ending: Ending) -> None:
        self._then = None  # it and what it belongs to would keep each other alive
        if not self.ending.done():
            self.ending.set_result(ending)

    def _follow(self, then: Callable[[], object]) -> None:
        if self._gone:
            then()
        elif not self.ending.done():
            self._then = then


class PublicStream(PublicCall):
    """Any number of messages each way (a Stream)."""

    def __init__(self, context: Any, principal: Principal) -> None:
        super().__init__(context, principal)
        self.queue: deque[bytes] = deque()
        self.wanted = asyncio.Semaphore(0)
        self.changed = asyncio.Event()
        self.ending: tuple[Refusal | None, Metadata] | None = None

    @property
    def unsent(self) -> int:
        """See Stream."""
        return len(self.queue)

    def read(self) -> None:
        """See Stream."""
        self._soon(self.wanted.release)

    def send(self, message: bytes) -> None:
        """See Stream."""
        if self.ending is None:
            self.queue.append(message)
            self._soon(self.changed.set)

    def finish(self, refusal: Refusal | None = None, trailing: Metadata = ()) -> None:
        """See Stream."""
        if self.ending is None:
            self.ending = (refusal, trailing)
            self._soon(self.changed.set)


def _refuse(refused: Refusal) -> Callable[..., Any]:
    async def refuse(_: object, context: Any) -> None:
        await context.abort(*refused)

    return refuse


async def _answer(
    method: Unary, context: Any, principal: Principal, settle: Settle
) -> bytes | None:
    """Serve one unary call."""
    message = await context.read()
    if message is grpc.aio.EOF:  # type: ignore[attr-defined]
        await context.abort(*not_one_message())
        return None
    exchange = PublicUnary(context, principal)
    try:
        method(message, exchange)
        settle()
    except Exception as error:  # noqa: BLE001 - the edge answers whatever happens
        exchange.refuse(refusal(error))
    del message
    try:
        ending = await exchange.ending
    except asyncio.CancelledError:
        exchange.leave()
        raise
    if isinstance(ending, Refusal):
        await context.abort(*_fit(ending))
        return None
    reply, trailing = ending
    if trailing:
        unfit = _unfit(trailing)
        if unfit:
            await context.abort(*unfit)
        context.set_trailing_metadata(trailing)
    return reply


async def _stream(method: Streaming, context: Any, principal: Principal, settle: Settle) -> None:
    """Serve one streaming call."""
    stream = PublicStream(context, principal)
    try:
        receiver = method.open(stream)
    except Exception as error:  # noqa: BLE001 - the edge answers whatever happens
        await context.abort(*_fit(refusal(error)))
        return
    reading = asyncio.create_task(_read(stream, receiver, context, settle))
    try:
        refused = await _write(stream, receiver, context)
    except BaseException:  # the caller left, in whatever form grpcio says so
        stream.ending = stream.ending or (None, ())
        stream.queue.clear()
        receiver.gone()
        raise
    finally:
        reading.cancel()
    if refused:
        await context.abort(*refused)


async def _read(stream: PublicStream, receiver: Receiver, context: Any, settle: Settle) -> None:
    """Hand over what the receiver asks for, one message a read."""
    while True:
        await stream.wanted.acquire()
        try:
            message = await context.read()
        except (asyncio.CancelledError, grpc.aio.BaseError):
            return
        if stream.ending is not None:
            return
        if message is grpc.aio.EOF:  # type: ignore[attr-defined]
            _tell(stream, receiver.ended)
            return
        _tell(stream, receiver.received, message)
        _tell(stream, settle)


async def _write(stream: PublicStream, receiver: Receiver, context: Any) -> Refusal | None:
    """Send what is queued until the stream is finished; returns the refusal that it ends with."""
    while True:
        await stream.changed.wait()
        stream.changed.clear()
        while stream.queue:
            await context.write(stream.queue[0])
            stream.queue.popleft()
            _tell(stream, receiver.sent)
        # Another thread may have sent and finished since the queue was looked at.
        if stream.ending is not None and not stream.queue:
            break
    refused, trailing = stream.ending
    if refused or (refused := _unfit(trailing)):
        return _fit(refused)
    context.set_trailing_metadata(trailing)
    return None


def _tell(stream: PublicStream, then: Callable[..., None], *given: object) -> None:
    try:
        then(*given)
    except Exception as error:  # noqa: BLE001 - the edge answers whatever happens
        stream.finish(refusal(error))


def _fit(refused: Refusal) -> Refusal:
    return _unfit(refused.trailing) or refused


def _unfit(trailing: Metadata) -> Refusal | None:
    """A refusal in place of metadata that HTTP/2 does not carry, which grpc.aio would end in silence."""
    for key, value in trailing:
        plain = isinstance(value, str) and VALUE.fullmatch(value)
        if not (KEY.fullmatch(key) and (key.endswith("-bin") or plain)):
            return unfit()
    return None
