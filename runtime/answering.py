"""One request on its way to its answer.

Knows: the steps of one request, each of which calls or queues the next. Rules: a step runs on whichever
thread ended the one before and never waits; a request ends once: with its recorded answer, its recorded
refusal, or because its caller left while it still waited. Leaves to others: how many there may be
(`runtime.dataplane`), what fits an interface (`runtime.checking`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple, Protocol, TypeAlias

from appliance.audit.payload import Tensor
from appliance.clock import Clock
from appliance.errors import ApplianceError, Overloaded
from appliance.tensors import Array
from runtime.batching import Outcome, Served, Ticket
from runtime.checking import Checked, check_request
from runtime.codec import Call, Head, Piece, place, raw_tensors
from runtime.evidence import Answered, refusal
from runtime.loaded import Loaded
from runtime.metrics import Metrics
from runtime.recorder import Recorder, unheard
from runtime.shadowing import Shadowing
from runtime.swap import ServedTable
from runtime.traces import Traces

# The moments of a traced request.
MARKS = (
    "REQUEST_START",
    "COMPUTE_START",
    "COMPUTE_INPUT_END",
    "COMPUTE_OUTPUT_START",
    "COMPUTE_END",
    "REQUEST_END",
)
HEADERS_MAX = 256  # different headers that a loaded version remembers, each of at most:
HEADER_BYTES_MAX = 4096


class Reply(NamedTuple):
    """What goes back to the client: the version that answered and its outputs in raw form."""

    version: int
    outputs: Sequence[Tensor]


# Gets the answer, or what kept it from being given; runs on whichever thread came last.
Then: TypeAlias = Callable[[Reply | Exception], None]


class Request(Protocol):
    """A request as `runtime.codec.decode` reads it."""

    call: Call
    header: bytes | None
    places: Mapping[str, Piece]

    def heads(self) -> Mapping[str, Head]:
        """Datatype and shape of every input, by name."""

    def arrays(self, heads: Mapping[str, Head]) -> Mapping[str, Array]:
        """The inputs that `heads` found, by name."""


class Rooms(NamedTuple):
    """What a request passes through."""

    table: ServedTable
    recorder: Recorder
    shadowing: Shadowing
    metrics: Metrics
    traces: Traces
    clock: Clock
    awaited: bool


class Answering:
    """One request; `then` is called once, unless `cancel` is in time."""

    __slots__ = (
        "_began_ns",
        "_checked",
        "_ended",
        "_inputs",
        "_loaded",
        "_request",
        "_rooms",
        "_route",
        "_then",
        "_ticket",
    )

    def __init__(
        self, rooms: Rooms, request: Request, then: Then, ended: Callable[[], None]
    ) -> None:
        """`ended` is called before `then`, and also when the caller has left."""
        self._rooms, self._request, self._then, self._ended = rooms, request, then, ended
        self._began_ns = rooms.clock.monotonic_ns()
        self._loaded: Loaded | None = None
        self._ticket: Ticket | None = None

    def begin(
        self, no_room: ApplianceError | None, deadline_ns: int | None, *, may_inline: bool
    ) -> None:
        """Route, check and queue; `no_room` is why it is refused instead."""
        request, call = self._request, self._request.call
        try:
            if no_room is not None:
                raise no_room
            key = call.request_id
            self._route, loaded = self._rooms.table.hold(call.model, call.version, key)
            self._loaded = loaded
            heads = request.heads()
            self._checked = _checked(request, heads, loaded)
            self._inputs = request.arrays(heads)
            self._ticket = loaded.batcher.submit(
                self._inputs,
                self._checked.rows,
                self._served,
                key=self._batch_key(loaded),
                client=call.peer.rpartition(":")[0],  # its port would let a client be many
                priority=call.priority,
                timeout_us=call.timeout_us,
                deadline_ns=deadline_ns,
                may_inline=may_inline,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is recorded and told
            self._refuse(error)

    @property
    def waiting(self) -> bool:
        """Whether it waits in the queue, so that `cancel` may have a use."""
        return self._ticket is not None and self._ticket.line >= 0

    def cancel(self) -> None:
        """The caller has gone: what still waits never reaches the engine."""
        if self._ticket is not None and self._ticket.cancel():
            self._end(None)

    def _batch_key(self, loaded: Loaded) -> object:
        if self._checked.key is None:
            self._checked.key = loaded.servable.batch_key(self._inputs)
        return self._checked.key

    def _served(self, outcome: Outcome) -> None:
        """The engine's answer, on its thread: make the reply and have it recorded."""
        if isinstance(outcome, ApplianceError):
            self._refuse(outcome)
            return
        recorder, awaited = self._rooms.recorder, self._rooms.awaited
        try:
            answered = self._answered(outcome)
            told = partial(self._recorded, answered)
            recorder.append(answered.record, told if awaited else unheard)
        except Exception as error:  # noqa: BLE001 - as in begin
            self._refuse(error)
            return
        if not awaited:
            told(0)

    def _answered(self, served: Served) -> Answered:
        loaded = self._held()
        labels = loaded.stored.manifest.recipe.labels
        return Answered(
            call=self._request.call,
            route=self._route,
            stored=loaded.stored,
            recipe_sha256=loaded.recipe_sha256,
            inputs=self._inputs,
            sent=raw_tensors(self._checked.wanted, served.answer.outputs, labels),
            served=served,
            total_ns=self._rooms.clock.monotonic_ns() - self._began_ns,
        )

    def _recorded(self, answered: Answered, number: int | ApplianceError) -> None:
        """The record is durable, or could not be written: the last step of an answer."""
        if isinstance(number, ApplianceError):
            self._end(number)
            return
        try:
            # Not before: a client reads its own memory without waiting for a reply.
            outputs = place(self._checked.wanted, answered.sent, self._request.places)
        except ApplianceError as error:
            self._end(error)
            return
        now, served = self._rooms.clock, answered.served
        counts = self._rooms.metrics.model(answered.call.model).version(self._route.version)
        counts.answered(
            rows=self._checked.rows,
            batch_rows=served.batch_rows,
            queue_ns=served.queue_ns,
            compute_ns=served.before_ns + served.compute_ns + served.after_ns,
            input_ns=served.before_ns,
            output_ns=served.after_ns,
            took_ns=now.monotonic_ns() - self._began_ns,
            wall_ns=now.wall_ns(),
        )
        self._end(Reply(self._route.version, outputs))
        if self._rooms.traces.on:
            self._trace(served)
        if self._route.reason != "pinned":
            self._rooms.shadowing.follow(answered, self._checked.heads)

    def _trace(self, served: Served) -> None:
        """Write when each part of a sampled request began and ended, by Triton's names."""
        call = self._request.call
        if not self._rooms.traces.sample(call.model):
            return
        parts = (served.queue_ns, served.before_ns, served.compute_ns, served.after_ns)
        marks = [*accumulate(parts, initial=self._began_ns), self._rooms.clock.monotonic_ns()]
        self._rooms.traces.write(
            request_id=call.request_id,
            model=call.model,
            version=self._route.version,
            timestamps=dict(zip(MARKS, marks, strict=True)),
        )

    def _refuse(self, error: Exception) -> None:
        """Have the refusal recorded, then tell it."""
        call = self._request.call
        version = 0 if self._loaded is None else self._route.version
        self._count_refusal(version)
        known = isinstance(error, ApplianceError)
        code = error.code if isinstance(error, ApplianceError) else "internal"
        message = str(error) if known else "unexpected error, see the journal"

        def recorded(number: int | ApplianceError) -> None:
            self._end(number if isinstance(number, ApplianceError) else error)

        entry = partial(refusal, call, version=version, code=code, message=message)
        try:
            self._rooms.recorder.append(entry, recorded)
        except Overloaded as overloaded:
            self._end(overloaded)

    def _count_refusal(self, version: int) -> None:
        # Names that no model has are counted together: clients must not be able to add counters.
        name = self._request.call.model
        model = self._rooms.metrics.model(name if self._rooms.table.knows(name) else "")
        if version:
            model.version(version).failed(self._rooms.clock.monotonic_ns() - self._began_ns)
        else:
            model.refused_one()

    def _end(self, result: Reply | Exception | None) -> None:
        """Give the version back, then tell the caller, who may be gone (None)."""
        if self._loaded is not None:
            self._loaded.release()
        self._ended()
        if result is not None:
            self._then(result)

    def _held(self) -> Loaded:
        assert self._loaded is not None, "an answer comes from a version"
        return self._loaded


def _checked(request: Request, heads: Mapping[str, Head], loaded: Loaded) -> Checked:
    """What the request asks of the version: found out once for all requests of one header."""
    header, interface = request.header, loaded.servable.interface
    if header is None or len(header) > HEADER_BYTES_MAX:
        return check_request(request.call, heads, interface)
    found = loaded.checked.get(header)
    if found is None:
        found = check_request(request.call, heads, interface)
        if len(loaded.checked) >= HEADERS_MAX:
            loaded.checked.clear()
        loaded.checked[header] = found
    return found
