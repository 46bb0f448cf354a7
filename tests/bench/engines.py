"""The engine-choice table of `make bench`: precision by engine by batch, as ratios over ONNX Runtime fp32.

For the digits CNN and graphs of ResNet-50's and BERT's shapes: every engine that this box can make, loaded
side by side on one thread and run in turn, so that a busy moment hits all alike; medians of each batch.
Absolute figures drift on a shared machine; the ratios are the result. Random weights and rows: the
arithmetic is real, the answers are of no use.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnx
from bert import Encoder
from resnet import write_resnet
from rich.console import Console
from rich.table import Table

from appliance.errors import EngineBuild
from appliance.manifest import CalibrationMethod, Precision
from appliance.tensors import Array, Interface
from compiler.opening.graph import interface_of
from compiler.opening.source import Source, open_source
from compiler.precision import Ranges, lowered
from compiler.precision.calibration import calibrate
from compiler.targets import TARGETS, Target
from runtime.engines import Engine, load_engine

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PRECISIONS = (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8)
BASE = "onnxruntime fp32"
CALIBRATION_ROWS = 2
TURNS_MIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model to measure: its file, batches, and seconds for all engines at one batch."""

    name: str
    path: Path
    batches: tuple[int, ...]
    seconds: float


def run(*, quick: bool = False, advance: Callable[[], object] = lambda: None) -> dict[str, object]:
    """Measure every model; `quick` the digits alone. `advance` is called after each of `names`."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as directory:
        root = Path(directory)
        results = []
        for name in names(quick=quick):
            results.append(measured(MODELS[name](root), root))
            advance()
    return {"threads": 1, "over": BASE, "models": results}


def names(*, quick: bool = False) -> list[str]:
    """The models that are measured."""
    return ["digits"] if quick else list(MODELS)


def digits(_: Path) -> Model:
    """The demo's CNN."""
    path = EXAMPLES / "digits" / "digits-2.onnx"
    return Model(name="digits", path=path, batches=(1, 8, 32), seconds=0.5)


def resnet(root: Path) -> Model:
    """ResNet-50's arithmetic."""
    write_resnet(root / "resnet50.onnx")
    return Model(name="resnet50", path=root / "resnet50.onnx", batches=(1, 4), seconds=1.0)


def bert(root: Path) -> Model:
    """Six layers of BERT's arithmetic, 128 tokens."""
    onnx.save(Encoder().model(), root / "bert.onnx")
    return Model(name="bert", path=root / "bert.onnx", batches=(1, 4), seconds=1.0)


MODELS: dict[str, Callable[[Path], Model]] = {"digits": digits, "resnet50": resnet, "bert": bert}


def measured(model: Model, root: Path) -> dict[str, object]:
    """Every engine of a model, made, compared and timed."""
    source = open_source(model.path)
    interface = interface_of(source, max(model.batches))
    rows = {batch: random_rows(interface, batch) for batch in model.batches}
    seen = random_rows(interface, CALIBRATION_ROWS)
    ranges = calibrate(source, seen, CalibrationMethod.MINMAX, batch_max=CALIBRATION_ROWS)
    engines, refused = made(source, interface, ranges, root)
    first = min(model.batches)
    wanted = output(engines[BASE], rows[first])
    errors = {
        name: float(np.abs(output(engine, rows[first]) - wanted).max() / np.ptp(wanted))
        for name, engine in engines.items()
    }
    timings = {batch: in_turn(engines, rows[batch], model.seconds) for batch in model.batches}
    for engine in engines.values():
        engine.close()
    return {
        "model": model.name,
        "engines": {
            name: {
                "error_of_range": errors[name],
                "batches": {
                    str(batch): {
                        "median_ms": found[name] * 1e3,
                        "speed": found[BASE] / found[name],
                        "rows_per_second": batch / found[name],
                    }
                    for batch, found in timings.items()
                },
            }
            for name in engines
        },
        "refused": refused,
    }


def made(
    source: Source, interface: Interface, ranges: Ranges | None, root: Path
) -> tuple[dict[str, Engine], dict[str, str]]:
    """Every engine that this box makes of the model, and why it does not make the others."""
    engines: dict[str, Engine] = {}
    refused: dict[str, str] = {}
    for precision in PRECISIONS:
        unable = {target.kind: target.unable(precision) for target in TARGETS}
        graph = source if all(unable.values()) else lowered(source, precision, ranges)
        for target in TARGETS:
            name, reason = f"{target.kind} {precision}", unable[target.kind]
            try:
                if reason is not None:
                    raise EngineBuild(reason, remedy="none")
                engines[name] = engine_of(target, graph, interface, precision, root)
            except EngineBuild as error:
                refused[name] = str(error)
    return engines, refused


def engine_of(
    target: Target, graph: Source, interface: Interface, precision: Precision, root: Path
) -> Engine:
    """Compile and load one engine of a lowered graph. Raises EngineBuild."""
    entry = target.compile(graph, root, interface, 1, precision)
    return load_engine(
        entry.kind, root / entry.file, interface=interface, threads=1, precision=precision
    )


def in_turn(engines: dict[str, Engine], rows: dict[str, Array], seconds: float) -> dict[str, float]:
    """Median seconds of a call of each engine; the first calls, which warm it, are left out."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine.run(rows)
    started, turns = time.perf_counter(), 0
    while turns < TURNS_MIN or time.perf_counter() - started < seconds:
        turns += 1
        for name, engine in engines.items():
            began = time.perf_counter()
            engine.run(rows)
            times[name].append(time.perf_counter() - began)
    return {name: median(found) for name, found in times.items()}


def random_rows(interface: Interface, count: int) -> dict[str, Array]:
    """Normal rows for every input, all of which are FP32."""
    random = np.random.default_rng(count)
    return {
        spec.name: random.normal(size=(count, *spec.shape)).astype(np.float32)
        for spec in interface.inputs
    }


def output(engine: Engine, rows: dict[str, Array]) -> Array:
    """The engine's one output."""
    (found,) = engine.run(rows).values()
    return found


def show(report: dict[str, object]) -> None:
    """Print the speeds over ONNX Runtime fp32 as a table."""
    console = Console()
    for result in report["models"]:  # type: ignore[attr-defined]
        engines = result["engines"]
        batches = list(next(iter(engines.values()))["batches"])
        columns = ["engine", *(f"{batch} rows" for batch in batches), "error of range"]
        table = Table(*columns, title=f"{result['model']}: speed over {BASE}, one thread")
        for name, row in engines.items():
            speeds = [f"{row['batches'][batch]['speed']:.2f}" for batch in batches]
            table.add_row(name, *speeds, f"{row['error_of_range']:.1e}")
        console.print(table)
        for name, reason in result["refused"].items():
            console.print(f"{name}: {reason}", markup=False)


if __name__ == "__main__":
    show(run())
