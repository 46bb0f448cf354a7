"""Servicer coroutines as methods of a transport.

Knows: how a call crosses from the transport to the asyncio loop and back. Rules: the request is parsed on
the loop, off the transport's thread; what the coroutine raises leaves by the one table; a caller that
leaves cancels it. Leaves to others: what the coroutine does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from appliance.errors import Draining, RequestError
from runtime.interceptors import refusal
from runtime.transport.exchange import Exchange, Metadata, Unary


class Message(Protocol):
    """A protobuf message, as far as it matters here."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """The bytes that travel."""


class MessageClass(Protocol):
    """Its class."""

    def FromString(self, message: bytes, /) -> Any:  # noqa: N802 - protobuf's name
        """A message from its bytes. Raises DecodeError."""


class LoopContext:
    """What a servicer coroutine is given beside its request: the part of grpc.aio's that is used here."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._peer, self.principal = exchange.peer, exchange.principal
        self._trailing: Metadata = ()

    def peer(self) -> str:
        """The caller's address, as "ipv4:10.0.0.7:40212"."""
        return self._peer

    def invocation_metadata(self) -> Metadata:
        """As the client sent it."""
        return self._exchange.metadata

    def set_trailing_metadata(self, trailing: Iterable[tuple[str, str | bytes]]) -> None:
        """Send this after the reply or with the refusal."""
        self._trailing = tuple(trailing)

    def trailing_metadata(self) -> Metadata:
        """What was set so far."""
        return self._trailing


def on_loop(
    method: Callable[[Any, Any], Awaitable[Message]],
    request_class: MessageClass,
    loop: asyncio.AbstractEventLoop,
) -> Unary:
    """Return a method that runs `await method(request, context)` on `loop`, where it may take its time.

    Bytes that are no request of this class are refused as INVALID_ARGUMENT; a loop that is closed
    already as UNAVAILABLE.
    """
    running: set[asyncio.Task[None]] = set()

    async def answer(message: bytes, exchange: Exchange) -> None:
        context = LoopContext(exchange)
        try:
            reply = await method(_parsed(request_class, message), context)
            exchange.reply(reply.SerializeToString(), context.trailing_metadata())
        except Exception as error:  # noqa: BLE001 - the edge answers whatever happens
            exchange.refuse(refusal(error, context.trailing_metadata()))

    def start(message: bytes, exchange: Exchange) -> None:
        task = loop.create_task(answer(message, exchange))
        running.add(task)
        task.add_done_callback(running.discard)
        exchange.on_gone(partial(_soon, loop, task.cancel))

    def unary(message: bytes, exchange: Exchange) -> None:
        if not _soon(loop, start, message, exchange):
            stopped = Draining("the server is stopping", remedy="try again, or another server")
            exchange.refuse(refusal(stopped))

    return unary


def _parsed(request_class: MessageClass, message: bytes) -> Any:
    try:
        return request_class.FromString(message)
    except DecodeError as error:
        raise RequestError(
            "the bytes are no request of this method", remedy="use the protocol's own messages"
        ) from error


def _soon(loop: asyncio.AbstractEventLoop, then: Callable[..., object], *given: object) -> bool:
    """Have `loop` call `then`; False when it is closed."""
    try:
        loop.call_soon_threadsafe(then, *given)
    except RuntimeError:
        return False
    return True
