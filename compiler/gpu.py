"""The GPU that a build may use, as data that travels to the child which builds.

Knows: which GPU that is, whether TensorRT and the driver can use it, and what engines for it are stamped with.
Rules: the driver is asked here, in the parent, for a child may start no process to ask it in; a box with neither a
driver nor TensorRT never hears of GPUs, and one with half of it is told what is missing. Leaves to others:
asking (`appliance.driver`), compiling (`compiler.targets.tensorrt`), the child's fences (`compiler.child`).
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from appliance.config import Config, GpuBuildConfig, GpuConfig
from appliance.driver import Probe, probe
from appliance.errors import BuildCrashed, GpuUnusable
from appliance.files import make_directory, open_regular, write_file
from appliance.store import Store
from appliance.tables import canonical_json
from compiler.child.devices import gpu_devices
from runtime.engines.gpu_stamp import installed_tensorrt, stamp_from
from runtime.gpu import current

_DEVICE = "0"  # the one that the process is shown
TIMINGS_FILE = "timings.cache"  # what a build leaves in its directory


class BoxGpu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A GPU, or the `trouble` with it and its `remedy`.

    `settings` are for building, `serving` for proving as it will serve. `timings` is the file of kernel timings, "" for none.
    """

    settings: GpuBuildConfig
    serving: GpuConfig = GpuConfig()
    trouble: str = ""
    remedy: str = ""
    uuid: str = ""
    name: str = ""
    capability: tuple[int, int] = (0, 0)
    stamp: dict[str, str] = {}
    timings: str = ""

    def left_out(self, error: BuildCrashed) -> "BoxGpu":
        """The same in trouble: with it a build came to no end."""
        trouble = f"it ended the build, which was done again without: {error}"
        return msgspec.structs.replace(self, trouble=trouble, remedy=error.remedy)

    def require(self) -> None:
        """Raises GpuUnusable with the trouble, if there is one."""
        if self.trouble:
            raise GpuUnusable(self.trouble, remedy=self.remedy)


@contextmanager
def held(gpu: BoxGpu | None) -> Iterator[None]:
    """Let what is loaded inside run on `gpu`, by this very thread, for a build's child starts no process.

    The process sees no other GPU from then on; before its first call of CUDA.
    """
    if gpu is None or gpu.trouble:
        yield
        return
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu.uuid
    current.use(msgspec.structs.replace(gpu.serving, devices=(_DEVICE,)), here=True)
    try:
        yield
    finally:
        current.release()


def box_gpu(config: Config, ask: Callable[[str], Probe] = probe) -> BoxGpu | None:
    """The first GPU of [gpu] devices; None when builds are not to use one or the box has nothing of it."""
    settings = config.build.gpu
    if not settings.enabled:
        return None
    release = installed_tensorrt()
    if release is None and not gpu_devices():
        return None
    device = config.gpu.devices[0]
    found = ask(device)
    try:
        gpu = found.gpu(device)
    except GpuUnusable as error:
        return BoxGpu(settings=settings, trouble=str(error), remedy=error.remedy)
    if release is None:
        return BoxGpu(
            settings=settings,
            trouble="TensorRT is not installed",
            remedy="install the extra 'gpu', or on Jetson JetPack's TensorRT; see docs/gpu.md",
        )
    stamp = stamp_from(found, gpu, release)
    return BoxGpu(
        settings=settings,
        serving=config.gpu,
        uuid=gpu.uuid,
        name=gpu.name,
        capability=gpu.capability,
        stamp=stamp,
        timings=str(_timings_of(Store(config.state.store), stamp)),
    )


def keep_timings(staged: Path, gpu: BoxGpu | None) -> None:
    """Keep for the next build what this one, in `staged`, learnt of kernels; TensorRT checks whose they are.

    Raises StateError when the disk refuses.
    """
    if gpu is None or not gpu.timings:
        return
    left, kept = staged / TIMINGS_FILE, Path(gpu.timings)
    try:
        with open_regular(left) as file:
            data = file.read(gpu.settings.timings_bytes_max + 1)
    except OSError:
        return  # nothing was built for the GPU
    if len(data) <= gpu.settings.timings_bytes_max:
        make_directory(kept.parent)
        write_file(kept, data)


def _timings_of(store: Store, stamp: dict[str, str]) -> Path:
    """The file of timings of this GPU, driver and TensorRT: the recipe's kernels are no part of a plan."""
    of_plans = {key: value for key, value in stamp.items() if key != "kernels"}
    digest = hashlib.sha256(canonical_json(of_plans)).hexdigest()
    return store.timings / f"{digest[:32]}.cache"
