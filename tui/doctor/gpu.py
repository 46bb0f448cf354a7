"""The GPUs: whether they can be used, and whether they must be.

Knows: what a box with a GPU needs: a driver, the devices of [gpu] devices, and the libraries of the extra `gpu`. Rules: a
box without a GPU is well; one whose versions are compiled for a GPU is not, when none can be used. The driver is asked
in a process of its own, and no library is imported. Leaves to others: what each failure of the driver means
(`appliance.driver`).
"""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import NamedTuple

from appliance.config import Config
from appliance.driver import Probe, probe
from appliance.errors import ApplianceError, GpuUnusable
from appliance.store import Store
from tui.doctor.finding import Finding, failed, trouble, warning, well

SUBJECT = "GPU"


class Library(NamedTuple):
    """Modules of which one must be there, and what cannot be done without any."""

    modules: tuple[str, ...]
    name: str
    lost: str


LIBRARIES = (
    Library(("pycuda", "cuda.bindings"), "pycuda or cuda-bindings", "no version can use the GPU"),
    Library(
        ("tensorrt", "tensorrt_bindings", "tensorrt_lean", "tensorrt_lean_bindings"),
        "TensorRT",
        "no version is built for the GPU",
    ),
    Library(("numba_cuda",), "numba-cuda", "recipes are computed on the CPU"),
    Library(("pynvml",), "nvidia-ml-py", "its load and temperature are not shown"),
)


def examine_gpus(config: Config) -> Iterator[Finding]:
    """Look at the driver, the GPUs that the settings name, and the libraries."""
    found, needing = probe(), _needing(config)
    if not found.usable:
        yield _unusable(found, needing)
        return
    cuda = f"CUDA {found.cuda // 1000}.{found.cuda % 1000 // 10}"
    release = f"{found.release}, for {cuda}" if found.release else f"for {cuda}"
    yield well("GPU driver", f"its release is {release}" if found.release else f"it is {release}")
    for device in config.gpu.devices:
        yield _device(probe(device) if device.startswith("MIG-") else found, device, needing)
    yield from _libraries(needing)


def _unusable(found: Probe, needing: str) -> Finding:
    """Trouble for a box that needs a GPU, a warning for one that has some."""
    if needing:
        return trouble(SUBJECT, f"{found.trouble}; {needing} was compiled for one", found.remedy)
    if found.present:
        return warning(SUBJECT, f"{found.trouble}; the CPU engines serve", found.remedy)
    return well(SUBJECT, found.trouble)


def _device(found: Probe, device: str, needing: str) -> Finding:
    try:
        gpu = found.gpu(device)
    except GpuUnusable as error:
        if needing:
            return failed(SUBJECT, error)
        return warning(SUBJECT, str(error), error.remedy)
    major, minor = gpu.capability
    part = "an instance (MIG) of " if gpu.mig else ""
    told = f"{device} is {part}{gpu.name}, {gpu.uuid}: compute capability {major}.{minor}"
    return well(SUBJECT, f"{told}, {gpu.memory_bytes / 2**30:.1f} GiB")


def _libraries(needing: str) -> Iterator[Finding]:
    for at, library in enumerate(LIBRARIES):
        if any(map(_is_installed, library.modules)):
            continue
        told = f"{library.name} is not installed, so {library.lost}"
        remedy = "pip install 'holdfast[gpu]'; see docs/gpu.md for a box without a network"
        told_of = trouble if needing and at < 2 else warning
        yield told_of("GPU libraries", told, remedy)


def _needing(config: Config) -> str:
    """A version that was compiled for a GPU, "" when there is none or the store cannot be read."""
    store = Store(config.state.store)
    try:
        for model in store.models():
            for number in store.versions(model):
                if store.describe(model, number).record.engine.kind == "tensorrt":
                    return f"{model} {number}"
    except ApplianceError:
        return ""  # the runtime and `holdfast versions` tell of damage
    return ""


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package that is not there
        return False
