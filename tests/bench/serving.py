"""What serving costs over the bare engine, as ratios from one interleaved run.

For each model, rounds of: the bare engine at 1, 8 and 32 rows a call on every core, then the server at 1,
8 and 32 callers in a closed loop from another process, audit record durable before each reply. Medians
over the rounds.
"""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from resnet import write_resnet
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import service_pb2 as oip

from appliance.config import StateConfig, use_kernel_cache
from appliance.store import Store, StoredVersion

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples"
COMMANDS = Path(sys.executable).parent
COUNTS = (1, 8, 32)
PLAIN_SPEC = """
[model]
name = "resnet50"
release_notes = "Random weights: only its arithmetic is real."
batch_max = 32
[data]
sample = "rows.npz"
held_out = "rows.npz"
golden_rows = 2
[tolerance.fp32]
absolute = 1e-2
relative = 1e-2
[provenance]
data_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
training_code = "none"
frameworks = {}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model to measure: its name, one row of input, and seconds a window."""

    model: str
    tensor: str
    datatype: str
    row: np.ndarray
    seconds: float


def run(
    rounds: int = 3, *, quick: bool = False, advance: Callable[[], object] = lambda: None
) -> list[dict[str, object]]:
    """Measure every model; `quick` the digits alone. `advance` is called after each of `windows`."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as directory:
        root = Path(directory)
        cases = [digits_case(root)] + ([] if quick else [resnet_case(root)])
        with serving(root) as address:
            return [measure(case, root, address, rounds, advance) for case in cases]


def windows(rounds: int, *, quick: bool) -> int:
    """How many windows are measured."""
    return rounds * len(COUNTS) * 2 * (1 if quick else 2)


def digits_case(root: Path) -> Case:
    """The digits CNN, as the demo serves it."""
    directory = EXAMPLES / "digits"
    install(root, directory / "digits-2.onnx", directory / "digits-2.toml")
    row = np.load(directory / "sample.npz")["image"][:1]
    return Case(model="digits", tensor="image", datatype="UINT8", row=row, seconds=1.5)


def resnet_case(root: Path) -> Case:
    """ResNet-50's arithmetic on prepared tensors."""
    model, spec = root / "resnet50.onnx", root / "resnet50.toml"
    write_resnet(model)
    rows = np.random.default_rng(1).normal(size=(2, 3, 224, 224)).astype(np.float32)
    np.savez(root / "rows.npz", pixels=rows)
    spec.write_text(PLAIN_SPEC)
    install(root, model, spec)
    return Case(model="resnet50", tensor="pixels", datatype="FP32", row=rows[:1], seconds=4.0)


def install(root: Path, model: Path, spec: Path) -> None:
    """Pack, build and prove a model into the bench's own state directory."""
    state, bundle = root / "state", root / f"{model.stem}.holdfast"
    key = root / "engineer.pem"
    if not key.exists():
        command("holdfast-compile", "keygen", str(root / "engineer"))
        (state / "trust").mkdir(parents=True)
        shutil.copy(root / "engineer.pub", state / "trust")
    command(
        "holdfast-compile", "pack", str(model), "--spec", str(spec), "--key", str(key),
        "-o", str(bundle),
    )  # fmt: skip
    command("holdfast-compile", "build", str(bundle), "--state", str(state))


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """Run the server with every built model active; yields its address."""
    config, journal, state = root / "holdfast.toml", root / "journal", root / "state"
    config.write_text(
        f'[state]\ndirectory = "{state}"\n'
        '[server]\naddress = "127.0.0.1:0"\n[metrics]\naddress = ""\n'
    )
    with journal.open("wb") as log:
        server = subprocess.Popen(
            [COMMANDS / "holdfast-runtime", "--config", config], stderr=log, start_new_session=True
        )
    try:
        while "runtime.ready" not in journal.read_text():
            if server.poll() is not None:
                raise SystemExit(journal.read_text())
            time.sleep(0.05)
        for model in Store(state / "store").models():
            command(
                "holdfast", "activate", model, "1", "--reason", "bench", "--yes",
                "--state", str(state),
            )  # fmt: skip
        yield json.loads(journal.read_text().splitlines()[0])["address"]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def measure(
    case: Case, root: Path, address: str, rounds: int, advance: Callable[[], object]
) -> dict[str, object]:
    """Interleave bare engine and server, round by round; medians and ratios."""
    body = root / f"{case.model}.request"
    body.write_bytes(request(case).SerializeToString())
    state = root / "state"
    use_kernel_cache(StateConfig(directory=str(state)).build_cache)
    stored = Store(state / "store").open(case.model, 1)
    bare: dict[int, list[float]] = {count: [] for count in COUNTS}
    served: dict[int, list[dict[str, float]]] = {count: [] for count in COUNTS}
    for _ in range(rounds):
        for rows in COUNTS:
            bare[rows].append(bare_rows_per_second(stored, rows, case.seconds))
            advance()
        for callers in COUNTS:
            served[callers].append(served_load(address, body, callers, case.seconds))
            advance()
    return summary(case, stored, bare, served)


def request(case: Case) -> oip.ModelInferRequest:
    """One row as a request."""
    message = oip.ModelInferRequest(model_name=case.model, raw_input_contents=[case.row.tobytes()])
    message.inputs.add(name=case.tensor, datatype=case.datatype, shape=case.row.shape)
    return message


def bare_rows_per_second(stored: StoredVersion, rows: int, seconds: float) -> float:
    """Run the version's engine alone on prepared zeros, in a child that exits with its threads."""
    code = (
        "import sys, time, numpy as np\n"
        "from pathlib import Path\n"
        "from appliance.store import Store\n"
        "from runtime.engines import load_engine\n"
        "root, model, rows, seconds = sys.argv[1:]\n"
        "stored = Store(Path(root)).describe(model, 1)\n"
        "entry = stored.record.engine\n"
        "engine = load_engine(entry.kind, stored.engine_path, precision=entry.precision,\n"
        "    interface=stored.manifest.engine, threads=0)\n"
        "inputs = {spec.name: np.zeros((int(rows), *spec.shape), spec.datatype.numpy)\n"
        "    for spec in stored.manifest.engine.inputs}\n"
        "for _ in range(3): engine.run(inputs)\n"
        "calls, began = 0, time.perf_counter()\n"
        "while time.perf_counter() - began < float(seconds): engine.run(inputs); calls += 1\n"
        "print(calls * int(rows) / (time.perf_counter() - began))\n"
    )
    root = stored.directory.parent.parent
    out = subprocess.run(
        [sys.executable, "-c", code, root, stored.manifest.model, str(rows), str(seconds)],
        check=True, capture_output=True, text=True, cwd=HERE.parent.parent,
    )  # fmt: skip
    return float(out.stdout)


def served_load(address: str, body: Path, callers: int, seconds: float) -> dict[str, float]:
    """One window of load from another process."""
    out = subprocess.run(
        [sys.executable, HERE / "load.py", address, body, str(callers), str(seconds)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(out.stdout)
    if found["failures"]:
        raise SystemExit(f"{found['failures']} requests failed under load")
    return found


def summary(
    case: Case,
    stored: StoredVersion,
    bare: dict[int, list[float]],
    served: dict[int, list[dict[str, float]]],
) -> dict[str, object]:
    """Medians of the rounds; each ratio is paired within its round before the median."""
    ceilings = [max(rates) for rates in zip(*bare.values(), strict=True)]
    rates = {
        callers: [window["requests"] / window["seconds"] for window in windows]
        for callers, windows in served.items()
    }
    return {
        "model": case.model,
        "engine": stored.record.engine.kind,
        "bare_rows_per_second": {str(rows): median(values) for rows, values in bare.items()},
        "served": {
            str(callers): {
                "requests_per_second": median(rates[callers]),
                "of_bare": median(
                    rate / ceiling for rate, ceiling in zip(rates[callers], ceilings, strict=True)
                ),
                "p50_ms": median(window["p50_ms"] for window in windows),
                "p99_ms": median(window["p99_ms"] for window in windows),
                "client_cpu_share": median(
                    window["client_cpu_seconds"] / window["seconds"] for window in windows
                ),
            }
            for callers, windows in served.items()
        },
    }


def show(results: list[dict[str, object]]) -> None:
    """Print the ratios as a table."""
    columns = ("model", "engine", "callers", "req/s", "of bare", "p50 ms", "p99 ms", "client CPU")
    table = Table(*columns, title="served against the bare engine's best batch, both on all cores")
    for result in results:
        for callers, row in result["served"].items():  # type: ignore[attr-defined]
            table.add_row(
                str(result["model"]), str(result["engine"]), callers,
                f"{row['requests_per_second']:.0f}", f"{row['of_bare']:.2g}",
                f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}", f"{row['client_cpu_share']:.2f}",
            )  # fmt: skip
    Console().print(table)


def command(program: str, *arguments: str) -> None:
    """Run one of our commands; ends the bench with its words when it fails."""
    done = subprocess.run(
        [COMMANDS / program, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{program} {' '.join(arguments)}\n{done.stdout}{done.stderr}")
