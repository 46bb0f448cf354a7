"""One precision tried: rewritten, built, loaded, proven, measured, swapped.

Knows: the steps and what each measures. Rules: every step is the code that builds and serves; a step that fails ends the
precision, and those behind it are told as not run; times are wall times of this box, medians of many runs. Leaves to
others: the child that this runs in (`running`), the model (`compiler.opening.specimen`).
"""

import math
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from statistics import median

from appliance.errors import ApplianceError, EngineError, GoldenMissed
from appliance.golden import deviations, value_range
from appliance.manifest import CalibrationMethod, Precision, Tolerances
from appliance.proof import Inspected
from appliance.recipe import Recipe
from appliance.store import EngineEntry
from appliance.tensors import Array
from compiler.gpu import BoxGpu
from compiler.opening.graph import interface_of
from compiler.opening.source import Source
from compiler.opening.specimen import INPUT, OUTPUT, pictures, specimen
from compiler.precision import lowered
from compiler.precision.calibration import calibrate
from compiler.progress import Progress
from compiler.reference import Reference
from compiler.rows.samples import Rows
from compiler.selftest.findings import STEPS, Figure, Step, Tried
from compiler.targets.tensorrt.inspected import inspected_in
from compiler.targets.tensorrt.target import TensorRTTarget
from runtime.engines import load_engine
from runtime.engines.engine import Engine
from runtime.gpu import current
from runtime.gpu.program import Execute, Layout, Place, Program

ROWS_MAX = 32
RUNS = 100
SWAPS = 50
KEPT_BYTES_MAX = (
    4 << 20
)  # between the memory before the first swap and after the last: the driver's own rounding


class Trial:
    """One precision on its way."""

    def __init__(
        self, gpu: BoxGpu, precision: Precision, directory: Path, progress: Progress
    ) -> None:
        self._gpu, self._precision = gpu, precision
        self._directory, self._progress = directory, progress
        self._source = specimen()
        self._interface = interface_of(self._source, ROWS_MAX)
        self._inputs = pictures(ROWS_MAX)
        self._graph: Source = self._source
        self._entry: EngineEntry | None = None
        self._engine: Engine | None = None
        self._inspected: Inspected | None = None

    def tried(self) -> Tried:
        """Do every step, until one fails."""
        steps: list[Step] = []
        with ExitStack() as open_engines:
            for name in STEPS:
                if any(step.state == "failed" for step in steps):
                    steps.append(Step(name=name, state="not run", why="a step before it failed"))
                else:
                    self._progress.stage(f"{self._precision}: {name}", 1)
                    steps.append(self._done(name, open_engines))
        return Tried(precision=self._precision, steps=tuple(steps), inspected=self._inspected)

    def _done(self, name: str, open_engines: ExitStack) -> Step:
        begun = time.monotonic()
        try:
            if name == "load":
                self._engine = open_engines.enter_context(self._load())
                figures: tuple[Figure, ...] = ()
            else:
                figures = self._work(name)()
        except ApplianceError as error:
            why = f"[{error.code}] {error}; {error.remedy}"
        except Exception as error:  # noqa: BLE001 - what nobody foresaw is what the report is for
            last = traceback.extract_tb(error.__traceback__)[-1]
            why = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {error}"
        else:
            return Step(name=name, state="run", seconds=_since(begun), figures=figures)
        return Step(name=name, state="failed", why=why, seconds=_since(begun))

    def _work(self, name: str) -> Callable[[], tuple[Figure, ...]]:
        return {
            "rewrite": self._rewrite,
            "build": self._build,
            "prove": self._prove,
            "measure": self._measure,
            "swap": self._swap,
        }[name]

    def _rewrite(self) -> tuple[Figure, ...]:
        ranges = None
        if self._precision is Precision.INT8:
            sample = pictures(2 * ROWS_MAX)
            ranges = calibrate(self._source, sample, CalibrationMethod.MINMAX, batch_max=ROWS_MAX)
        self._graph = lowered(self._source, self._precision, ranges)
        return ()

    def _build(self) -> tuple[Figure, ...]:
        target = TensorRTTarget(gpu=self._gpu, progress=self._progress)
        self._entry = target.compile(
            self._graph, self._directory, self._interface, 0, self._precision
        )
        self._inspected = inspected_in(self._directory / self._entry.file)
        return (
            Figure(name="plan", value=self._inspected.plan_bytes, unit="bytes"),
            Figure(
                name="activations of a lane", value=self._inspected.activation_bytes, unit="bytes"
            ),
        )

    def _load(self) -> AbstractContextManager[Engine]:
        assert self._entry is not None
        return closing(
            load_engine(
                self._entry.kind,
                self._directory / self._entry.file,
                interface=self._interface,
                threads=1,
                precision=self._precision,
            )
        )

    def _prove(self) -> tuple[Figure, ...]:
        """The full batch, one row and an odd number of rows against the reference, within the default tolerance."""
        reference = Reference(self._source, Recipe(), self._interface)
        (call,) = reference.calls(Rows(inputs=self._inputs))
        wanted, largest = call.outputs[OUTPUT], 0.0
        tolerance, scale = Tolerances().of(self._precision), value_range(wanted)
        for rows in (ROWS_MAX, 1, ROWS_MAX // 2 - 1):
            got = self._run(rows)
            missed, errors = deviations(got, wanted[:rows], tolerance, scale)
            largest = max(largest, float(errors.max()))
            if missed.any():
                raise GoldenMissed(
                    f"{missed.sum()} of {missed.size} results of {rows} rows are out of tolerance, "
                    f"by up to {largest:.3g} where the reference spans {scale:.3g}",
                    remedy="report this with the versions of TensorRT and the driver",
                )
        return (Figure(name=f"largest error, of a span of {scale:.3g}", value=largest, unit=""),)

    def _measure(self) -> tuple[Figure, ...]:
        """The engine alone, and with its arrays copied there and back, as versions without kernels are served."""
        alone, copied = self._bare_seconds(), _median_seconds(lambda: self._run(ROWS_MAX))
        one = _median_seconds(lambda: self._run(1))
        return (
            Figure(name=f"engine alone, {ROWS_MAX} rows", value=alone * 1e3, unit="ms"),
            Figure(name=f"with copies, {ROWS_MAX} rows", value=copied * 1e3, unit="ms"),
            Figure(name="engine alone / with copies", value=alone / copied, unit=""),
            Figure(name="with copies, 1 row", value=one * 1e3, unit="ms"),
        )

    def _swap(self) -> tuple[Figure, ...]:
        """The engine loaded, run and closed many times beside the one that stays: memory comes back."""
        free = []
        for _ in range(SWAPS):
            with self._load() as engine:
                engine.run(self._inputs)
            free.append(_free_bytes())
        kept = free[0] - free[-1]
        if kept > KEPT_BYTES_MAX:
            raise EngineError(
                f"{SWAPS} swaps kept {kept} bytes of the GPU's memory",
                remedy="report this with the versions of TensorRT and the driver",
            )
        figure = Figure(
            name=f"memory kept by {SWAPS} swaps",
            value=kept,
            unit="bytes",
            goal=KEPT_BYTES_MAX,
            met=True,
        )
        return (figure,)

    def _run(self, rows: int) -> Array:
        assert self._engine is not None
        return self._engine.run({INPUT: self._inputs[INPUT][:rows]})[OUTPUT]

    def _bare_seconds(self) -> float:
        """Of a program that only runs the engine, on what lies in the lane's memory."""
        assert self._entry is not None
        owned = current.gpus().load(self._directory / self._entry.file)
        with closing(owned), closing(owned.lane()) as lane:
            shapes = {INPUT: self._inputs[INPUT].shape}
            layout = Layout()

            def places(found: dict[str, tuple[int, ...]]) -> dict[str, Place]:
                sizes = {name: 4 * math.prod(shape) for name, shape in found.items()}
                return {
                    name: Place(space="arena", offset=layout.take(size))
                    for name, size in sizes.items()
                }

            step = Execute(
                shapes=shapes, inputs=places(shapes), outputs=places(lane.shapes(shapes))
            )
            program = Program(steps=(step,), slot_bytes=0, arena_bytes=layout.size)
            number = lane.install(program)
            return _median_seconds(lambda: lane.run(number))


def _median_seconds(run: Callable[[], object]) -> float:
    """Of RUNS calls, after a few that make graphs and wake the GPU."""
    for _ in range(5):
        run()
    times = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return median(times)


def _free_bytes() -> int:
    (standing,) = current.standings()
    return standing.free_bytes


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 3)
