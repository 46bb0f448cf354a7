"""Answers one request.

Knows: the steps from a call to its answer: route, check, batch, record. Rules: no answer without a
durable record, and no refusal without one either; a request that does not fit the interface never
reaches the engine. Leaves to others: the wire (`runtime.codec`), batching, loading.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Protocol

from appliance.audit.payload import Tensor
from appliance.clock import Clock
from appliance.errors import ApplianceError, Draining, Overloaded, RequestError
from appliance.tables import nearest
from appliance.tensors import Array, Interface, TensorSpec
from runtime.codec import Call, Head, chosen_outputs, raw_tensors
from runtime.evidence import Answered, refusal
from runtime.metrics import Metrics
from runtime.recorder import Recorder
from runtime.router import Route
from runtime.swap import Lane, ServedTable

NAME_CHARACTERS_MAX = 100  # of a name in a refusal
NAMES_SHOWN_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What goes back to the client: the version that answered and its outputs in raw form."""

    version: int
    outputs: tuple[Tensor, ...]


class Tensors(Protocol):
    """A request's inputs, as `runtime.codec.WireTensors` reads them."""

    def heads(self) -> Mapping[str, Head]:
        """Datatype and shape of every input, by name."""

    def arrays(self, heads: Mapping[str, Head]) -> Mapping[str, Array]:
        """The inputs that `heads` found, by name."""


class DataPlane:
    """Every inference request passes through `infer`. Runs on the event loop."""

    def __init__(
        self,
        *,
        table: ServedTable,
        recorder: Recorder,
        metrics: Metrics,
        clock: Clock,
        bytes_max: int,
    ) -> None:
        self._table = table
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._bytes_max = bytes_max
        self._bytes = 0
        self._calls = 0
        self._idle = asyncio.Event()
        self.draining = False

    async def infer(self, call: Call, tensors: Tensors) -> Reply:
        """Answer `call`; its tensors are read here, so that a refusal of them is recorded too.

        Raises UnknownModel, UnknownVersion, VersionNotServed, RequestError, Overloaded, Draining,
        EngineError or AuditUnwritable.
        """
        with self._in_flight(call):
            version = 0
            try:
                self._check_room()
                with self._table.use(call.model, call.version) as (route, lane):
                    version = route.version
                    return await self._answer(call, tensors, route, lane)
            except ApplianceError as error:
                await self._refuse(call, version, error.code, str(error))
                raise
            except Exception:
                await self._refuse(call, version, "internal", "unexpected error, see the journal")
                raise

    async def drain(self, seconds: float, hurry: asyncio.Event) -> None:
        """Refuse what comes from now on; wait for what is running, at most `seconds` or until `hurry`."""
        self.draining = True
        waits = {asyncio.create_task(event.wait()) for event in (self._idle, hurry)}
        if self._calls:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    @contextmanager
    def _in_flight(self, call: Call) -> Iterator[None]:
        self._calls += 1
        self._idle.clear()
        self._bytes += call.bytes
        try:
            yield
        finally:
            self._calls -= 1
            self._bytes -= call.bytes
            if not self._calls:
                self._idle.set()

    def _check_room(self) -> None:
        if self.draining:
            raise Draining("GRPC server is shutting down", remedy="try again later")
        if self._bytes > self._bytes_max:
            raise Overloaded(
                f"requests of {self._bytes} bytes are in flight, more than {self._bytes_max}",
                remedy="send fewer at a time, or raise [server] bytes_in_flight_max",
            )

    async def _answer(self, call: Call, tensors: Tensors, route: Route, lane: Lane) -> Reply:
        started = self._clock.monotonic_ns()
        interface = lane.servable.interface
        heads = tensors.heads()
        rows = check_inputs(heads, interface, model=call.model)
        wanted = chosen_outputs(call, interface)
        inputs = tensors.arrays(heads)
        deadline = started + call.timeout_us * 1000 if call.timeout_us else None
        served = await lane.batcher.submit(inputs, rows, deadline_ns=deadline)
        sent = raw_tensors(wanted, served.answer.outputs)
        answered = Answered(
            call=call,
            route=route,
            stored=lane.stored,
            recipe_sha256=lane.recipe_sha256,
            inputs=inputs,
            sent=sent,
            served=served,
            total_ns=self._clock.monotonic_ns() - started,
        )
        await self._recorder.appended(answered.record)
        self._count(answered, rows, self._clock.monotonic_ns() - started)
        return Reply(version=route.version, outputs=sent)

    async def _refuse(self, call: Call, version: int, code: str, message: str) -> None:
        # Names that no model has are counted together: clients must not be able to add counters.
        model = self._metrics.model(call.model if self._table.knows(call.model) else "")
        if version:
            model.version(version).fail.add(0)
        else:
            model.refused += 1
        await self._recorder.appended(
            partial(refusal, call, version=version, code=code, message=message)
        )

    def _count(self, answered: Answered, rows: int, took_ns: int) -> None:
        model = self._metrics.model(answered.call.model)
        counts, served = model.version(answered.route.version), answered.served
        model.recent_ns.append(took_ns)
        counts.success.add(took_ns)
        counts.queue.add(served.queue_ns)
        counts.compute.add(served.compute_ns)
        counts.rows += rows
        # Each request of a batch carries its share, so that the shares add up to whole executions.
        counts.batches += rows / served.batch_rows
        counts.last_wall_ms = self._clock.wall_ns() // 1_000_000


def check_inputs(heads: Mapping[str, Head], interface: Interface, *, model: str) -> int:
    """Check names, datatypes and shapes of a request's inputs and return its number of rows.

    Raises RequestError or RequestLimit in the words of Triton, which clients match on.
    """
    wanted = [spec.name for spec in interface.inputs]
    missing = [name for name in wanted if name not in heads]
    unknown = next((name for name in heads if name not in wanted), None)
    if unknown is not None:
        raise _misfit(
            f"unexpected inference input '{unknown}' for model '{model}'"
            + _meant(unknown, missing, wanted),
            interface,
        )
    if missing:
        raise _misfit(
            f"expected {len(wanted)} inputs but got {len(heads)} inputs for model '{model}'. "
            f"Got input(s) {_listed(heads)}, but missing required input(s) {_listed(missing)}. "
            "Please provide all required input(s).",
            interface,
        )
    rows = {_check_one(heads[spec.name], spec, interface, model) for spec in interface.inputs}
    if len(rows) > 1:
        raise _misfit(
            f"inputs of model '{model}' disagree in batch-size: {sorted(rows)}", interface
        )
    return rows.pop()


def _check_one(head: Head, spec: TensorSpec, interface: Interface, model: str) -> int:
    if head.datatype is not spec.datatype:
        raise _misfit(
            f"inference input '{spec.name}' data-type is '{head.datatype}', "
            f"but model '{model}' expects '{spec.datatype}'",
            interface,
        )
    return interface.check_shape(spec, head.shape, model=model)


def _meant(unknown: str, missing: list[str], wanted: list[str]) -> str:
    """What the sender of an unknown input most likely meant, and what is missing."""
    near = nearest(unknown, missing) or nearest(unknown, wanted)
    meant = f"; did you mean '{near}'?" if near else ""
    return f"{meant}; missing input(s) {_listed(missing)}" if missing else meant


def _listed(names: Collection[str]) -> str:
    """Names as Triton lists them; a status text has little room, so only so many."""
    shown = [name[:NAME_CHARACTERS_MAX] for name in islice(names, NAMES_SHOWN_MAX)]
    more = len(names) - len(shown)
    return f"{shown} and {more} more" if more else f"{shown}"


def _misfit(message: str, interface: Interface) -> RequestError:
    wants = ", ".join(
        f"{spec.name} {spec.datatype} {list(interface.wire_shape(spec))}"
        for spec in interface.inputs
    )
    return RequestError(message, remedy=f"send {wants}")
