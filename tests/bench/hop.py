"""What it costs that the GPU is held by a process of its own.

The same engine, the same programs and the same fake of a GPU, once in this process and once behind the owner's
process, turn about; the difference is the hop: two messages on a socket, two wake-ups, and the process asking
its device in turns. The fake's own work is in both. No figure of a GPU: only of the way to it.

    python tests/bench/hop.py [--rounds 5] [--runs 2000]
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from appliance.config import GpuConfig
from runtime.gpu.here import OwnerHere
from runtime.gpu.opened import Lane
from runtime.gpu.owner import Owner
from tests.gpu.owned import DEVICES, EXECUTIONS, computed, engine_file, program, some


def main() -> int:
    """Print microseconds a run, here and behind the process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = engine_file(Path(directory) / "engine")
        settings = GpuConfig()
        here = OwnerHere(executions=EXECUTIONS, devices=DEVICES, settings=settings)
        began = time.perf_counter()
        owner = Owner(executions=EXECUTIONS, devices=DEVICES, settings=settings)
        print(f"the process starts in {(time.perf_counter() - began) * 1000:.0f} ms")
        try:
            runs = {"here": ran(here.load(path).lane()), "process": ran(owner.load(path).lane())}
            told: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(options.rounds):
                for name, run in runs.items():
                    told[name] += timed(run, options.runs)
        finally:
            here.close()
            owner.close()
    for name, times in told.items():
        cuts = statistics.quantiles(times, n=100)
        print(f"{name:8} p50 {cuts[49]:6.1f} us   p99 {cuts[98]:6.1f} us   of {len(times)} runs")
    hop = statistics.median(told["process"]) - statistics.median(told["here"])
    print(f"the hop  p50 {hop:6.1f} us")
    return 0


def ran(lane: Lane) -> Callable[[], object]:
    """One batch of one row, as a graph."""
    number, x = lane.install(program(1)), some(1)
    for _ in range(4):
        assert np.array_equal(computed(lane, number, x), x * 2 + 1)
    return lambda: computed(lane, number, x)


def timed(run: Callable[[], object], runs: int) -> list[float]:
    """Microseconds of each run."""
    times = []
    for _ in range(runs):
        began = time.perf_counter_ns()
        run()
        times.append((time.perf_counter_ns() - began) / 1000)
    return times


if __name__ == "__main__":
    sys.exit(main())
