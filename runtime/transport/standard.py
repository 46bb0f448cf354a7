"""gRPC's own services, as methods: health and reflection.

Knows: the published messages of both. Rules: health is told once and asked from any thread; a watcher
that does not read costs one state, never a queue. Leaves to others: whether this server is healthy.
"""

from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock

from google.protobuf.message import DecodeError
from grpc import StatusCode
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from runtime.interceptors import Refusal, not_one_message
from runtime.transport.exchange import Exchange, Methods, Stream, Streaming

HEALTH_NAME = health.SERVICE_NAME
# One form under two names: version 1 has the messages of the draft before it, number by number.
REFLECTION_NAMES = (reflection.SERVICE_NAME, "grpc.reflection.v1.ServerReflection")

_STATES = health_pb2.HealthCheckResponse
_UNREADABLE = Refusal(StatusCode.INVALID_ARGUMENT, "the bytes are no request of this method", ())
_UNKNOWN = Refusal(StatusCode.NOT_FOUND, "no such service", ())


class Health:
    """The state of the whole server ("") and of each service in `names`; at first none is serving."""

    def __init__(self, names: Sequence[str]) -> None:
        self._lock = Lock()
        self._states = dict.fromkeys(("", *names), _STATES.NOT_SERVING)
        self._watchers: set[_Watcher] = set()

    def show_health(self, *, serving: bool) -> None:
        """Tell health clients whether to send requests here."""
        state = _STATES.SERVING if serving else _STATES.NOT_SERVING
        with self._lock:
            self._states = dict.fromkeys(self._states, state)
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher.show()

    def methods(self) -> Methods:
        """Check, Watch and List of grpc.health.v1.Health."""
        return {
            f"/{HEALTH_NAME}/Check": self._check,
            f"/{HEALTH_NAME}/List": self._list,
            f"/{HEALTH_NAME}/Watch": Streaming(self._watch),
        }

    def state(self, service: str) -> int:
        """The state of `service`, SERVICE_UNKNOWN of one that was not named."""
        return int(self._states.get(service, _STATES.SERVICE_UNKNOWN))

    def _check(self, message: bytes, exchange: Exchange) -> None:
        service = _service(message)
        if service is None:
            exchange.refuse(_UNREADABLE)
        elif service not in self._states:
            exchange.refuse(_UNKNOWN)
        else:
            exchange.reply(_answer(self.state(service)))

    def _list(self, _: bytes, exchange: Exchange) -> None:
        # HealthListResponse{map<string, HealthCheckResponse> statuses = 1}, which the installed
        # messages may not have yet: an entry is {key = 1, value = 2}.
        entries = (
            _field(1, _field(1, name.encode()) + _field(2, _answer(state)))
            for name, state in self._states.items()
        )
        exchange.reply(b"".join(entries))

    def _watch(self, stream: Stream) -> "_Watcher":
        stream.read()
        return _Watcher(stream, self)

    def _follow(self, watcher: "_Watcher") -> None:
        with self._lock:
            self._watchers.add(watcher)

    def _leave(self, watcher: "_Watcher") -> None:
        with self._lock:
            self._watchers.discard(watcher)


class _Watcher:
    """One Watch: the state at once, and again whenever it changes (a Receiver)."""

    def __init__(self, stream: Stream, health: Health) -> None:
        self._stream, self._health = stream, health
        self._lock = Lock()
        self._service: str | None = None
        self._shown: int | None = None

    def show(self) -> None:
        """Send the state, unless it was the last one sent or the client still has to read that."""
        with self._lock:
            if self._service is None or self._stream.unsent:
                return
            state = self._health.state(self._service)
            if state != self._shown:
                self._shown = state
                self._stream.send(_answer(state))

    def received(self, message: bytes) -> None:
        """Begin to watch the service that is named."""
        self._service = _service(message)
        if self._service is None:
            self._stream.finish(_UNREADABLE)
            return
        self._health._follow(self)  # noqa: SLF001 - one room
        self.show()

    def ended(self) -> None:
        """The client has said whom it watches; without that there is nothing to do."""
        if self._service is None:
            self._stream.finish(not_one_message())

    def sent(self) -> None:
        """Catch up with what changed meanwhile."""
        self.show()

    def gone(self) -> None:
        """Watch no longer."""
        self._health._leave(self)  # noqa: SLF001 - one room


def reflection_methods(names: Sequence[str]) -> Methods:
    """Server reflection for the services in `names`, and for health and itself, from the default pool."""
    servicer = reflection.ReflectionServicer((*names, HEALTH_NAME, REFLECTION_NAMES[0]))
    opened = Streaming(partial(_Reflection, ask=servicer.ServerReflectionInfo))
    return {f"/{name}/ServerReflectionInfo": opened for name in REFLECTION_NAMES}


class _Reflection:
    """One reflection stream: a request, its answer, the next (a Receiver)."""

    def __init__(self, stream: Stream, *, ask: Callable[..., object]) -> None:
        self._stream, self._ask = stream, ask
        stream.read()

    def received(self, message: bytes) -> None:
        """Answer one request by the library's servicer."""
        try:
            request = reflection_pb2.ServerReflectionRequest.FromString(message)
        except DecodeError:
            self._stream.finish(_UNREADABLE)
            return
        for answer in self._ask(iter((request,)), None):  # type: ignore[attr-defined]
            self._stream.send(answer.SerializeToString())

    def ended(self) -> None:
        """No more questions."""
        self._stream.finish()

    def sent(self) -> None:
        """Take the next question only when the answer is away, so that none pile up."""
        self._stream.read()

    def gone(self) -> None:
        """Nothing is kept."""


def _service(message: bytes) -> str | None:
    try:
        return str(health_pb2.HealthCheckRequest.FromString(message).service)
    except DecodeError:
        return None


def _answer(state: int) -> bytes:
    return bytes(_STATES(status=state).SerializeToString())


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field; names of services are short, so one byte tells the length."""
    assert len(value) < 128
    return bytes((number << 3 | 2, len(value))) + value
