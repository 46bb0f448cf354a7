"""What each section of `make gpu-check` needs of packages, and whether it is here.

Knows: packages as pip calls them, and the module of each. Rules: nothing but the standard library is imported, so that what is missing
can be said whatever is missing; all of it is said at once; a checkout that was not installed will do. Leaves to others: NVVM, NVRTC and
nvJitLink, which only compiling finds (`ground`).
"""

import os
import tomllib
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BASE = ("msgspec", "numpy")
KERNELS = ("numba", "numba-cuda")
DEVICE = (*BASE, *KERNELS, "cuda-bindings")
SERVING = (
    "cryptography",
    "grpcio",
    "grpcio-health-checking",
    "grpcio-reflection",
    "jinja2",
    "onnx",
    "onnxruntime",
    "openvino",
    "pillow",
    "prometheus-client",
    "protobuf",
    "pysqlite3",
    "scipy",
    "simplejpeg",
    "sqlite-utils",
    "tritonclient",
)
NEEDS = {
    "driver": BASE,
    "device": DEVICE,
    "numerics": DEVICE,
    "bandwidth": DEVICE,
    "overlap": DEVICE,
    "graphs": DEVICE,
    "swapping": DEVICE,
    "restarting": DEVICE,
    "serving": (*DEVICE, *SERVING),
    "tensorrt": (*DEVICE, *SERVING, "rich", "typer"),
}
# Where the module is not called as the package is.
MODULES = {
    "cuda-bindings": ("cuda.bindings", "pycuda"),
    "grpcio": ("grpc",),
    "grpcio-health-checking": ("grpc_health",),
    "grpcio-reflection": ("grpc_reflection",),
    "numba-cuda": ("numba_cuda",),
    "pillow": ("PIL",),
    "protobuf": ("google.protobuf",),
}


def missing(packages: Sequence[str]) -> list[str]:
    """Those of `packages` that cannot be imported; pycuda stands in for cuda-bindings."""
    return [name for name in packages if not any(map(_found, MODULES.get(name, (_module(name),))))]


def checkout(folder: Path) -> str:
    """PYTHONPATH for this checkout, by way of `folder`, which is empty: ours is the package `tests`, installed or not.

    `tests` has no __init__.py, so that any package of that name in the environment would hide it.
    """
    (folder / "tests").mkdir()
    (folder / "tests" / "__init__.py").write_text(f"__path__ = [{str(ROOT / 'tests')!r}]\n")
    try:
        metadata.version("holdfast")
    except metadata.PackageNotFoundError:
        release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        told = folder / f"holdfast-{release}.dist-info"
        told.mkdir()
        (told / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: holdfast\nVersion: {release}\n"
        )
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(folder), str(ROOT), *([given] if given else [])])


def toolkit() -> dict[str, str]:
    """CUDA_HOME, where NVIDIA's wheels of CUDA 13 lie in a folder of PYTHONPATH and nothing else is named.

    cuda-pathfinder, which finds NVVM, NVRTC and nvJitLink, looks for wheels in site-packages alone, and then there.
    """
    given = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    found = [
        place for each in given if (place := Path(each).absolute() / "nvidia" / "cu13").is_dir()
    ]
    if not found or {"CUDA_HOME", "CUDA_PATH"} & set(os.environ):
        return {}
    return {"CUDA_HOME": str(found[0])}


def _module(package: str) -> str:
    return package.replace("-", "_")


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it would be in
        return False
