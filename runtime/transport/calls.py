"""Calls of the fast lane, in terms of grpcio's core operations.

Knows: which operations a unary and a streaming call are made of, and in which order they complete. Rules:
the poller's thread runs what completes, any thread ends a call; a lock taken once is who ended it; the
core's call is let go when its close has come, so nothing outlives it. Leaves to others: polling, limits,
which calls there are (`fast`).

A batch of operations is started with a function as its tag; the poller calls it with the event when all
of the batch have completed (grpc/_server.py drives the core the same way).
"""

import time
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any, Protocol, TypeAlias

from grpc import StatusCode

from appliance import journal
from runtime.access import Principal
from runtime.interceptors import Refusal, not_one_message, refusal, unfit
from runtime.transport.core import cygrpc
from runtime.transport.exchange import Metadata, Receiver, Streaming, Unary, on_monotonic

# Types of grpcio's private layer, which has no stubs.
Event: TypeAlias = Any
CoreCall: TypeAlias = Any

OK = StatusCode.OK.value[0]
ACCEPTED = 0  # GRPC_CALL_OK
FLAGS = 0
# A deadline later than this many seconds from now is none: the core's endless one comes as a huge number.
DEADLINE_SECONDS_MAX = 10 * 365 * 86_400.0


class LetGo(Protocol):
    """Who counts the calls."""

    def __call__(self, call: "FastCall", /) -> None:
        """The call is over."""


class FastCall:
    """What unary and streaming calls share: who calls, and the one ending."""

    __slots__ = ("_core", "_deadline", "_let_go", "_open", "_peer", "metadata", "principal")

    def __init__(self, event: Event, principal: Principal, let_go: LetGo) -> None:
        self._core: CoreCall | None = event.call
        self.principal = principal
        self._let_go = let_go
        self._open = Lock()
        self._deadline: float = event.call_details.deadline
        self._peer: str | None = None
        self.metadata: Metadata = event.invocation_metadata

    @property
    def peer(self) -> str:
        """See Caller."""
        if self._peer is None:
            self._peer = core.peer().decode() if (core := self._core) else ""
        return self._peer

    @property
    def deadline_ns(self) -> int | None:
        """See Caller."""
        left = self._deadline - time.time()
        return on_monotonic(left) if left < DEADLINE_SECONDS_MAX else None

    def watch(self) -> None:
        """Learn of the call's close before it is ended, if that is not so from its start."""

    def _ends(self) -> bool:
        """True for the first who asks."""
        return self._open.acquire(blocking=False)

    def _status(self, refused: Refusal | None, trailing: Metadata) -> Any:
        if refused is None:
            return cygrpc.SendStatusFromServerOperation(trailing or None, OK, b"", FLAGS)
        code, details, told = refused
        return cygrpc.SendStatusFromServerOperation(told or None, code.value[0], details, FLAGS)


class UnaryCall(FastCall):
    """One request, one answer (an Exchange)."""

    __slots__ = ("_left", "_method", "_thens", "_watching")

    def __init__(self, event: Event, method: Unary, principal: Principal, let_go: LetGo) -> None:
        super().__init__(event, principal, let_go)
        self._method = method
        self._left = False
        self._thens: list[Callable[[], object]] = []
        self._watching = Lock()
        event.call.start_server_batch((cygrpc.ReceiveMessageOperation(FLAGS),), self._received)

    def reply(self, message: bytes, trailing: Metadata = ()) -> None:
        """See Exchange."""
        if self._ends():
            self._end(message, None, trailing)

    def refuse(self, refusal: Refusal) -> None:
        """See Exchange."""
        if self._ends():
            self._end(None, refusal, ())

    def on_gone(self, then: Callable[[], object]) -> None:
        """See Exchange."""
        self._thens.append(then)
        self.watch()
        if self._core is None:
            self._over()

    def watch(self) -> None:
        """Learn when the call closes before it is ended; otherwise its ending waits for the close."""
        if (core := self._core) and self._watching.acquire(blocking=False):
            core.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(FLAGS),), self._closed)

    def _received(self, event: Event) -> None:
        message = event.batch_operations[0].message()
        if message is None:
            self.refuse(not_one_message())
            return
        try:
            self._method(message, self)
        except Exception as error:  # noqa: BLE001 - the edge answers whatever happens
            self.refuse(refusal(error))

    def _end(self, message: bytes | None, refused: Refusal | None, trailing: Metadata) -> None:
        core = self._core
        if core is None:
            return  # the caller left in this moment
        done: list[Any] = [_headers(), self._status(refused, trailing)]
        if message is not None:
            done.insert(1, cygrpc.SendMessageOperation(message, FLAGS))
        then: Callable[[Event], None] = _completed
        if self._watching.acquire(blocking=False):
            done.append(cygrpc.ReceiveCloseOnServerOperation(FLAGS))
            then = self._closed
        if core.start_server_batch(tuple(done), then) != ACCEPTED:
            close = () if then is _completed else (cygrpc.ReceiveCloseOnServerOperation(FLAGS),)
            core.start_server_batch((_headers(), _unfit(), *close), then)

    def _closed(self, _: Event) -> None:
        """The core is done with the call: it was answered, or the caller left before."""
        self._let_go(self)
        self._left = self._ends()
        self._core = None
        self._over()

    def _over(self) -> None:
        """Tell that the caller left, if it did, and keep nothing alive; a list gives each entry once."""
        while self._thens:
            try:
                then = self._thens.pop()
            except IndexError:
                return  # another thread was first
            if self._left:
                then()


class StreamCall(FastCall):
    """Any number of messages each way (a Stream)."""

    __slots__ = (
        "_begun",
        "_ended",
        "_finish",
        "_lock",
        "_reading",
        "_receiver",
        "_unsent",
        "_wanted",
        "_writing",
    )

    def __init__(
        self, event: Event, method: Streaming, principal: Principal, let_go: LetGo
    ) -> None:
        super().__init__(event, principal, let_go)
        self._lock = Lock()
        self._unsent: deque[bytes] = deque()
        self._begun = self._writing = self._reading = self._ended = False
        self._wanted = 0
        self._finish: tuple[Refusal | None, Metadata] | None = None
        self._receiver: Receiver | None = None
        event.call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(FLAGS),), self._closed)
        try:
            self._receiver = method.open(self)
        except Exception as error:  # noqa: BLE001 - the edge answers whatever happens
            self.finish(refusal(error))
            return
        with self._lock:
            self._read_next()

    @property
    def unsent(self) -> int:
        """See Stream."""
        return len(self._unsent)

    def read(self) -> None:
        """See Stream."""
        with self._lock:
            self._wanted += 1
            self._read_next()

    def send(self, message: bytes) -> None:
        """See Stream."""
        with self._lock:
            if self._core and self._finish is None:
                self._unsent.append(message)
                self._write_next()

    def finish(self, refusal: Refusal | None = None, trailing: Metadata = ()) -> None:
        """See Stream."""
        with self._lock:
            if self._finish is None:
                self._finish = (refusal, trailing)
                self._write_next()

    def _read_next(self) -> None:
        """Under the lock: start what `read` asked for, once the receiver is there to take it."""
        ready = self._receiver and self._core and not (self._reading or self._ended)
        if ready and self._wanted and self._finish is None:
            self._wanted -= 1
            self._reading = True
            self._core.start_server_batch(  # type: ignore[union-attr]
                (cygrpc.ReceiveMessageOperation(FLAGS),), self._received
            )

    def _received(self, event: Event) -> None:
        message = event.batch_operations[0].message()
        with self._lock:
            self._reading = False
            self._ended = message is None
            receiver = None if self._finish or self._core is None else self._receiver
        if receiver is None:
            return
        if message is None:
            self._tell(receiver.ended)
            return
        self._tell(lambda: receiver.received(message))
        with self._lock:
            self._read_next()

    def _write_next(self) -> None:
        """Under the lock: one message is on its way at a time, the status after the last."""
        core = self._core
        if core is None or self._writing:
            return
        first = () if self._begun else (_headers(),)
        if self._unsent:
            self._begun = self._writing = True
            message = cygrpc.SendMessageOperation(self._unsent[0], FLAGS)
            core.start_server_batch((*first, message), self._wrote)
        elif self._finish is not None and self._ends():
            last = (*first, self._status(*self._finish))
            if core.start_server_batch(last, _completed) != ACCEPTED:
                first = () if self._begun else (_headers(),)
                core.start_server_batch((*first, _unfit()), _completed)

    def _wrote(self, event: Event) -> None:
        with self._lock:
            self._writing = False
            receiver = self._receiver
            if not (event.success and self._unsent):
                return  # its close says that the caller left
            self._unsent.popleft()
            self._write_next()
        if receiver:
            self._tell(receiver.sent)

    def _closed(self, _: Event) -> None:
        """The core is done with the call."""
        self._let_go(self)
        with self._lock:
            gone = self._ends()
            self._core = None
            self._unsent.clear()
            receiver, self._receiver = self._receiver, None
            # Without a status of its own yet: whatever comes now is late.
            self._finish = self._finish or (None, ())
        if gone and receiver:
            self._tell(receiver.gone)

    def _tell(self, then: Callable[[], None]) -> None:
        try:
            then()
        except Exception as error:  # noqa: BLE001 - the edge answers whatever happens
            self.finish(refusal(error))


def refuse(event: Event, refused: Refusal) -> None:
    """End a call that has not begun, without reading its message."""
    code, details, trailing = refused
    event.call.start_server_batch(
        (
            _headers(),
            cygrpc.SendStatusFromServerOperation(trailing, code.value[0], details, FLAGS),
            cygrpc.ReceiveCloseOnServerOperation(FLAGS),
        ),
        _completed,
    )


def _completed(event: Event) -> None:
    """Nothing follows; the event has let go of what was sent."""


def _headers() -> Any:
    return cygrpc.SendInitialMetadataOperation(None, FLAGS)


def _unfit() -> Any:
    """The status of a call whose own the core does not take: its metadata is not fit to travel."""
    code, details, _ = unfit()
    return cygrpc.SendStatusFromServerOperation(None, code.value[0], details, FLAGS)


def failed(error: Exception) -> None:
    """Note what went wrong on the poller's thread outside any method."""
    journal.failure("transport.failed", error)
