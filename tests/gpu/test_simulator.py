"""All kernels but the images' in numba's CUDA simulator, which decides when it is imported: so in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.gpu.catalogue import sources

ROOT = Path(__file__).parents[2]


def test_every_kernel_in_the_simulator() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.simulated"],
        cwd=ROOT,
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    functions = {source.function for source in sources()}
    assert done.stdout.strip() == f"{len(functions)} kernels"
