"""Stubs of NVIDIA's libraries, built by gcc, for processes that the tests start.

Knows: how `stubs/*.c` become libcuda.so.1 and libnvidia-ml.so.1. Rules: a stub is found through LD_LIBRARY_PATH by a
child process only; loaded into the tests' own process it would pass for a driver in every later test. Every function
that cuda.h declares and the stub lacks is there as well and says "not supported". Leaves to others: what the stubs do
(the C files say it), TensorRT's stubs (`bindings`).
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "stubs"
KEPT = Path(__file__).parents[2] / "build" / "stubs"
PROFILER = ("cuProfilerInitialize", "cuProfilerStart", "cuProfilerStop")  # pycuda asks for them
FLAGS = ("-shared", "-fPIC", "-O1", "-w")


def stub_cuda() -> Path:
    """The folder of a libcuda.so.1; skips the test where there is no gcc or no cuda.h."""
    header = cuda_include() / "cuda.h"
    return _built("cuda", HERE / "cuda.c", header, _build_cuda)


def stub_nvml() -> Path:
    """The folder of a libnvidia-ml.so.1; skips the test where there is no gcc."""
    return _built("nvml", HERE / "nvml.c", HERE / "nvml.c", _build_nvml)


def over_stubs(*folders: Path, **settings: str) -> dict[str, str]:
    """The environment of a child that finds the stubs in `folders`; `settings` such as STUB_CUDA="count=0"."""
    environment = {name: value for name, value in os.environ.items() if "CUDA" not in name}
    return {
        **environment,
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, folders)),
        **settings,
    }


def cuda_include() -> Path:
    """The folder of cuda.h, of the wheel nvidia-cuda-runtime; skips the test when it is not installed."""
    found = find_spec("nvidia")
    for root in found.submodule_search_locations if found else ():
        for folder in sorted(Path(root).glob("*/include")):
            if (folder / "cuda.h").is_file():
                return folder
    pytest.skip("cuda.h is not here: install nvidia-cuda-runtime")


def _built(name: str, source: Path, header: Path, build) -> Path:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc to build the stub libraries with")
    digest = hashlib.sha256(source.read_bytes() + Path(__file__).read_bytes() + header.read_bytes())
    folder = KEPT / f"{name}-{digest.hexdigest()[:16]}"
    if not folder.is_dir():
        KEPT.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=KEPT))
        build(compiler, source, fresh)
        try:
            fresh.rename(folder)
        except OSError:  # another process was quicker
            shutil.rmtree(fresh)
    return folder


def _build_cuda(compiler: str, source: Path, folder: Path) -> None:
    include = cuda_include()
    command = [compiler, "-E", "-P", include / "cuda.h"]
    plain = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    names = sorted({*re.findall(r"\b(cu[A-Z]\w+)\(", plain), *PROFILER})
    assert len(names) > 300, "cuda.h was not read"
    rest = folder / "rest.c"
    rest.write_text(
        "".join(f"__attribute__((weak)) int {name}(void) {{ return 801; }}\n" for name in names)
    )
    objects = []
    for file in (source, rest):
        objects.append(folder / f"{file.stem}.o")
        flags = [*FLAGS[1:], "-fno-builtin", "-I", include]
        subprocess.run([compiler, "-c", *flags, "-o", objects[-1], file], check=True)
    library = folder / "libcuda.so.1"
    link = [compiler, *FLAGS, "-Wl,-soname,libcuda.so.1", "-o", library, *objects, "-ldl"]
    subprocess.run(link, check=True)
    (folder / "libcuda.so").symlink_to(library.name)


def _build_nvml(compiler: str, source: Path, folder: Path) -> None:
    link = [*FLAGS, "-Wl,-soname,libnvidia-ml.so.1", "-o", folder / "libnvidia-ml.so.1"]
    subprocess.run([compiler, *link, source], check=True)
