"""Build pycuda's wheel on a machine without a GPU, a driver or CUDA's toolkit: into build/pycuda.

Knows: what pycuda's build asks for. Its source is pinned by digest; cuda.h comes from the wheel nvidia-cuda-runtime
(extra `dev`), and an empty library stands in for libcuda.so.1, since a driver is looked for only when pycuda is
imported. Rules: nothing is installed into the environment in use; what is there already is left alone. It takes a g++
and about a minute. Leaves to others: where the wheel is used (docs/gpu.md, tests/gpu).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "build" / "pycuda"
PINNED = "pycuda==2026.1"
DIGEST = "759516160628ba06f32ce7e563e3f5b9214691dc9528a03ea99ea1073f4e14ba"
# What pycuda asks of cudaProfiler.h, which that wheel lacks; the driver has these functions.
PROFILER = """#include <cuda.h>
typedef enum { CU_OUT_KEY_VALUE_PAIR, CU_OUT_CSV } CUoutput_mode;
extern "C" {
CUresult cuProfilerInitialize(const char *settings, const char *output, CUoutput_mode mode);
CUresult cuProfilerStart(void);
CUresult cuProfilerStop(void);
}
"""
DEFAULTS = """CUDA_ROOT = None
CUDA_INC_DIR = {include!r}
CUDADRV_LIB_DIR = [{library!r}]
CUDA_ENABLE_CURAND = False
CXXFLAGS = {compiling!r}
"""


def main() -> int:
    """Build the wheel; further arguments go to pip (--no-index --find-links DIRECTORY)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="not optimised, and unpacked: for tests only"
    )
    chosen, options = parser.parse_known_args()
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    made = BUILT / python if chosen.quick else next(BUILT.glob(f"*-{python}-*.whl"), None)
    if made is not None and made.exists():
        return 0
    BUILT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILT) as scratch:
        try:
            wheel = build(Path(scratch), options, quick=chosen.quick)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            print(f"{PINNED}: it could not be built: {error}", file=sys.stderr)
            return 1
        if not chosen.quick:
            print(f"{PINNED}: {wheel.replace(BUILT / wheel.name).relative_to(ROOT)}")
            return 0
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(Path(scratch, "installed"))
        Path(scratch, "installed").rename(BUILT / python)  # whole or not at all
    print(f"{PINNED}: {(BUILT / python).relative_to(ROOT)}")
    return 0


def build(scratch: Path, options: list[str], *, quick: bool) -> Path:
    """The wheel, in `scratch`. Raises CalledProcessError."""
    library = scratch / "libcuda.so"
    link = ["gcc", "-shared", "-Wl,-soname,libcuda.so.1", "-x", "c", os.devnull, "-o", str(library)]
    subprocess.run(link, check=True)
    (scratch / "cudaProfiler.h").write_text(PROFILER)
    defaults = DEFAULTS.format(
        include=[str(scratch), str(cuda_include())],
        library=str(scratch),
        compiling=["-O0", "-g0", "-w"] if quick else ["-O2", "-g0", "-w"],
    )
    (scratch / ".aksetup-defaults.py").write_text(defaults)  # pycuda's build reads it from the home
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{PINNED} --hash=sha256:{DIGEST}\n")
    options = ["--no-deps", "--no-build-isolation", "--no-cache-dir", "--require-hashes", *options]
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--disable-pip-version-check",
        *options,
    ]
    subprocess.run(
        [*command, "--wheel-dir", str(scratch), "--requirement", str(requirement)],
        check=True,
        env={**os.environ, "HOME": str(scratch), "LDFLAGS": "-Wl,--no-as-needed"},
    )
    (wheel,) = scratch.glob("*.whl")
    return wheel


def cuda_include() -> Path:
    """The directory of cuda.h. Raises FileNotFoundError."""
    found = find_spec("nvidia")
    for root in found.submodule_search_locations or () if found else ():
        for folder in sorted(Path(root).glob("*/include")):
            if (folder / "cuda.h").is_file():
                return folder
    raise FileNotFoundError("cuda.h is not here: install the extra `dev`")


if __name__ == "__main__":
    sys.exit(main())
