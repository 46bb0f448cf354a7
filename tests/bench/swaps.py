"""Swaps under Poisson load: does a request ever pay for one?

Windows with swaps one after another, and among them candidates that fail, alternate with windows without;
both get the same arrivals. Every request must be answered; p99 of the one is held against p99 of the other, and
memory and processor time a request at the end against those at the beginning.
"""

import argparse
import json
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from h2load import Target, poisson
from models import MODELS
from replies import References, target
from rich.console import Console
from rich.table import Table
from servers import Server, holdfast
from states import copied, prepared

from appliance.errors import ApplianceError
from appliance.files import sha256_file
from appliance.golden import Golden
from appliance.manifest import GOLDEN_FILE
from appliance.store import RECORD_NAME, Store
from runtime.client import ControlClient

GOOD, BAD = (1, 2, 3), 4
SWAPS, WINDOW_SECONDS, RATE = 200, 5.0, 200.0
PAUSE_SECONDS = 0.25  # between two decisions: so that a window has moments with a swap and without
BAD_EVERY = 10
P99_GOAL = 1.5


@dataclass(slots=True)
class Swapping:
    """A thread that makes one decision after another while a window lasts."""

    control: ControlClient
    model: str
    done: int = 0
    refused: int = 0
    took_ms: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def during(self, window: object) -> object:
        """Make decisions until `window()` returns."""
        self._stop.clear()
        thread = threading.Thread(target=self._decide)
        thread.start()
        try:
            return window()
        finally:
            self._stop.set()
            thread.join()

    def _decide(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            if (self.done + self.refused) % BAD_EVERY == BAD_EVERY - 1:
                try:
                    self._activate(BAD)
                except ApplianceError:
                    self.refused += 1
                    continue
                raise SystemExit("a version that misses its golden vectors was activated")
            began = time.perf_counter()
            self._activate(GOOD[(self.done + 1) % len(GOOD)])
            self.took_ms.append((time.perf_counter() - began) * 1000)
            self.done += 1

    def _activate(self, version: int) -> None:
        self.control.decide(self.model, "activate", version, actor="bench", reason="a swap")


def run(
    root: Path, *, model: str = "mlp", swaps: int = SWAPS, rate: float = RATE, keep: bool = False
) -> dict:
    """Windows by turns until `swaps` swaps are done; all figures."""
    home = prepared("swaps", [model], keep=keep)
    state = copied(home / "state", root / "state-swaps")
    more_versions(Store(state / "store"), model)
    with (
        holdfast("swaps", state, root, {}) as server,
        ControlClient(state / "control.sock") as control,
    ):
        server.models = frozenset([model])
        sent = target(server, MODELS[model], References(home / "models"))
        poisson(sent, rate, WINDOW_SECONDS, 0, root)
        swapping, windows = Swapping(control, model), []
        lay = partial(window, server, sent, swapping, root)
        while swapping.done < swaps:
            number = len(windows) // 2 + 1
            kinds = ("steady", "swaps") if number % 2 else ("swaps", "steady")
            windows += [lay(kind=kind, rate=rate, seed=number) for kind in kinds]
        windows.append(lay(kind="steady", rate=rate, seed=len(windows)))
    return {"swaps": swapping.done, "refused": swapping.refused, "rate": rate, "model": model,
            "decision_ms": median(swapping.took_ms), "windows": windows} | figures(windows)  # fmt: skip


def window(
    server: Server,
    sent: Target,
    swapping: Swapping,
    root: Path,
    *,
    kind: str,
    rate: float,
    seed: int,
) -> dict:
    """One window and what was read around it."""
    cpu = server.cpu_seconds()

    def load() -> object:
        return poisson(sent, rate, WINDOW_SECONDS, seed, root)

    found = swapping.during(load) if kind == "swaps" else load()
    return {
        "kind": kind, "requests": found.requests, "failed": 1.0 - found.answered,
        "p50_ms": found.p50_ms, "p99_ms": found.p99_ms,
        "cpu_us": (server.cpu_seconds() - cpu) * 1e6 / found.requests,
        "memory_mb": server.memory_mb(), "swaps": swapping.done,
    }  # fmt: skip


def figures(windows: list[dict]) -> dict:
    """What the goals are held against."""
    steady = [each for each in windows if each["kind"] == "steady"]
    swapped = [each for each in windows if each["kind"] == "swaps"]
    ratios = [one["p99_ms"] / other["p99_ms"] for one, other in zip(swapped, steady, strict=False)]
    third = max(len(steady) // 3, 1)
    return {
        "failed": max(each["failed"] for each in windows),
        "p99_ratio": median(ratios),
        "p99_ratios": ratios,
        # The first window has one version loaded, all later ones the active one and the one before it.
        "memory_grown_mb": steady[-1]["memory_mb"] - steady[1]["memory_mb"],
        "cpu_ratio": median(each["cpu_us"] for each in steady[-third:])
        / median(each["cpu_us"] for each in steady[:third]),
    }  # fmt: skip


def more_versions(store: Store, model: str) -> None:
    """Versions 2 and 3 as 1 is, and one that misses its golden vectors."""
    first = store.describe(model, 1).directory
    for number in (*GOOD[1:], BAD):
        shutil.copytree(first, first.parent / str(number))
    spoil(first.parent / str(BAD))


def spoil(directory: Path) -> None:
    """Let the golden vectors of a stored version say something else."""
    path, record = directory / GOLDEN_FILE, directory / RECORD_NAME
    golden = Golden.load(path)
    outputs = {name: np.asarray(array) + 1 for name, array in golden.outputs.items()}
    path.chmod(0o644)
    path.write_bytes(Golden(inputs=golden.inputs, outputs=outputs).to_bytes())
    told = json.loads(record.read_text())
    entry = next(item for item in told["files"] if item["name"] == GOLDEN_FILE)
    entry |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    record.chmod(0o644)
    record.write_text(json.dumps(told))


def show(found: dict) -> None:
    """The windows as a table, and the figures beside their goals."""
    console, table = Console(), Table("window", "p50 ms", "p99 ms", "server us/req", "MB", "swaps")
    for each in found["windows"]:
        table.add_row(
            each["kind"], f"{each['p50_ms']:.2f}", f"{each['p99_ms']:.2f}", f"{each['cpu_us']:.0f}",
            f"{each['memory_mb']:.0f}", str(each["swaps"]),
        )  # fmt: skip
    console.print(table)
    console.print(
        f"{found['model']}: {found['swaps']} swaps of {found['decision_ms']:.0f} ms and {found['refused']} failed candidates "
        f"at {found['rate']:.0f} requests a second: {found['failed']:.2%} of the requests failed (goal 0), "
        f"p99 during swaps {found['p99_ratio']:.2f}x steady (goal {P99_GOAL}), memory "
        f"{found['memory_grown_mb']:+.1f} MB, processor time a request {found['cpu_ratio']:.2f}x (goal 1)"
    )


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted(MODELS), default="mlp")
    parser.add_argument("--swaps", type=int, default=SWAPS)
    parser.add_argument("--rate", type=float, default=RATE, help="requests a second")
    parser.add_argument("--keep", action="store_true", help="built models as they stand")
    parser.add_argument("--output", type=Path, default=Path("build/swaps.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-swaps-") as root:
        found = run(
            Path(root),
            model=options.model,
            swaps=options.swaps,
            rate=options.rate,
            keep=options.keep,
        )
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


if __name__ == "__main__":
    main()
