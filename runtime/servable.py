"""One version, loaded and warm (a door: the compiler proves versions with it).

Knows: how requests become one engine call and its outputs the answers. Rules: requests of a call share
one batch; when the engine refuses a batch, each request is tried alone, so that one bad request costs
the others nothing but time; lanes of one version share its weights and its kernels, never a buffer.
Leaves to others: when to run (`runtime.batching`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import msgspec
import numpy as np

from appliance.clock import Clock, SystemClock
from appliance.errors import ApplianceError, EngineError, RecipeError
from appliance.golden import Golden, check_golden, rows_fit
from appliance.manifest import GOLDEN_FILE, PROFILE_FILE, Manifest, Precision
from appliance.profiles import Profile
from appliance.states import State
from appliance.store import EngineEntry, StoredVersion
from appliance.tables import from_json
from appliance.tensors import Array, shapes_to_try
from runtime.buffers import Batch, Buffers, parts_of, rows_of
from runtime.engines import Engine, load_engine
from runtime.kernels.chain import PLACE_COLUMNS, Chain
from runtime.kernels.vector import DriftVector
from runtime.trials import of_lengths, over_again, repeated

Inputs: TypeAlias = Mapping[str, Array]
Check: TypeAlias = Callable[[Inputs, Golden], float]
_NO_STATES: Inputs = MappingProxyType({})
# Requests of at most so many bytes are laid side by side first: one more copy is less than a call for each.
JOIN_BYTES_MAX = 4096


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one request gets: served outputs by name, and its drift vectors, float32 (rows, k).

    `states` are those after it, by the engine's input names, to be brought with the sequence's next request.

    Beside the engine its batch took `before_ns` to prepare, and `after_ns` for the steps after it, its
    checks and its vectors, in nanoseconds.
    """

    outputs: dict[str, Array]
    vectors: Array
    states: Inputs = {}
    before_ns: int = 0
    after_ns: int = 0


class Servable:
    """An engine between its recipe's kernels. `run` is called from one thread at a time."""

    def __init__(
        self,
        *,
        engine: Engine,
        chain: Chain,
        vector: DriftVector,
        states: tuple[State, ...] = (),
        clock: Clock | None = None,
    ) -> None:
        """`chain` and `vector` are of the engine without its `states`."""
        self._engine = engine
        self._chain = chain
        self._vector = vector
        self._clock = clock or SystemClock()
        self._ran_ns = (0, 0)  # when the engine's last call began and ended
        self._states, self._after = states, _NO_STATES  # of the last batch, padding and all
        self._buffers = Buffers(engine.interface, states)
        self._places = {
            name: np.empty((max(chain.served.batch_max, 1), PLACE_COLUMNS))
            for name in chain.placed_inputs
        }
        self.interface = chain.served

    def lane(self) -> "Servable":
        """A twin over the same weights with buffers of its own, to run beside this one.

        The chain and the vector are shared: their kernels keep scratch by thread. Raises EngineError
        when the engine has no further lane.
        """
        return Servable(
            engine=self._engine.lane(),
            chain=self._chain,
            vector=self._vector,
            states=self._states,
            clock=self._clock,
        )

    def run(self, requests: Sequence[Inputs], rows: int = 0) -> list[Answer | ApplianceError]:
        """Answer `requests`, inputs by served name, in order; a failed one gets its error.

        Batched requests have shape (rows, ...) and rows together at most `batch_max`; requests of
        one call must agree in `batch_key`. The engine call is padded to `rows` rows when they are
        fewer; nobody gets those. An unbatched model takes one request a call.
        """
        try:
            return [*self._run_batch(requests, rows)]
        except Exception as error:  # noqa: BLE001 - a fault of one request must not reach the others
            if len(requests) == 1:
                return [_engine_error(error)]
        return [answer for request in requests for answer in self.run([request])]

    def batch_key(self, inputs: Inputs) -> tuple[tuple[int, ...], ...]:
        """Requests with equal keys fit one engine call: the prepared shapes without rows."""
        shapes = self._chain.prepared_shape(inputs)
        return tuple(shape[1:] for _, shape in sorted(shapes.items()))

    def warm(self, golden: Golden, sizes: Sequence[int] = (), *, proven: bool = False) -> None:
        """Compile kernels, run the ends of axes' ranges and batch sizes by doubling, the largest last.

        Of `sizes`, in rows, those that a batch may have are run too. One that is `proven` has run one row
        and the largest batch: those are left out.
        """
        self._chain.warm()
        for shapes in shapes_to_try(self.interface):
            self._engine_outputs([of_lengths(self.interface, shapes, golden)])
        most = max(self.interface.batch_max, 1)
        wanted = {*buckets(most), *(size for size in sizes if size < most)}
        for rows in sorted(wanted - {1, most} if proven else wanted):
            self._engine_outputs([repeated(golden.inputs, rows, self.interface.batch_max)])

    def prove(self, golden: Golden, manifest: Manifest, precision: Precision) -> float:
        """Return the largest error on the golden vectors; GoldenMissed beyond `precision`'s tolerance.

        The rows run one at a time and, over again until they fill it, in the largest batch, since
        both are served. What else a build compares stands in `compiler.proving.proof`.
        """
        check = partial(
            check_golden,
            tolerance=manifest.tolerances.of(precision),
            ranges=golden.ranges(),
            exact=precision is Precision.FP32,
        )
        alone = self._golden_error(golden, check, rows_max=1)
        batch = self.interface.batch_max
        if batch <= 1:
            return alone
        filled = over_again(golden, max(golden.rows, batch))
        return max(alone, self._golden_error(filled, check, rows_max=batch))

    def answered(self, inputs: Inputs) -> tuple[Inputs, Inputs]:
        """The engine's outputs and the served ones of one request: what a proof compares.

        Raises the error that the request would get.
        """
        try:
            outputs, batch = self._engine_outputs([inputs])
            return outputs, self._chain.after(outputs, batch.placed)
        except ApplianceError:
            raise
        except Exception as error:  # as in `run`
            raise _engine_error(error) from error

    def completed(self, inputs: Inputs, outputs: Inputs) -> Inputs:
        """The served outputs of a request of `inputs` whose engine outputs are `outputs`."""
        placed = self._prepared([inputs]).placed if self._places else None
        return self._chain.after(outputs, placed)

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    def _golden_error(self, golden: Golden, check: Check, *, rows_max: int) -> float:
        worst = 0.0
        for start in range(0, golden.rows, rows_max):
            part = slice(start, start + rows_max)
            wanted = Golden(
                inputs={name: array[part] for name, array in golden.inputs.items()},
                outputs={name: array[part] for name, array in golden.outputs.items()},
            )
            outputs, _ = self._engine_outputs([self._as_sent(wanted.inputs)])
            worst = max(worst, check(self._as_rows(outputs), wanted))
        return worst

    def _as_sent(self, rows: Inputs) -> Inputs:
        return rows if self.interface.batch_max else {name: a[0, ...] for name, a in rows.items()}

    def _as_rows(self, outputs: Inputs) -> Inputs:
        return outputs if self.interface.batch_max else {n: a[None] for n, a in outputs.items()}

    def _run_batch(self, requests: Sequence[Inputs], rows: int) -> list[Answer]:
        began = self._clock.monotonic_ns()
        outputs, batch = self._engine_outputs(requests, rows)
        served = self._chain.after(outputs, batch.placed)
        vectors = self._vector.compute(batch.prepared, outputs)
        started, ended = self._ran_ns
        before, after = started - began, self._clock.monotonic_ns() - ended
        if len(requests) == 1:
            states = self._states_of(slice(batch.rows))
            return [
                Answer(
                    outputs=served,
                    vectors=vectors,
                    states=states,
                    before_ns=before,
                    after_ns=after,
                )
            ]
        return [
            Answer(
                outputs={name: array[part] for name, array in served.items()},
                vectors=vectors[part],
                states=self._states_of(part),
                before_ns=before,
                after_ns=after,
            )
            for part in parts_of(requests)
        ]

    def _states_of(self, part: slice) -> Inputs:
        """The states that the last call gave for some of its rows, as arrays of their own."""
        rows = part if self.interface.batch_max else ...
        return {name: np.array(array[rows]) for name, array in self._after.items()}

    def _engine_outputs(
        self, requests: Sequence[Inputs], rows: int = 0
    ) -> tuple[dict[str, Array], Batch]:
        """Prepare all requests into the batch buffers and run the engine once; without padding and states."""
        batch = self._prepared(requests)
        if rows <= batch.rows or not self.interface.batch_max:
            return self._computed(batch.prepared, batch.rows), batch
        outputs = self._computed(self._buffers.padded(batch.prepared, rows), rows)
        return {name: array[: batch.rows] for name, array in outputs.items()}, batch

    def _prepared(self, requests: Sequence[Inputs]) -> Batch:
        """All requests, in views of the batch buffers that hold until the next call."""
        shapes = self._chain.prepared_shape(requests[0])
        if not self.interface.batch_max:
            prepared = self._buffers.views(shapes)
            self._chain.before(requests[0], prepared, self._places)
            prepared |= self._buffers.states(requests, 1)
            return Batch(rows=1, prepared=prepared, placed=self._places)
        rows = parts_of(requests)[-1].stop
        states = self._buffers.states(requests, rows)
        if len(requests) > 1 and _bytes(requests[0]) <= JOIN_BYTES_MAX:
            requests = [self._joined(requests)]
        parts = parts_of(requests)
        prepared = self._buffers.views({name: (rows, *shape[1:]) for name, shape in shapes.items()})
        placed = rows_of(self._places, slice(rows))
        for request, part in zip(requests, parts, strict=True):
            self._chain.before(request, rows_of(prepared, part), rows_of(placed, part))
        return Batch(rows=rows, prepared=prepared | states, placed=placed)

    def _joined(self, requests: Sequence[Inputs]) -> Inputs:
        """Requests of one key as one: their rows one after another, without states."""
        names = [spec.name for spec in self.interface.inputs]
        return {name: np.concatenate([each[name] for each in requests]) for name in names}

    def _computed(self, prepared: Inputs, rows: int) -> dict[str, Array]:
        """The engine's outputs. EngineError when one is not as the interface says: it is not served."""
        interface, started = self._engine.interface, self._clock.monotonic_ns()
        outputs = self._engine.run(prepared)
        self._ran_ns = (started, self._clock.monotonic_ns())
        for spec in interface.outputs:
            array = outputs[spec.name] if interface.batch_max else outputs[spec.name][None]
            if len(array) != rows or not rows_fit(spec, array):
                raise EngineError(
                    f"output '{spec.name}' came out as {array.dtype} {list(array.shape)} for {rows} "
                    f"rows of {spec.datatype} {list(spec.shape)}",
                    remedy="the engine does not compute this model as declared; build it again",
                )
        if self._states:
            self._after = {state.input: outputs.pop(state.output) for state in self._states}
        return outputs


def load_proven(
    stored: StoredVersion, *, threads: int, lanes: int = 1, sizes: Sequence[int] = ()
) -> Servable:
    """Load a version whose files were checked, warm it and prove it again on its golden vectors.

    The engine is made for as many `lanes`, of which this is the first, each on `threads` threads (0: they
    share the cores). `sizes` are batch sizes, in rows, that are warmed too. Raises EngineLoad, EngineError, RecipeError, StoreError or GoldenMissed; nothing stays loaded then.
    """
    servable = assemble(
        stored.directory, stored.manifest, stored.record.engine, threads=threads, lanes=lanes
    )
    try:
        golden = golden_of(stored.directory)
        # Proven first: what fails then costs the others little, and what it ran is warm.
        servable.prove(golden, stored.manifest, stored.record.engine.precision)
        servable.warm(golden, sizes, proven=True)
    except BaseException:
        servable.close()
        raise
    return servable


def assemble(
    directory: Path, manifest: Manifest, entry: EngineEntry, *, threads: int, lanes: int = 1
) -> Servable:
    """Make a servable from the files in `directory`. Raises EngineLoad or RecipeError."""
    engine = load_engine(
        entry.kind,
        directory / entry.file,
        interface=manifest.engine,
        threads=threads,
        precision=entry.precision,
        bounds=entry.bounds,
        lanes=lanes,
    )
    try:
        profile = from_json(
            (directory / PROFILE_FILE).read_bytes(), Profile, RecipeError, where=PROFILE_FILE
        )
        chain = Chain(manifest.recipe, engine=manifest.stateless)
        if chain.served != manifest.served:
            raise RecipeError(
                "the recipe and the model make another interface than the manifest says",
                remedy="pack the model again with this release",
            )
        vector = DriftVector(profile.layout)
    except BaseException:
        engine.close()
        raise
    return Servable(engine=engine, chain=chain, vector=vector, states=manifest.states)


def golden_of(directory: Path) -> Golden:
    """The golden vectors kept beside an engine. Raises StoreError."""
    return Golden.load(directory / GOLDEN_FILE)


def _engine_error(error: Exception) -> ApplianceError:
    if isinstance(error, ApplianceError):
        return error
    failed = EngineError(f"the request could not be computed: {error}", remedy="see the journal")
    failed.__cause__ = error
    return failed


def _bytes(inputs: Inputs) -> int:
    return sum(array.nbytes for array in inputs.values())


def buckets(rows_max: int) -> Iterator[int]:
    """1, 2, 4 and so on below `rows_max`, then `rows_max` itself."""
    rows = 1
    while rows < rows_max:
        yield rows
        rows *= 2
    yield rows_max
