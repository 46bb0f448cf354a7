"""The same image kernels in numba's CUDA simulator, which decides when it is imported: so in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.gpu.image_cases import SMALL

ROOT = Path(__file__).parents[2]


def test_images_in_the_simulator() -> None:
    done = subprocess.run(
        [
            *[sys.executable, "-m", "pytest", "-q", "--no-cov", "-p", "no:cacheprovider"],
            *["tests/gpu/test_image_part.py", "-k", "test_one_block"],
        ],
        cwd=ROOT,
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SMALL)} passed" in done.stdout
