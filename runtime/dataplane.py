"""Answers one request.

Knows: the steps from a call to its answer: route, check, batch, record. Rules: no answer without a
durable record, and no refusal without one either; a request that does not fit the interface never
reaches the engine. Leaves to others: the wire (`runtime.codec`), batching, loading.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from appliance.audit.payload import Tensor
from appliance.clock import Clock
from appliance.errors import ApplianceError, Draining, RequestError
from appliance.tensors import Array, Interface, datatype_of
from runtime.codec import Call, chosen_outputs, chosen_tensors
from runtime.evidence import Answered, refusal
from runtime.metrics import Metrics
from runtime.recorder import Recorder
from runtime.router import Route
from runtime.swap import Lane, ServedTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What goes back to the client: the version that answered and its outputs in raw form."""

    version: int
    outputs: tuple[Tensor, ...]


class DataPlane:
    """Every inference request passes through `infer`. Runs on the event loop."""

    def __init__(
        self, *, table: ServedTable, recorder: Recorder, metrics: Metrics, clock: Clock
    ) -> None:
        self._table = table
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self.draining = False

    async def infer(self, call: Call, decode: Callable[[], Mapping[str, Array]]) -> Reply:
        """Answer `call`, whose tensors `decode` gives; it runs here so that its refusal is recorded.

        Raises UnknownModel, UnknownVersion, VersionNotServed, RequestError, Overloaded, Draining,
        EngineError or AuditUnwritable.
        """
        version = 0
        try:
            if self.draining:
                raise Draining("GRPC server is shutting down", remedy="try again later")
            with self._table.use(call.model, call.version) as (route, lane):
                version = route.version
                return await self._answer(call, decode, route, lane)
        except ApplianceError as error:
            await self._refuse(call, version, error.code, str(error))
            raise
        except Exception:
            await self._refuse(call, version, "internal", "unexpected error, see the journal")
            raise

    async def _answer(
        self, call: Call, decode: Callable[[], Mapping[str, Array]], route: Route, lane: Lane
    ) -> Reply:
        started = self._clock.monotonic_ns()
        interface = lane.servable.interface
        inputs = decode()
        rows = check_inputs(inputs, interface, model=call.model)
        chosen_outputs(call, interface)
        deadline = started + call.timeout_us * 1000 if call.timeout_us else None
        served = await lane.batcher.submit(inputs, rows, deadline_ns=deadline)
        sent = chosen_tensors(call, interface, served.answer.outputs)
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
        await self._recorder.append(answered.record)
        self._count(answered, rows, self._clock.monotonic_ns() - started)
        return Reply(version=route.version, outputs=sent)

    async def _refuse(self, call: Call, version: int, code: str, message: str) -> None:
        model = self._metrics.model(call.model if version else "")
        if version:
            model.version(version).fail.add(0)
        else:
            model.refused += 1
        await self._recorder.append(
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


def check_inputs(inputs: Mapping[str, Array], interface: Interface, *, model: str) -> int:
    """Check names, datatypes and shapes of a request's inputs and return its number of rows.

    Raises RequestError or RequestLimit in the words of Triton, which clients match on.
    """
    wanted = [spec.name for spec in interface.inputs]
    for name in inputs:
        if name not in wanted:
            raise _misfit(f"unexpected inference input '{name}' for model '{model}'", interface)
    missing = [name for name in wanted if name not in inputs]
    if missing:
        raise _misfit(
            f"expected {len(wanted)} inputs but got {len(inputs)} inputs for model '{model}'. "
            f"Got input(s) {list(inputs)}, but missing required input(s) {missing}. "
            "Please provide all required input(s).",
            interface,
        )
    rows = set()
    for spec in interface.inputs:
        array = inputs[spec.name]
        if array.dtype != spec.datatype.numpy:
            raise _misfit(
                f"inference input '{spec.name}' data-type is '{_name(array)}', "
                f"but model '{model}' expects '{spec.datatype}'",
                interface,
            )
        rows.add(interface.check_shape(spec, array.shape, model=model))
    if len(rows) > 1:
        raise _misfit(
            f"inputs of model '{model}' disagree in batch-size: {sorted(rows)}", interface
        )
    return rows.pop()


def _name(array: Array) -> str:
    datatype = datatype_of(array.dtype)
    assert datatype is not None, "the codec makes only arrays of the protocol's datatypes"
    return datatype


def _misfit(message: str, interface: Interface) -> RequestError:
    wants = ", ".join(
        f"{spec.name} {spec.datatype} {list(interface.wire_shape(spec))}"
        for spec in interface.inputs
    )
    return RequestError(message, remedy=f"send {wants}")
