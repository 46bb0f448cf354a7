"""CUDA graphs: the same small batch launched step by step and as one graph."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.hardware.checks.ground import Ground, batch, through, views
from tests.hardware.checks.outcome import Told

ABOUT = "a run of one row through many small kernels, as written and as a graph, through the owner's process"


def check(ground: Ground, told: Told) -> None:
    """Time both and compare their results."""
    layers, runs = ground.sized((64, 2000), (4, 20))
    medians = {}
    with tempfile.TemporaryDirectory() as directory:
        path = ground.standin(Path(directory) / "engine", 64, layers)
        for graphs in (False, True):
            with ground.owner(graphs=graphs) as owner:
                lane = owner.load(path).lane()
                number = lane.install(batch(1, 64))
                source, result = views(lane, 1, 64)
                x = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 64)
                source[:] = x
                times = []
                for _ in range(runs):
                    began = time.perf_counter()
                    lane.run(number)
                    times.append(time.perf_counter() - began)
                assert np.array_equal(result, through(x, layers)), "a result is wrong"
                standing = owner.standing()
                assert standing.graphs == int(graphs), standing
            times = sorted(times[10:])
            name = "as a graph" if graphs else "as written"
            medians[graphs] = statistics.median(times)
            told.figure(f"{name}: median", medians[graphs] * 1e6, "us")
            told.figure(f"{name}: p99", times[int(len(times) * 0.99)] * 1e6, "us")
    told.figure("as a graph, against as written", medians[True] / medians[False], "")
