"""Devices keep their contract on a real GPU, by each library that is installed; skipped without a GPU."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from appliance.driver import probe
from tests.gpu import device_contract

ROOT = Path(__file__).parents[2]
PROMISES = [name for name in device_contract.__all__ if name.startswith("test_")]
LIBRARIES = {"pycuda": "pycuda", "bindings": "cuda"}


@pytest.fixture(scope="module")
def found():
    answer = probe()
    if not answer.usable:
        pytest.skip(answer.trouble)
    return answer


@pytest.mark.gpu
@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_real_gpu_keeps_it(found, library, promise):
    if find_spec(LIBRARIES[library]) is None:
        pytest.skip(f"{library} is not installed")
    options = ["-q", "--no-cov", "-p", "no:cacheprovider", "-k", promise]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/hardware/child_contract.py"],
        env={**os.environ, "HOLDFAST_GPU_LIBRARY": library},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
