"""What a batch costs this processor when a GPU runs the version: over the fake, which computes nothing of worth.

    python -m tests.bench.gpu_serving

Tells microseconds of a run through the owner's process and within this one (a plan of one small product), and
of a fused batch without its run.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import helper

from appliance.config import GpuConfig
from appliance.manifest import Precision
from runtime.engines import load_engine
from runtime.gpu import current
from tests.gpu import few_threads, test_engine, test_fusing
from tests.gpu.models import tiny_engine

RUNS = 2000


def median_us(call: Callable[[], object]) -> float:
    """Of RUNS calls."""
    took = []
    for _ in range(RUNS):
        began = time.perf_counter_ns()
        call()
        took.append(time.perf_counter_ns() - began)
    return sorted(took)[RUNS // 2] / 1000


def use(*, here: bool) -> None:
    """The fake, here or in a process of its own."""
    current.use(
        GpuConfig(),
        executions="tests.gpu.sessions:open_sessions",
        devices="tests.gpu.fakes:open_fake",
        here=here,
    )


def of_runs(directory: Path, *, here: bool) -> float:
    """One run of an engine, eight rows."""
    use(here=here)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    constants = {"w": test_engine.WEIGHTS}
    path = tiny_engine(directory, test_engine.MATMUL, [node], constants)
    engine = load_engine(
        "tensorrt", path, interface=test_engine.MATMUL, threads=1, precision=Precision.FP32
    )
    try:
        return median_us(lambda: engine.run({"x": test_engine.ROWS}))
    finally:
        engine.close()
        current.release()


def of_fused(directory: Path, side: int) -> float:
    """One picture through all of a fused batch but its run."""
    few_threads.set_for_good()
    use(here=True)
    both = test_fusing.classifier(directory)
    request = {"photo": np.zeros((1, side, side, 1), np.uint8)}
    both.fused.run([request])
    both.engine.gpu_lane.run = lambda _number: None
    try:
        return median_us(lambda: both.fused.run([request]))
    finally:
        current.release()


def main() -> None:
    """Measure and tell."""
    with tempfile.TemporaryDirectory() as directory:
        print(f"a run through the owner's process: {of_runs(Path(directory), here=False):.0f} us")
        print(f"a run within this process: {of_runs(Path(directory), here=True):.0f} us")
        for side in (8, 512):
            told = of_fused(Path(directory), side)
            print(f"a fused batch of one picture of {side} x {side} without its run: {told:.0f} us")


if __name__ == "__main__":
    main()
