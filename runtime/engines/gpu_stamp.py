"""What an engine for a GPU is stamped with: TensorRT, the driver and its CUDA, the GPU, the recipe's kernels.

Knows: under which names TensorRT is installed. Rules: TensorRT is not imported and no CUDA is called here: its release is
read from installed metadata, and the driver is asked by the probe, in a process of its own, once it has said yes never
again; so nothing of this runs where no process may be started. Leaves to others: what is done with it (`stamp`).
"""

import platform
from importlib.metadata import PackageNotFoundError, version

from appliance.driver import Gpu, Probe, probe
from appliance.errors import EngineLoad, GpuUnusable
from runtime.kernels.cuda.toolchain import edition

# In the order in which the bindings are imported; each may be installed alone, for example by JetPack.
DISTRIBUTIONS = (
    "tensorrt",
    "tensorrt-cu13",
    "tensorrt-cu12",
    "tensorrt-cu13-bindings",
    "tensorrt-cu12-bindings",
    "tensorrt-lean",
    "tensorrt-lean-cu13",
    "tensorrt-lean-cu12",
    "tensorrt-lean-cu13-bindings",
    "tensorrt-lean-cu12-bindings",
)
_found: dict[
    str, dict[str, str]
] = {}  # stamps by device; a driver changes with the box's next start


def gpu_stamp(device: str) -> dict[str, str]:
    """The stamp of an engine made here and now for `device`, a number or UUID.

    Raises EngineLoad when TensorRT is not installed or the GPU cannot be used.
    """
    release = installed_tensorrt()
    if release is None:
        raise EngineLoad(
            "there is no engine of kind 'tensorrt' here: TensorRT is not installed",
            remedy="install the extra 'gpu', or on Jetson JetPack's TensorRT; see docs/gpu.md",
        )
    if device not in _found:
        answer = probe(device)
        try:
            gpu = answer.gpu(device)
        except GpuUnusable as error:
            raise EngineLoad(
                f"there is no engine of kind 'tensorrt' here: {error}", remedy=error.remedy
            ) from error
        _found[device] = stamp_from(answer, gpu, release)
    return _found[device] | {"tensorrt": release}


def stamp_from(answer: Probe, gpu: Gpu, tensorrt: str) -> dict[str, str]:
    """The stamp for `gpu` as the driver told of it, and a release of TensorRT such as "10.13.0.35"."""
    cuda = f"{answer.cuda // 1000}.{answer.cuda % 1000 // 10}"
    return {
        "os": f"{platform.system()} {platform.machine()}",
        "tensorrt": tensorrt,
        "kernels": edition(),
        "cuda": cuda,
        "driver": answer.release or f"of CUDA {cuda}",  # a Jetson's has no release of its own
        "gpu": gpu.name,
        "sm": f"{gpu.capability[0]}.{gpu.capability[1]}",
    }


def installed_tensorrt() -> str | None:
    """The release of TensorRT that is installed, None when none is."""
    for name in DISTRIBUTIONS:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
