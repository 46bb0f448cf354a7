"""Break the box in every way that the simulation knows, count what becomes of it, and write it down.

    python tests/simulation/reliability.py [--seed S] [--share SHARE] [--only PART ...] [--write]

Parts: cuts (power cuts), faults (calls that fail), tampering, neighbours, kills (a real runtime). Whatever breaks
a law is printed with what made it. --write puts the counts into docs/reliability.json and docs/reliability.md.
Exit code 1 when something broke.
"""

import argparse
import dataclasses
import datetime as dt
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / "build" / "numba"))

import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import Progress  # noqa: E402

from tests.simulation import crashes, faults, kills, neighbours, tampering  # noqa: E402
from tests.simulation.page import write_report  # noqa: E402
from tests.simulation.tracing import Child, build_shim, compiler  # noqa: E402
from tests.simulation.workloads import WORKLOADS  # noqa: E402

SYSTEM = f"Linux {platform.release()}, Python {platform.python_version()}"
BAR = Console(stderr=True)
Told = Callable[[str], None]
# Of workloads with thousands of calls a share is drawn: all would take hours and repeat themselves.
CUT_CHANCES = {"log_folded": 4, "log_read": 4}
FAULT_SHARES = {"log_folded": 0.01, "log_read": 0.15, "log_sealed": 0.15, "log": 0.5}


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of all cases, 0.1: a tenth")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--write", action="store_true", help="write docs/reliability.*")
    options = parser.parse_args()
    broken = 0
    with Progress(console=BAR) as bar:
        for name in options.only:
            part = run(name, options.seed, options.share, bar)
            for line in part["broken"]:
                print(line)
            count = len(part["broken"])
            print(f"{name}: {part['cases']} cases, {count} broken, {part['seconds']} s", flush=True)
            broken += count
            if options.write:
                write_report({name: part}, system=SYSTEM)
    return 1 if broken else 0


def run(name: str, seed: int, share: float, bar: Progress) -> dict[str, Any]:
    """Run one part and say how."""
    task, began = bar.add_task(name, total=None), time.monotonic()

    def told(text: str) -> None:
        bar.update(task, description=f"{name}: {text}")

    found = PARTS[name](seed, share, told)
    bar.update(task, description=name, total=1, completed=1)
    return found | {
        "seed": seed,
        "share": share,
        "seconds": round(time.monotonic() - began),
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
    }


def power_cuts(seed: int, scale: float, told: Told) -> dict[str, Any]:
    """Every workload, every moment, every kind of loss."""
    return _traced(lambda child: _cut_all(child, seed, scale, told))


def _cut_all(child: Child, seed: int, scale: float, told: Told) -> dict[str, Any]:
    rows, broken = {}, []
    for workload in WORKLOADS:
        told(workload)
        chances = CUT_CHANCES.get(workload, 12)
        found = crashes.explore(child, workload, seed=seed, chances=chances, share=scale)
        rows[workload] = {"moments": found.moments, "states": dict(found.states)}
        broken += found.broken
    cases = sum(sum(row["states"].values()) for row in rows.values())
    return {"cases": cases, "workloads": rows, "broken": broken}


def failing_calls(seed: int, scale: float, told: Told) -> dict[str, Any]:
    """Every workload, every call of it, every fault."""
    return _traced(lambda child: _fail_all(child, seed, scale, told))


def _fail_all(child: Child, seed: int, scale: float, told: Told) -> dict[str, Any]:
    rows, broken = {}, []
    for workload in WORKLOADS:
        told(workload)
        share = FAULT_SHARES.get(workload, 1.0) * scale
        found = faults.try_faults(child, workload, seed=seed, share=share)
        rows[workload] = {"cases": dict(found.cases), "told": dict(found.told), "share": share}
        broken += found.broken
    cases = sum(sum(row["cases"].values()) for row in rows.values())
    return {"cases": cases, "workloads": rows, "broken": broken}


def _traced(part: Callable[[Child], dict[str, Any]]) -> dict[str, Any]:
    if compiler() is None:
        raise SystemExit("there is no C compiler (cc) here, which the tracing of calls needs")
    with tempfile.TemporaryDirectory() as directory, Child(build_shim(Path(directory))) as child:
        return part(child)


def tampered(seed: int, scale: float, _: Told) -> dict[str, Any]:
    """Acts on a log at rest."""
    found = tampering.tamper_often(seed=seed, times=int(200 * scale), flips=int(10_000 * scale))
    acts = {act: dict(counts) for act, counts in found.cases.items()}
    return {
        "cases": sum(map(Counter.total, found.cases.values())),
        "acts": acts,
        "broken": found.broken,
    }


def beside(seed: int, scale: float, _: Told) -> dict[str, Any]:
    """A second writer, a long reader, steps of the clock."""
    found = dataclasses.asdict(neighbours.try_neighbours(seed=seed, times=int(500 * scale)))
    return {"cases": found["second_writers"] + found["read_groups"] + found["steps"]} | found


def killed(seed: int, scale: float, told: Told) -> dict[str, Any]:
    """A real runtime under load."""
    from tests.conftest import built_state, runtimes

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        told("building a model")
        state = built_state(work)
        with np.load(ROOT / "examples" / "digits" / "held_out.npz") as archive:
            image = archive["image"][:1]
        with runtimes(work) as start:
            found = kills.kill_often(
                start,
                state,
                image,
                kills=int(300 * scale),
                seed=seed,
                told=lambda number: told(f"kill {number}"),
            )
    return {"cases": found.kills} | dataclasses.asdict(found)


PARTS: dict[str, Callable[[int, float, Told], dict[str, Any]]] = {
    "cuts": power_cuts,
    "faults": failing_calls,
    "tampering": tampered,
    "neighbours": beside,
    "kills": killed,
}

if __name__ == "__main__":
    sys.exit(main())
