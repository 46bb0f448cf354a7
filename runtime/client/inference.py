"""Inference over any server of the Open Inference Protocol, each call waiting for its answer.

Knows: which call asks what. Rules: a call is tried again on UNAVAILABLE only, within its deadline; an
error is an ApplianceError with a remedy. Leaves to others: messages, arrays, when to try again.
"""

import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from queue import SimpleQueue
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


class InferenceClient:
    """Talks to one server, "host:port" or "unix:path"; use as a context manager, from any thread.

    `deadline_seconds` is for each call, its tries and the waits between them included; a call may name
    its own. `token` goes with every call as a bearer token and needs `tls` unless the server is on this
    box (ConfigError). Time and chance come in as `clock`, `sleep` and `uniform` (draws from [0, 1)).

    Calls raise what a Holdfast raised, as it raised it. Errors of other servers come by their status:
    RequestError, RequestLimit, UnknownModel, Overloaded, else ApplianceError. Without an answer it is
    Unreachable or DeadlinePassed.
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
        sleep: Callable[[float], None] = time.sleep,
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
        self._channel = self._connection.channel()
        self._methods = {
            name: self._channel.unary_unary(SERVICE + name, None, kind.FromString)
            for name, kind in REPLIES.items()
        }
        self._stream = self._channel.stream_stream(
            f"{SERVICE}ModelStreamInfer", None, STREAM_REPLY.FromString
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and the calls on it."""
        self._channel.close()

    def live(self, *, deadline_seconds: float | None = None) -> bool:
        """Whether the server's process answers; one try."""
        return self._holds("live", "ServerLive", b"", deadline_seconds)

    def ready(
        self, model: str = "", version: str = "", *, deadline_seconds: float | None = None
    ) -> bool:
        """Whether the server, or the model (version "": the one in use), can answer now; one try."""
        return self._holds("ready", *readiness(model, version), deadline_seconds)

    def metadata(
        self, model: str, version: str = "", *, deadline_seconds: float | None = None
    ) -> ModelDescription:
        """What the model takes and gives."""
        request = metadata_request(model, version)
        return description_from(self._call("ModelMetadata", request, deadline_seconds)[0])

    def infer(
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
        """Ask `model` one thing: arrays by input name, shapes with the batch axis where there is one.

        `version` "" asks for the one in use, `outputs` () for all. `request_id` names the record; the
        server makes one up for "". `priority` 1 is the highest, 0 the server's default. The request of a
        `sequence` is tried once, since it must not count twice. Any other may
        reach the engine twice when the first answer was lost: its records then share `request_id`. With
        `receipt` a Holdfast tells where the record stands, as "holdfast-record" in `Reply.receipt`.
        """
        request = infer_request(
            model,
            inputs,
            version=version,
            outputs=outputs,
            request_id=request_id,
            priority=priority,
            sequence=sequence,
        )
        told = self._call(
            "ModelInfer",
            request,
            deadline_seconds,
            ONCE if sequence else None,
            also=ASK_RECEIPT if receipt else (),
        )
        return reply_from(*told)

    def stream(
        self,
        model: str,
        requests: Iterable[Inputs],
        *,
        version: str = "",
        outputs: Sequence[str] = (),
        name: str = "",
        window: int = STREAM_WINDOW,
        deadline_seconds: float = STREAM_SECONDS,
    ) -> Iterator[Answer]:
        """Ask many things over one call (ModelStreamInfer); yields a Reply for each, in their order.

        A refused request yields its ApplianceError instead and the stream goes on; when the stream
        itself breaks, that is raised, and nothing is sent again. `window` requests are under way at a
        time: replies come once so many were taken from `requests`, or all. Request ids are `name`-0,
        `name`-1, ...; "" makes up a name. For models that give one answer a request.
        """
        order = Ordered(name or uuid.uuid4().hex)
        sent: SimpleQueue[bytes | None] = SimpleQueue()
        call = self._stream(iter(sent.get, None), timeout=deadline_seconds, metadata=self._metadata)
        try:
            for inputs in requests:
                while order.waiting >= window:
                    yield self._answer(call, order)
                request_id = order.add()
                sent.put(
                    infer_request(
                        model, inputs, version=version, outputs=outputs, request_id=request_id
                    )
                )
            sent.put(None)
            while order.waiting:
                yield self._answer(call, order)
            with suppress(grpc.RpcError):  # all answers are here: how the call ends changes nothing
                deque(call, maxlen=0)
        finally:
            sent.put(None)  # frees gRPC's thread, which waits for the next request
            call.cancel()

    def _answer(self, call: Any, order: Ordered) -> Answer:
        try:
            while (answer := order.next()) is None:
                order.take(next(call))
        except grpc.RpcError as error:
            raise self._connection.told(error) from error
        except StopIteration:
            raise self._connection.cut_short() from None
        return answer

    def _holds(self, field: str, name: str, request: bytes, deadline_seconds: float | None) -> bool:
        try:
            return bool(getattr(self._call(name, request, deadline_seconds, ONCE)[0], field))
        except NOT_READY:
            return False

    def _call(
        self,
        name: str,
        request: bytes,
        deadline_seconds: float | None,
        retry: Retry | None = None,
        also: tuple[tuple[str, str], ...] = (),
    ) -> tuple[Any, Trailing]:
        attempts = self._connection.attempts(deadline_seconds, retry)
        while True:
            try:
                reply, call = self._methods[name].with_call(
                    request, timeout=attempts.seconds_left, metadata=(*self._metadata, *also)
                )
                return reply, pairs(call.trailing_metadata())
            except grpc.RpcError as error:
                wait = self._connection.pause(error, attempts)
            self._sleep(wait)
