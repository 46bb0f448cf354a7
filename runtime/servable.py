"""One version, loaded and warm (a door: the compiler proves versions with it).

Knows: how the outputs of an engine call become answers. Rules: when the engine refuses a batch, each
request is tried alone, so that one bad request costs the others nothing but time; lanes of one version
share its weights and its kernels, never a buffer. Leaves to others: the engine call (`runtime.computing`),
when to run (`runtime.batching`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import msgspec

from appliance.clock import Clock, SystemClock
from appliance.errors import ApplianceError, EngineError, GpuLost, RecipeError
from appliance.golden import Golden, check_golden
from appliance.manifest import GOLDEN_FILE, PROFILE_FILE, Manifest, Precision
from appliance.profiles import Profile
from appliance.states import State
from appliance.store import EngineEntry, StoredVersion
from appliance.tables import from_json
from appliance.tensors import Array, shapes_to_try
from runtime.buffers import parts_of
from runtime.computing import Computing, Work, copied
from runtime.engines import Engine, load_engine
from runtime.fusing import Fuse, fusing
from runtime.kernels.chain import Chain
from runtime.kernels.vector import DriftVector
from runtime.trials import of_lengths, over_again, repeated

Inputs: TypeAlias = Mapping[str, Array]
ON_GPU = "tensorrt"  # the kind of engine
WARM_RUNS_ON_GPU = 3  # the second is captured as a graph, the third replays it (`runtime.gpu.lane`)

Check: TypeAlias = Callable[[Inputs, Golden], float]


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
        fuse: Fuse | None = None,
    ) -> None:
        """`chain` and `vector` are of the engine without its `states`; `fuse` is None where the CPU runs them."""
        self._engine = engine
        self._chain = chain
        self._vector = vector
        self._clock = clock or SystemClock()
        self._states = states
        self._fuse = fuse
        self._work: Work = (
            Computing(engine, chain, vector, states, self._clock)
            if fuse is None
            else fuse(engine, self._clock)
        )
        self.interface = chain.served

    @property
    def resting(self) -> bool:
        """See Engine."""
        return self._engine.resting

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
            fuse=self._fuse,
        )

    def run(self, requests: Sequence[Inputs], rows: int = 0) -> list[Answer | ApplianceError]:
        """Answer `requests`, inputs by served name, in order; a failed one gets its error.

        Batched requests have shape (rows, ...) and rows together at most `batch_max`; requests of
        one call must agree in `batch_key`. The engine call is padded to `rows` rows when they are
        fewer; nobody gets those. An unbatched model takes one request a call.
        """
        try:
            return [*self._run_batch(requests, rows)]
        except GpuLost as error:
            # Whatever broke the GPU may do so again: each gets its error, once.
            return [error] * len(requests)
        except Exception as error:  # noqa: BLE001 - a fault of one request must not reach the others
            if len(requests) == 1:
                return [_engine_error(error)]
        return [answer for request in requests for answer in self.run([request])]

    def batch_key(self, inputs: Inputs) -> tuple[tuple[int, ...], ...]:
        """Requests with equal keys fit one engine call."""
        return self._work.key(inputs)

    def warm(self, golden: Golden, sizes: Sequence[int] = (), *, proven: bool = False) -> None:
        """Compile kernels, run the ends of axes' ranges and batch sizes by doubling, the largest last.

        Of `sizes`, in rows, those that a batch may have are run too. One that is `proven` has run one row
        and the largest batch: those are left out, but on a GPU, where a proof brings more back than an answer does
        and a program becomes a graph only when it has run a few times.
        """
        on_gpu = self._engine.kind == ON_GPU
        runs = WARM_RUNS_ON_GPU if on_gpu else 1
        self._chain.warm()
        for shapes in shapes_to_try(self.interface):
            self._run_often(of_lengths(self.interface, shapes, golden), runs)
        most = max(self.interface.batch_max, 1)
        wanted = {*buckets(most), *(size for size in sizes if size < most)}
        for rows in sorted(wanted - {1, most} if proven and not on_gpu else wanted):
            self._run_often(repeated(golden.inputs, rows, self.interface.batch_max), runs)

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
            computed = self._work.compute([inputs], whole=True)
        except ApplianceError:
            raise
        except Exception as error:  # as in `run`
            raise _engine_error(error) from error
        return computed.outputs, computed.served

    def completed(self, inputs: Inputs, outputs: Inputs) -> Inputs:
        """The served outputs of a request of `inputs` whose engine outputs are `outputs`."""
        return self._chain.after(outputs, self._work.placed(inputs))

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    def _run_often(self, request: Inputs, runs: int) -> None:
        for _ in range(runs):
            self._work.compute([request])

    def _golden_error(self, golden: Golden, check: Check, *, rows_max: int) -> float:
        worst = 0.0
        for start in range(0, golden.rows, rows_max):
            part = slice(start, start + rows_max)
            wanted = Golden(
                inputs={name: array[part] for name, array in golden.inputs.items()},
                outputs={name: array[part] for name, array in golden.outputs.items()},
            )
            computed = self._work.compute([self._as_sent(wanted.inputs)], whole=True)
            worst = max(worst, check(self._as_rows(computed.outputs), wanted))
        return worst

    def _as_sent(self, rows: Inputs) -> Inputs:
        return rows if self.interface.batch_max else {name: a[0, ...] for name, a in rows.items()}

    def _as_rows(self, outputs: Inputs) -> Inputs:
        return outputs if self.interface.batch_max else {n: a[None] for n, a in outputs.items()}

    def _run_batch(self, requests: Sequence[Inputs], rows: int) -> list[Answer]:
        began = self._clock.monotonic_ns()
        computed = self._work.compute(requests, rows)
        served, vectors, states = computed.served, computed.vectors, computed.states
        before, after = computed.began_ns - began, self._clock.monotonic_ns() - computed.ended_ns
        if len(requests) == 1:
            own = slice(computed.rows) if self.interface.batch_max else ...
            return [
                Answer(
                    outputs=served,
                    vectors=vectors,
                    states=copied(states, own),
                    before_ns=before,
                    after_ns=after,
                )
            ]
        return [
            Answer(
                outputs={name: array[part] for name, array in served.items()},
                vectors=vectors[part],
                states=copied(states, part),
                before_ns=before,
                after_ns=after,
            )
            for part in parts_of(requests)
        ]


def load_proven(
    stored: StoredVersion, *, threads: int, lanes: int = 1, sizes: Sequence[int] = ()
) -> Servable:
    """Load a version whose files were checked, warm it and prove it again on its golden vectors.

    The engine is made for as many `lanes`, of which this is the first, each on `threads` threads (0: they
    share the cores). `sizes` are batch sizes, in rows, that are warmed too. Raises EngineLoad, EngineError,
    RecipeError, StoreError or GoldenMissed; nothing stays loaded then.
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
        fuse = fusing(engine, manifest, profile.layout, chain)
    except BaseException:
        engine.close()
        raise
    return Servable(engine=engine, chain=chain, vector=vector, states=manifest.states, fuse=fuse)


def golden_of(directory: Path) -> Golden:
    """The golden vectors kept beside an engine. Raises StoreError."""
    return Golden.load(directory / GOLDEN_FILE)


def _engine_error(error: Exception) -> ApplianceError:
    if isinstance(error, ApplianceError):
        return error
    failed = EngineError(f"the request could not be computed: {error}", remedy="see the journal")
    failed.__cause__ = error
    return failed


def buckets(rows_max: int) -> Iterator[int]:
    """1, 2, 4 and so on below `rows_max`, then `rows_max` itself."""
    rows = 1
    while rows < rows_max:
        yield rows
        rows *= 2
    yield rows_max
