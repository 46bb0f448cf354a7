"""TensorRT's real Python bindings, importable in a child process without any of NVIDIA's libraries.

Knows: where `packaging/bindings.py` installs them, and how gcc makes libraries that satisfy the loader. Rules: only
child processes import them (a process holds one release); a test that needs what is not here skips with the
reason. Leaves to others: what is asked of the bindings.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / "build" / "bindings"
SOURCE = Path(__file__).parent / "stubs" / "tensorrt.c"
RELEASES = tuple(
    line.split()[0]
    for line in (ROOT / "packaging" / "bindings.lock").read_text().splitlines()
    if line and not line.startswith("#")
)


def missing(release: str) -> str | None:
    """Why `release` cannot be imported here, None when it can."""
    if shutil.which("gcc") is None:
        return "no gcc"
    tags = [path.read_text() for path in (INSTALLED / release).glob("*.dist-info/WHEEL")]
    python = f"Tag: cp{sys.version_info.major}{sys.version_info.minor}-"
    if not any(python in tag for tag in tags):
        return (
            f"TensorRT {release}'s bindings are not installed: run `python packaging/bindings.py`"
        )
    return None


@contextmanager
def environment(release: str) -> Iterator[dict[str, str]]:
    """Variables for a child process that imports the bindings of `release`; stubs live as long as this."""
    with tempfile.TemporaryDirectory() as directory:
        build_stubs(Path(directory), release)
        path = [str(INSTALLED / release), str(ROOT)]
        yield os.environ | {"PYTHONPATH": os.pathsep.join(path), "LD_LIBRARY_PATH": directory}


def build_stubs(directory: Path, release: str) -> None:
    """The libraries that the bindings of `release` ask the loader for, into `directory`."""
    found = re.fullmatch(r"(?:(lean)-)?(\d+)\.\d+", release)
    assert found, release
    lean, major = found.groups()
    names = ["nvinfer_lean"] if lean else ["nvinfer", "nvinfer_plugin", "nvonnxparser"]
    first = f"lib{names[0]}.so.{major}"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-o", str(directory / first), str(SOURCE)], check=True
    )
    for name in names[1:]:
        (directory / f"lib{name}.so.{major}").symlink_to(first)


def run(release: str, code: str, *arguments: str) -> str:
    """What `code` prints in a child with the bindings of `release`. Raises AssertionError when it fails."""
    with environment(release) as variables:
        child = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", code, *arguments],
            env=variables, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False,
        )  # fmt: skip
    assert child.returncode == 0, f"exit {child.returncode}\n{child.stdout}\n{child.stderr}"
    return child.stdout
