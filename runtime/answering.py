"""One request on its way to its answer.

Knows: the steps of one request, each of which calls or queues the next. Rules: a step runs on whichever
thread ended the one before and never waits; a request ends once: with its recorded answer, its recorded
refusal, or because its caller left while it still waited. Leaves to others: how many there may be
(`runtime.dataplane`), what fits an interface (`runtime.checking`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from appliance.audit.payload import Tensor
from appliance.clock import Clock
from appliance.errors import ApplianceError, AuditError, DeadlinePassed, Draining, Overloaded
from appliance.tensors import Array
from runtime.batching import Batcher, Outcome, Served
from runtime.codec import Call, Head, Piece, place, raw_tensors
from runtime.evidence import Answered, Keeper, failure_record
from runtime.loaded import Loaded
from runtime.metrics import Metrics
from runtime.places import Place
from runtime.recorder import NO_RECORD, Recorder, unheard
from runtime.shadowing import Shadowing
from runtime.swap import ServedTable
from runtime.traces import Metadata, Trace, Traces

_NOTHING: Mapping[str, Array] = {}
# What says nothing of a request's inputs: the box was busy, late or could not write.
_PASSING = (AuditError, DeadlinePassed, Draining, Overloaded)


class Reply(NamedTuple):
    """What goes back to the client: the version that answered and its outputs in raw form.

    `record` is the sequence of its audit record, NO_RECORD when the reply leaves before that is durable, or without.
    """

    version: int
    outputs: Sequence[Tensor]
    record: int = NO_RECORD


# Gets the answer, or what kept it from being given; runs on whichever thread came last.
Then: TypeAlias = Callable[[Reply | Exception], None]
Gather: TypeAlias = Callable[[Batcher], None]


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
    keeper: Keeper | None = None


class Answering:
    """One request; `then` is called once, unless `cancel` is in time. After `begin` or `refuse` it ends by itself."""

    __slots__ = (
        "_began_ns",
        "_call",
        "_checked",
        "_ended",
        "_inputs",
        "_loaded",
        "_metadata",
        "_places",
        "_principal",
        "_rooms",
        "_route",
        "_then",
        "_ticket",
    )

    def __init__(
        self,
        rooms: Rooms,
        call: Call,
        principal: str,
        then: Then,
        ended: Callable[[], None],
        *,
        metadata: Metadata = (),
    ) -> None:
        """`principal` asks, with `metadata`; `ended` is called before `then`, and also when the caller has left."""
        self._rooms, self._call, self._principal = rooms, call, principal
        self._then: Then | None = then
        self._ended = ended
        self._metadata = metadata
        self._began_ns = rooms.clock.monotonic_ns()
        self._loaded: Loaded | None = None
        self._ticket: Place | None = None
        self._inputs: Mapping[str, Array] = _NOTHING

    def begin(self, request: Request, deadline_ns: int | None, gather: Gather) -> None:
        """Route, check and queue `request`, of which the call is known; `gather` as in Batcher.submit."""
        call = self._call
        try:
            self._route, loaded = self._rooms.table.hold(
                call.model, call.version, call.request_id, call.sequence, self._principal
            )
            self._loaded = loaded
            heads = request.heads()
            self._places = request.places
            self._checked = loaded.asked(call, request.header, heads)
            self._inputs = request.arrays(heads)
            submit = loaded.submitting(call.sequence, self._principal, self._route)
            self._ticket = submit(
                self._inputs,
                self._checked.rows,
                self._served,
                key=self._batch_key(loaded),
                # An address without its port, which would let a client be many.
                client=self._principal or call.peer.rpartition(":")[0],
                priority=call.priority,
                timeout_us=call.timeout_us,
                deadline_ns=deadline_ns,
                gather=gather,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is recorded and told
            self.refuse(error)
        if self._then is None:
            self._ticket = None  # it has ended already (see _end)

    @property
    def waiting(self) -> bool:
        """Whether it waits for a lane, so that `cancel` may have a use."""
        ticket = self._ticket
        return ticket is not None and ticket.line >= 0 and not ticket.gathered

    def cancel(self) -> None:
        """The caller has gone: what still waits never reaches the engine. Any thread, once `begin` is over."""
        ticket = self._ticket
        if ticket is not None and ticket.cancel():
            self._end(None)

    def refuse(self, error: Exception) -> None:
        """Have the refusal recorded, then tell it."""
        version = 0 if self._loaded is None else self._route.version
        code, message = "internal", "unexpected error, see the journal"
        if known := isinstance(error, ApplianceError):
            code, message = error.code, str(error)
            error.__traceback__ = None  # it would keep the request's data alive, in a cycle

        def recorded(number: int | ApplianceError) -> None:
            self._end(number if known and isinstance(number, ApplianceError) else error)
            if self._rooms.traces.on:
                self._trace(version, code=code)

        entry = partial(
            failure_record,
            self._call,
            principal=self._principal,
            version=version,
            code=code,
            message=message,
            payload=self._payload_of(error),
        )
        try:
            self._count_refusal(version, code)
            self._rooms.recorder.append(entry, recorded, request_id=self._call.request_id)
        except Exception as fault:  # noqa: BLE001 - as in begin; Overloaded when too many records wait
            self._end(fault if known else error)

    def _payload_of(self, error: Exception) -> Callable[[], str] | None:
        """What keeps the inputs that failed; None where they did not come so far, or are not to blame."""
        keeper = self._rooms.keeper
        if keeper is None or self._inputs is _NOTHING or isinstance(error, _PASSING):
            return None
        return partial(keeper.failed, self._call, self._held().stored, self._inputs)

    def _batch_key(self, loaded: Loaded) -> object:
        if self._checked.key is None:
            self._checked.key = loaded.servable.batch_key(self._inputs)
        return self._checked.key

    def _served(self, outcome: Outcome) -> None:
        """The engine's answer, on its thread: make the reply and have it recorded."""
        if isinstance(outcome, ApplianceError):
            self.refuse(outcome)
            return
        recorder, awaited = self._rooms.recorder, self._rooms.awaited
        try:
            answered = self._answered(outcome)
            told = partial(self._recorded, answered)
            then = told if awaited else unheard
            recorder.append(answered.record, then, request_id=self._call.request_id)
        except Exception as error:  # noqa: BLE001 - as in begin
            self._withdraw(error)
            return
        if not awaited:
            told(NO_RECORD)

    def _withdraw(self, error: Exception) -> None:
        """Refuse what was computed: its sequence, whose states it changed, ends there."""
        self._held().end_sequence(self._call.sequence, self._principal)
        self.refuse(error)

    def _answered(self, served: Served) -> Answered:
        loaded = self._held()
        labels = loaded.stored.manifest.recipe.labels
        return Answered(
            call=self._call,
            principal=self._principal,
            route=self._route,
            stored=loaded.stored,
            recipe_sha256=loaded.recipe_sha256,
            inputs=self._inputs,
            sent=raw_tensors(self._checked.wanted, served.answer.outputs, labels),
            served=served,
            total_ns=self._rooms.clock.monotonic_ns() - self._began_ns,
            keeper=self._rooms.keeper,
        )

    def _recorded(self, answered: Answered, number: int | ApplianceError) -> None:
        """The record is durable, or could not be written: the last step of an answer."""
        if isinstance(number, ApplianceError):
            self._withdraw(number)  # such a record is small, and may yet find room
            return
        try:
            # Not before: a client reads its own memory without waiting for a reply.
            outputs = place(self._checked.wanted, answered.sent, self._places)
            took_ns = self._count(answered.served)
        except Exception as error:  # noqa: BLE001 - as in begin
            self._withdraw(error)
            return
        self._end(Reply(self._route.version, outputs, number))
        if self._rooms.traces.on:
            self._trace(self._route.version, answered=answered, took_ns=took_ns)
        if self._route.reason != "pinned":
            self._rooms.shadowing.follow(answered, self._checked.heads)

    def _count(self, served: Served) -> int:
        """Count the answer; returns how long it has taken so far, in nanoseconds."""
        now = self._rooms.clock
        took_ns = now.monotonic_ns() - self._began_ns
        self._rooms.metrics.model(self._call.model).version(self._route.version).answered(
            rows=self._checked.rows,
            batch_rows=served.batch_rows,
            queue_ns=served.queue_ns,
            compute_ns=served.before_ns + served.compute_ns + served.after_ns,
            input_ns=served.before_ns,
            output_ns=served.after_ns,
            took_ns=took_ns,
            wall_ns=now.wall_ns(),
        )
        return took_ns

    def _trace(
        self, version: int, *, code: str = "", answered: Answered | None = None, took_ns: int = 0
    ) -> None:
        """Tell whoever traces that the request has ended; `took_ns` after it began its record was durable."""
        clock, call, began_ns = self._rooms.clock, self._call, self._began_ns
        ended_ns = clock.monotonic_ns()

        def told() -> Trace:
            trace = Trace(
                request_id=call.request_id,
                model=call.model,
                version=version,
                route=self._route.reason if version else "",
                code=code,
                began_ns=began_ns,
                ended_ns=ended_ns,
                wall_ns=clock.wall_ns(),
            )
            if answered is None:
                return trace
            served = answered.served
            return msgspec.structs.replace(
                trace,
                rows=self._checked.rows,
                batch_rows=served.batch_rows,
                queue_ns=served.queue_ns,
                before_ns=served.before_ns,
                compute_ns=served.compute_ns,
                after_ns=served.after_ns,
                made_ns=began_ns + answered.total_ns,
                recorded_ns=began_ns + took_ns,
            )

        self._rooms.traces.ended(call.model, self._metadata, ended_ns, told)

    def _count_refusal(self, version: int, code: str) -> None:
        # Names that no model has are counted together: clients must not be able to add counters.
        name = self._call.model
        model = self._rooms.metrics.model(name if self._rooms.table.knows(name) else "")
        if version:
            took_ns = self._rooms.clock.monotonic_ns() - self._began_ns
            model.version(version).failed(took_ns, code)
        else:
            model.refused_one(code)

    def _end(self, result: Reply | Exception | None) -> None:
        """Give the version back, then tell the caller, who may be gone (None). Only the first end counts.

        Request, ticket and caller refer to each other: unless they are let go of here, every tensor is left
        to the garbage collector.
        """
        then, self._then = self._then, None
        if then is None:
            return
        self._ticket = None
        if self._loaded is not None:
            self._loaded.release()
        self._ended()
        if result is not None:
            then(result)

    def _held(self) -> Loaded:
        assert self._loaded is not None, "an answer comes from a version"
        return self._loaded
