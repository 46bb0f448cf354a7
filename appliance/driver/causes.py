"""What each failure of the driver means, in one sentence, and what to do about it.

Knows: the driver's error codes where no context exists yet (CUresult in cuda.h), and what on a box leads to them. Pure:
the answer and the surroundings come in. Rules: the likeliest cause that the surroundings bear out is named first; what
nobody foresaw keeps the driver's own word. Leaves to others: asking (`probing`), looking (`surroundings`).
"""

from typing import NamedTuple

from appliance.driver.asking import Answer
from appliance.driver.surroundings import Surroundings
from appliance.driver.wheels import Wheel

# The oldest Linux driver of each CUDA release (CUDA's release notes, "minor version compatibility").
OLDEST_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
NO_DEVICE = 100


class Cause(NamedTuple):
    """A sentence, and what to do next."""

    told: str
    remedy: str


_INSTALL = "install NVIDIA's driver for it, release 580 or newer, and restart the box"
_LEND = "start the container with the GPU (--gpus all, or its CDI device), or serve with the CPU engines"
_UNIT = "let the unit open them with a drop-in of it, systemd/gpu.conf: see docs/gpu.md"
_KNOWN = {
    34: Cause(
        "the libcuda.so.1 that is found first is the CUDA toolkit's stand-in for linking, not a driver",
        "take the toolkit's stubs directory out of LD_LIBRARY_PATH and /etc/ld.so.conf.d",
    ),
    46: Cause(
        "every GPU is in exclusive use by another process",
        "stop that process (see `nvidia-smi`), or set the compute mode to DEFAULT with `nvidia-smi -c 0`",
    ),
    304: Cause(
        "the system refused the driver what it asked for, as a sandbox does",
        "let the unit open the GPU's device files and Unix sockets: see docs/gpu.md",
    ),
    802: Cause(
        "the GPUs' fabric is not up yet",
        "start nvidia-fabricmanager, of the same release as the driver",
    ),
    803: Cause(
        "the driver's library and its kernel module are of different releases, as after an update",
        "restart the box, so that the new kernel module is loaded",
    ),
    804: Cause(
        "a package for forward compatibility (cuda-compat) is found first, and this GPU does not support it",
        "take the cuda-compat directory out of LD_LIBRARY_PATH, or install a newer driver instead",
    ),
}


def no_library(error: str, seen: Surroundings) -> Cause:
    """Why libcuda.so.1 cannot be loaded, by the dynamic linker's words."""
    if "cannot open shared object file" not in error:
        told = f"the driver's library cannot be loaded: {error}"
        return Cause(told, "install the driver again, for this machine's architecture")
    if seen.wsl:
        told = "this is WSL, and Windows lends it no GPU: libcuda.so.1 is missing"
        return Cause(
            told, "install NVIDIA's driver on Windows, then run `wsl --shutdown`; never one in WSL"
        )
    if seen.nodes and seen.container:
        told = (
            "this container has the GPU's device files, but not the driver's library libcuda.so.1"
        )
        return Cause(told, _LEND)
    if seen.release or seen.nodes:
        told = "the driver's kernel module is there, but its library libcuda.so.1 is not"
        return Cause(
            told, "install the driver's compute libraries (libnvidia-compute, or the whole driver)"
        )
    if seen.hardware and seen.nouveau:
        told = "the box has an NVIDIA GPU, held by the nouveau driver, which cannot compute"
        return Cause(told, _INSTALL)
    if seen.hardware and not seen.container:
        return Cause("the box has an NVIDIA GPU, but not its driver", _INSTALL)
    if seen.container:
        told = "this container was given no GPU: there is no libcuda.so.1 and no device file"
        return Cause(told, _LEND)
    return Cause(
        "this box has no NVIDIA GPU", "nothing, unless there should be one: the CPU engines serve"
    )


def refused(answer: Answer, seen: Surroundings) -> Cause:
    """Why the driver refused the function that `answer` names."""
    code = answer["code"]
    if seen.locked:
        told = f"this user may not open {', '.join(seen.locked)}"
        remedy = (
            f"add the user to the group {seen.group}, or let the unit open them, and start again"
        )
        return Cause(told, remedy)
    if code == NO_DEVICE:
        return no_device(seen)
    if code in _KNOWN:
        return _KNOWN[code]
    if seen.nodes and "/dev/nvidia-uvm" not in seen.nodes and "/dev/nvidia0" in seen.nodes:
        told = "the device file /dev/nvidia-uvm is missing, so the driver cannot start"
        return Cause(
            told,
            "load the module with `nvidia-modprobe -u -c 0`, or give the file to the container",
        )
    word = answer.get("name") or code
    told = f"the driver failed in {answer['step']} with {word}"
    return Cause(told, "look for lines of NVRM or Xid with `journalctl -k`, and restart the box")


def no_device(seen: Surroundings) -> Cause:
    """Why the driver sees no device."""
    if seen.visible is not None:
        told = f"the driver shows no GPU, since CUDA_VISIBLE_DEVICES is '{seen.visible}'"
        return Cause(told, "name a GPU of `nvidia-smi -L` in it, or do not set it")
    if seen.container and not seen.nodes:
        return Cause("this container has the driver's library, but was given no GPU", _LEND)
    if not seen.nodes and seen.unit:
        return Cause("this unit of systemd is shown no device file of a GPU", _UNIT)
    if not seen.nodes:
        told = "the driver is installed, but there is no device file /dev/nvidia0"
        return Cause(
            told,
            "load the kernel module with `nvidia-modprobe`, and see `journalctl -k` when it fails",
        )
    told = "the driver runs, but shows no GPU"
    return Cause(
        told, "look with `nvidia-smi`; a GPU in MIG mode needs an instance (`nvidia-smi mig -cgi`)"
    )


def crashed(signal: str) -> Cause:
    """The process that asked was ended by `signal`."""
    told = f"NVIDIA's driver crashed the process that asked it ({signal})"
    return Cause(told, "install the driver again, and see `journalctl -k`")


def silent(seconds: float) -> Cause:
    """The driver did not answer in time."""
    told = f"NVIDIA's driver did not answer within {seconds:g} s"
    return Cause(told, "see `journalctl -k` for Xid lines, and restart the box")


def mixed(wheels: tuple[Wheel, ...]) -> Cause | None:
    """Packages of several CUDA releases side by side; None when there is one at most."""
    releases = sorted({wheel.cuda for wheel in wheels})
    if len(releases) < 2:
        return None
    each = [
        f"of CUDA {release}: {', '.join(str(wheel) for wheel in wheels if wheel.cuda == release)}"
        for release in releases
    ]
    extra = " ".join(wheel.name for wheel in wheels if wheel.cuda != releases[-1])
    told = f"NVIDIA's packages are of several CUDA releases: {'; '.join(each)}"
    return Cause(told, f"keep one release, such as the newest: pip uninstall {extra}")


def too_old(cuda: int, release: str, wheels: tuple[Wheel, ...]) -> Cause | None:
    """The driver's CUDA release (13000 for 13.0) is older than the packages need; None when it is not."""
    needed = max((wheel.cuda for wheel in wheels), default=0)
    if cuda // 1000 >= needed:
        return None
    which = next(wheel for wheel in wheels if wheel.cuda == needed)
    of = f"CUDA {cuda // 1000}.{cuda % 1000 // 10}"
    has = f"{release}, for {of}" if release else f"for {of}"
    told = f"the driver is {has}, and {which} needs CUDA {needed}"
    oldest = OLDEST_DRIVER.get(needed, "of that release")
    return Cause(
        told, f"install driver {oldest} or newer, or NVIDIA's packages for CUDA {cuda // 1000}"
    )


def too_weak(name: str, capability: tuple[int, int], least: tuple[int, int]) -> Cause:
    """The best GPU is of an architecture that nothing here is compiled for."""
    told = (
        f"{name} is of compute capability {_dotted(capability)}, and {_dotted(least)} is the least"
    )
    return Cause(
        told, "serve with the CPU engines, or put in a GPU of the Turing generation or newer"
    )


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
