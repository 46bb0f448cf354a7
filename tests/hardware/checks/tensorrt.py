"""With TensorRT: parse, build, proof, precision read back, served against bare, swaps, by the command that users have."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from runtime.gpu.process import environment
from tests.hardware.checks.ground import Ground
from tests.hardware.checks.outcome import Figure, NotRun, Told

ABOUT = "holdfast-compile selftest --gpu: parse, build, proof, precision read back, served against bare, 50 swaps"
ROOT = Path(__file__).resolve().parents[3]
SECONDS_MAX = 140


def check(ground: Ground, told: Told) -> None:
    """Run the self-test, with the defaults and not this box's own configuration, and take over what it found."""
    if ground.fake:
        raise NotRun("the fake runs no plans")
    from appliance.errors import GpuUnusable
    from runtime.gpu.tensorrt_library import builds, library

    try:
        trt = library()
    except GpuUnusable as error:
        raise NotRun(str(error)) from error
    if not builds(trt):
        raise NotRun("TensorRT's lean runtime builds no engines")
    command = [sys.executable, "-c", "from compiler.cli import main; main()"]
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "holdfast.toml"
        config.touch()
        places = ["--config", config, "--state", Path(directory) / "state"]
        try:
            done = subprocess.run(
                [*command, "selftest", "--gpu", "--json", *places],
                cwd=ROOT,
                env=environment(os.environ, ground.device),
                capture_output=True,
                text=True,
                timeout=SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the self-test took longer than {SECONDS_MAX} seconds") from None
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"no report: {(done.stdout + done.stderr)[-2000:]}") from None
    take_over(found, told)


def take_over(found: dict[str, Any], told: Told) -> None:
    """What `selftest --json` says. Raises AssertionError naming every step that failed."""
    assert not found["trouble"], f"{found['trouble']} ({found['remedy']})"
    for figure in found["figures"]:
        goal = "" if figure["goal"] is None else f"at most {figure['goal']:,.7g}"
        told.figures.append(Figure(**{**figure, "goal": goal}))
    wrong = [
        f"{tried['precision']}, {step['name']}: {step['why']}"
        for tried in found["tried"]
        for step in tried["steps"]
        if step["state"] == "failed"
    ]
    for tried in found["tried"]:
        first = tried["steps"][0]
        if first["state"] == "not run":
            told.note(f"{tried['precision']} was not run: {first['why']}")
    assert not wrong, "; ".join(wrong)
