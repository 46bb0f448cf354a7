"""ModelInfer and ModelStreamInfer: the calls that carry inferences.

Knows: how a message becomes a request and an answer a message. Rules: nothing here waits; a stream's
answers leave in the order of its requests; a bad request of a stream gets an error message and the stream
goes on; a client that does not read is not read from. Leaves to others: answering (`runtime.dataplane`).
"""

import itertools
import threading
import uuid
from collections import deque
from functools import partial

from runtime.answering import Answering, Reply
from runtime.codec import Call, Regions, decode, encode, encode_stream, encode_stream_error
from runtime.dataplane import DataPlane
from runtime.interceptors import refusal
from runtime.protocol import (
    CODE_KEY,
    RECEIPT_KEY,
    RECEIPT_WANTED,
    RECORD_KEY,
    REMEDY_KEY,
    REQUEST_ID_KEY,
)
from runtime.recorder import NO_RECORD
from runtime.transport import Exchange, Methods, Stream, Streaming

_SERVICE = "/inference.GRPCInferenceService"
# The protocol's extensions that these calls serve.
INFERRING = (
    "classification",
    "parameters",
    "schedule_policy",
    "sequence",
    "sequence(string_id)",
)
# What a client sends that wants to know where the record of its request stands.
_ASKED = (RECEIPT_KEY, RECEIPT_WANTED)
STREAM_REQUESTS_MAX = 64  # of one stream, on their way or waiting to be sent


class InferCalls:
    """Both calls as the transport hands them over, on a thread that must not be held."""

    def __init__(self, dataplane: DataPlane, regions: Regions | None) -> None:
        """`regions` None: no shared memory."""
        self._dataplane, self._regions = dataplane, regions

    def methods(self) -> Methods:
        """Both calls by full path."""
        return {
            f"{_SERVICE}/ModelInfer": self.infer,
            f"{_SERVICE}/ModelStreamInfer": Streaming(self.stream),
        }

    def infer(self, message: bytes, exchange: Exchange) -> None:
        """Answer one request; the reply leaves when its audit record is durable.

        A request without an id finds the one it was recorded under in the trailing metadata, and one that
        asks for it the place of its record.
        """
        principal = exchange.principal
        try:
            request = decode(message, peer=exchange.peer, new_id=new_id, regions=self._regions)
        except Exception as error:  # noqa: BLE001 - the edge answers whatever happens
            call = _unread(message, exchange.peer)
            then = partial(_reply, exchange, call)
            self._dataplane.refuse(
                call, error, then, principal=principal, metadata=exchange.metadata
            )
            return
        answering = self._dataplane.infer(
            request,
            partial(_reply, exchange, request.call, placed=_ASKED in exchange.metadata),
            principal=principal,
            deadline_ns=exchange.deadline_ns,
            metadata=exchange.metadata,
        )
        if answering is not None and answering.waiting:
            exchange.on_gone(answering.cancel)

    def stream(self, stream: Stream) -> "InferStream":
        """Answer the requests of one stream, in their order."""
        return InferStream(stream, self._dataplane, self._regions)


def _reply(
    exchange: Exchange, call: Call, result: Reply | Exception, *, placed: bool = False
) -> None:
    """End a unary call with what came of it; `placed`: tell where its record stands."""
    trailing = () if call.sent_id else ((REQUEST_ID_KEY, call.request_id),)
    try:
        if isinstance(result, Reply):
            message = encode(call, version=result.version, outputs=result.outputs)
            if placed and result.record != NO_RECORD:
                trailing = (*trailing, (RECORD_KEY, str(result.record)))
            exchange.reply(message, trailing)
        else:
            exchange.refuse(refusal(result, trailing, request_id=call.request_id))
    except Exception as error:  # noqa: BLE001 - a call without an end would hold its caller for ever
        exchange.refuse(refusal(error, trailing, request_id=call.request_id))


def _stream_error(error: Exception, call: Call) -> bytes:
    """The message that ends a stream's request with an error, with what a status would carry beside it."""
    told = refusal(error, request_id=call.request_id)
    parameters = {
        key.removesuffix("-bin"): value if isinstance(value, str) else value.decode()
        for key, value in told.trailing
        if key in (CODE_KEY, REMEDY_KEY)
    }
    return encode_stream_error(told.details, call, parameters)


def _unread(message: bytes, peer: str) -> Call:
    """What is known of a request that cannot be read."""
    return Call(
        model="",
        version="",
        request_id=new_id(),
        sent_id="",
        peer=peer,
        outputs=(),
        timeout_us=0,
        bytes=len(message),
    )


class _Turn:
    """A request's place in its stream, and its answer once there is one."""

    __slots__ = ("answering", "message")

    def __init__(self) -> None:
        self.answering: Answering | None = None
        self.message: bytes | None = None


class InferStream:
    """The server's side of one ModelStreamInfer (see `runtime.transport.Receiver`)."""

    def __init__(self, stream: Stream, dataplane: DataPlane, regions: Regions | None) -> None:
        self._stream, self._dataplane, self._regions = stream, dataplane, regions
        self._principal, self._metadata = stream.principal, stream.metadata
        self._placed = _ASKED in stream.metadata
        # Answers come on any thread; they are put in order, and sent, under the lock.
        self._lock = threading.Lock()
        self._turns: deque[_Turn] = deque()
        self._reading = False
        self._ended = False
        self._read_on()

    def received(self, message: bytes) -> None:
        """Begin to answer the next request, and ask for the one after it."""
        turn = _Turn()
        with self._lock:
            self._reading = False
            self._turns.append(turn)
        try:
            self._begin(message, turn)
        except Exception as error:  # noqa: BLE001 - one bad request must not end the stream
            self._send(turn, encode_stream_error(refusal(error).details))
        self._read_on()

    def ended(self) -> None:
        """The client sends no more: finish when the last answer is out."""
        with self._lock:
            self._ended = True
            self._finish_if_done()

    def sent(self) -> None:
        """An answer left: there is room for another request."""
        self._read_on()

    def gone(self) -> None:
        """The client left: what still waits never reaches the engine."""
        with self._lock:
            turns = list(self._turns)
            self._turns.clear()
            self._ended = True
        for turn in turns:
            if turn.answering is not None:
                turn.answering.cancel()

    def _begin(self, message: bytes, turn: _Turn) -> None:
        peer = self._stream.peer
        try:
            request = decode(message, peer=peer, new_id=new_id, regions=self._regions)
        except Exception as error:  # noqa: BLE001 - as in received
            call = _unread(message, peer)
            then = partial(self._answered, turn, call)
            self._dataplane.refuse(
                call, error, then, principal=self._principal, metadata=self._metadata
            )
            return
        then = partial(self._answered, turn, request.call)
        turn.answering = self._dataplane.infer(
            request, then, principal=self._principal, metadata=self._metadata, streamed=True
        )

    def _answered(self, turn: _Turn, call: Call, result: Reply | Exception) -> None:
        try:
            if isinstance(result, Reply):
                placed = self._placed and result.record != NO_RECORD
                told = encode_stream(
                    call,
                    version=result.version,
                    outputs=result.outputs,
                    record=result.record if placed else None,
                )
            else:
                told = _stream_error(result, call)
        except Exception as error:  # noqa: BLE001 - the stream would wait for this turn for ever
            told = _stream_error(error, call)
        self._send(turn, told)

    def _send(self, turn: _Turn, message: bytes) -> None:
        """Send a turn's message once all before it have left."""
        with self._lock:
            turn.message = message
            while self._turns and self._turns[0].message is not None:
                self._stream.send(self._turns.popleft().message or b"")
            self._finish_if_done()
        self._read_on()

    def _read_on(self) -> None:
        """Ask for the next request while few enough are open; one at a time."""
        with self._lock:
            full = len(self._turns) + self._stream.unsent >= STREAM_REQUESTS_MAX
            if self._reading or self._ended or full:
                return
            self._reading = True
        self._stream.read()

    def _finish_if_done(self) -> None:
        if self._ended and not self._turns:
            self._stream.finish()


_BOOT = uuid.uuid4().hex[:16]
_NUMBERS = itertools.count()


def new_id() -> str:
    """An id for a request that came without one, 32 hex digits: this process's and a number of its own."""
    return f"{_BOOT}{next(_NUMBERS):016x}"
