"""Inference over any server of the Open Inference Protocol, for asyncio.

Knows: the same calls as `runtime.client.inference`, awaited. Rules: as there; a call that its task is
cancelled in is cancelled on the wire. Leaves to others: messages, arrays, when to try again.
"""

import asyncio
import random
import uuid
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import grpc

from appliance.clock import Clock, SystemClock
from runtime.client.connection import (
    DEADLINE_SECONDS,
    NOT_READY,
    STREAM_SECONDS,
    STREAM_WINDOW,
    Connection,
    Tls,
)
from runtime.client.failures import Trailing, pairs
from runtime.client.messages import (
    ASK_RECEIPT,
    REPLIES,
    SERVICE,
    STREAM_REPLY,
    Inputs,
    ModelDescription,
    Reply,
    Sequenced,
    description_from,
    infer_request,
    metadata_request,
    readiness,
    reply_from,
)
from runtime.client.ordered import Answer, Ordered
from runtime.client.retry import ONCE, RETRY, Retry


class AsyncInferenceClient:
    """`InferenceClient` for asyncio: make and use it in one running loop, by `async with`.

    The same arguments, calls and errors; `sleep` is awaited. Any number of calls may run at a time.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: Tls | None = None,
        token: str = "",
        deadline_seconds: float = DEADLINE_SECONDS,
        retry: Retry = RETRY,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._connection = Connection(
            address=address,
            tls=tls,
            token=token,
            deadline_seconds=deadline_seconds,
            retry=retry,
            clock=clock or SystemClock(),
            uniform=uniform,
        )
        self._metadata = self._connection.metadata()
        self._sleep = sleep
        channel: Any = self._connection.channel(grpc.aio)
        self._channel = channel
        self._methods = {
            name: channel.unary_unary(SERVICE + name, None, kind.FromString)
            for name, kind in REPLIES.items()
        }
        self._stream = channel.stream_stream(
            f"{SERVICE}ModelStreamInfer", None, STREAM_REPLY.FromString
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection and the calls on it."""
        await self._channel.close()

    async def live(self, *, deadline_seconds: float | None = None) -> bool:
        """As `InferenceClient.live`."""
        return await self._holds("live", "ServerLive", b"", deadline_seconds)

    async def ready(
        self, model: str = "", version: str = "", *, deadline_seconds: float | None = None
    ) -> bool:
        """As `InferenceClient.ready`."""
        return await self._holds("ready", *readiness(model, version), deadline_seconds)

    async def metadata(
        self, model: str, version: str = "", *, deadline_seconds: float | None = None
    ) -> ModelDescription:
        """As `InferenceClient.metadata`."""
        request = metadata_request(model, version)
        return description_from((await self._call("ModelMetadata", request, deadline_seconds))[0])

    async def infer(
        self,
        model: str,
        inputs: Inputs,
        *,
        version: str = "",
        outputs: Sequence[str] = (),
        request_id: str = "",
        deadline_seconds: float | None = None,
        priority: int = 0,
        sequence: Sequenced | None = None,
        receipt: bool = False,
    ) -> Reply:
        """As `InferenceClient.infer`."""
        request = infer_request(
            model,
            inputs,
            version=version,
            outputs=outputs,
            request_id=request_id,
            priority=priority,
            sequence=sequence,
        )
        told = await self._call(
            "ModelInfer",
            request,
            deadline_seconds,
            ONCE if sequence else None,
            also=ASK_RECEIPT if receipt else (),
        )
        return reply_from(*told)

    async def stream(
        self,
        model: str,
        requests: AsyncIterable[Inputs] | Iterable[Inputs],
        *,
        version: str = "",
        outputs: Sequence[str] = (),
        name: str = "",
        window: int = STREAM_WINDOW,
        deadline_seconds: float = STREAM_SECONDS,
    ) -> AsyncIterator[Answer]:
        """As `InferenceClient.stream`; close it (contextlib.aclosing) when you leave it early."""
        order = Ordered(name or uuid.uuid4().hex)
        sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        call = self._stream(_fed(sent), timeout=deadline_seconds, metadata=self._metadata)
        replies = aiter(call)
        try:
            async for inputs in _each(requests):
                while order.waiting >= window:
                    yield await self._answer(replies, order)
                request_id = order.add()
                sent.put_nowait(
                    infer_request(
                        model, inputs, version=version, outputs=outputs, request_id=request_id
                    )
                )
            sent.put_nowait(None)
            while order.waiting:
                yield await self._answer(replies, order)
            with suppress(grpc.RpcError):  # all answers are here: how the call ends changes nothing
                async for _ in replies:
                    pass
        finally:
            call.cancel()

    async def _answer(self, replies: Any, order: Ordered) -> Answer:
        try:
            while (answer := order.next()) is None:
                order.take(await anext(replies))
        except grpc.RpcError as error:
            raise self._connection.told(error) from error
        except StopAsyncIteration:
            raise self._connection.cut_short() from None
        return answer

    async def _holds(
        self, field: str, name: str, request: bytes, deadline_seconds: float | None
    ) -> bool:
        try:
            reply, _ = await self._call(name, request, deadline_seconds, ONCE)
        except NOT_READY:
            return False
        return bool(getattr(reply, field))

    async def _call(
        self,
        name: str,
        request: bytes,
        deadline_seconds: float | None,
        retry: Retry | None = None,
        also: tuple[tuple[str, str], ...] = (),
    ) -> tuple[Any, Trailing]:
        attempts = self._connection.attempts(deadline_seconds, retry)
        while True:
            call = self._methods[name](
                request, timeout=attempts.seconds_left, metadata=(*self._metadata, *also)
            )
            try:
                return await call, pairs(await call.trailing_metadata())
            except grpc.RpcError as error:
                wait = self._connection.pause(error, attempts)
            await self._sleep(wait)


async def _fed(sent: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (message := await sent.get()) is not None:
        yield message


async def _each(requests: AsyncIterable[Inputs] | Iterable[Inputs]) -> AsyncIterator[Inputs]:
    if isinstance(requests, AsyncIterable):
        async for inputs in requests:
            yield inputs
    else:
        for inputs in requests:
            yield inputs
