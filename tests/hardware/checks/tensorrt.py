"""With TensorRT: parse, build, proof, precision read back, served against bare, swaps, by the command that users have."""

import json
import os
import subprocess
import sys
from pathlib import Path

from runtime.gpu.process import environment
from tests.hardware.checks.ground import Ground
from tests.hardware.checks.outcome import Figure, NotRun, Told

ABOUT = "holdfast-compile selftest --gpu: parse, build, proof, precision read back, served against bare, 50 swaps"
ROOT = Path(__file__).resolve().parents[3]
SECONDS_MAX = 140


def check(ground: Ground, told: Told) -> None:
    """Run the self-test and take over its figures."""
    if ground.fake:
        raise NotRun("the fake runs no plans")
    from appliance.errors import GpuUnusable
    from runtime.gpu.tensorrt_library import library

    try:
        library()
    except GpuUnusable as error:
        raise NotRun(str(error)) from error
    command = "from compiler.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "selftest", "--gpu", "--json"],
        cwd=ROOT,
        env=environment(os.environ, ground.device),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"no report: {(done.stdout + done.stderr)[-2000:]}") from None
    for figure in found["figures"]:
        told.figures.append(Figure(**figure))
    assert done.returncode == 0, found["trouble"] or done.stderr[-2000:]
