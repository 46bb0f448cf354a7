"""The driver probe, which says whether there is a GPU here that can be used.

Knows: how to ask without being taken down. Rules: the driver is asked in a child process (`asking`), since a broken one
crashes or hangs whoever asks; the probe itself never raises; it is no promise, a GPU may fail a moment later. No object of
TensorRT is made before a probe says yes: without a driver they crash their process. Leaves to others: what the answer
is used for.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import msgspec

from appliance.driver import asking, causes
from appliance.driver.asking import Answer
from appliance.driver.causes import Cause
from appliance.driver.surroundings import Surroundings, look_around
from appliance.driver.wheels import Wheel, installed_wheels
from appliance.errors import GpuUnusable

CAPABILITY_MIN = (7, 5)  # what our kernels are compiled for, and TensorRT 10 supports, at least
SECONDS_MAX = 30.0  # a driver without persistence mode takes a few to wake a GPU up
_REAPING_SECONDS = 5.0
_INSTANCE = "MIG-"


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU or an instance of one (MIG): `memory_bytes` in all; `integrated` when it shares the box's own memory.

    `index` counts in the order of the PCI bus, as nvidia-smi does.
    """

    index: int
    uuid: str
    name: str
    capability: tuple[int, int]
    memory_bytes: int
    mig: bool = False
    integrated: bool = False


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: usable, or the trouble in a sentence with its remedy.

    `present` says whether there is a GPU or a driver at all, usable or not. `cuda` is the driver's CUDA release (13000
    for 13.0; 0 unknown), `release` the driver's own ("" unknown).
    """

    trouble: str = ""
    remedy: str = ""
    present: bool = False
    cuda: int = 0
    release: str = ""
    gpus: tuple[Gpu, ...] = ()
    wheels: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """True when there is no trouble."""
        return not self.trouble

    def require(self) -> None:
        """Raises GpuUnusable with the trouble, if there is one."""
        if self.trouble:
            raise GpuUnusable(self.trouble, remedy=self.remedy)

    def gpu(self, device: str) -> Gpu:
        """The GPU of this index, or whose UUID begins so. Raises GpuUnusable."""
        self.require()
        found = [gpu for gpu in self.gpus if device == str(gpu.index) or _begins(gpu.uuid, device)]
        if len(found) != 1:
            here = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in self.gpus)
            raise GpuUnusable(
                f"'{device}' names {len(found) or 'none'} of the GPUs of this box: {here}",
                remedy="set [gpu] devices to numbers or UUIDs as `nvidia-smi -L` shows them",
            )
        if found[0].capability < CAPABILITY_MIN:
            cause = causes.too_weak(found[0].name, found[0].capability, CAPABILITY_MIN)
            raise GpuUnusable(cause.told, remedy=cause.remedy)
        return found[0]


def probe(device: str = "", *, seconds_max: float = SECONDS_MAX) -> Probe:
    """Ask the driver.

    `device` is what is meant to be used, if that is known: an instance of a GPU (MIG) is seen only by whoever asks for
    it by its UUID, and then nothing else is.
    """
    environment = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **os.environ}
    if device.startswith(_INSTANCE):
        environment["CUDA_VISIBLE_DEVICES"] = device
    answer = _asked(environment, seconds_max)
    return concluded(answer, look_around(environment=environment), installed_wheels())


def concluded(answer: Answer | Cause, seen: Surroundings, wheels: tuple[Wheel, ...]) -> Probe:
    """The probe's result from what was found."""
    held = answer if isinstance(answer, dict) else {}
    gpus = tuple(msgspec.convert(gpu, Gpu) for gpu in held.get("gpus", ()))
    cause = answer if isinstance(answer, Cause) else _cause(answer, gpus, seen, wheels)
    return Probe(
        trouble=cause.told if cause else "",
        remedy=cause.remedy if cause else "",
        present=bool("error" not in held or seen.hardware or seen.nodes or seen.release),
        cuda=held.get("cuda", 0),
        release=seen.release,
        gpus=gpus,
        wheels=tuple(map(str, wheels)),
    )


def _cause(
    answer: Answer, gpus: tuple[Gpu, ...], seen: Surroundings, wheels: tuple[Wheel, ...]
) -> Cause | None:
    """What is in the way; None when nothing is."""
    if "error" in answer:
        return causes.no_library(answer["error"], seen)
    if "code" in answer:
        return causes.refused(answer, seen)
    if not gpus:
        return causes.no_device(seen)
    best = max(gpus, key=lambda gpu: gpu.capability)
    if best.capability < CAPABILITY_MIN:
        return causes.too_weak(best.name, best.capability, CAPABILITY_MIN)
    return causes.mixed(wheels) or causes.too_old(answer["cuda"], seen.release, wheels)


def _asked(environment: dict[str, str], seconds_max: float) -> Answer | Cause:
    """What the driver says to a child of ours, or what became of the child."""
    try:
        child = subprocess.Popen(  # noqa: S603 - our own program, with no argument
            [sys.executable, "-I", asking.__file__],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        told = f"the driver cannot be asked, since no process can be started: {error.strerror}"
        return Cause(told, "give the box more memory or processes")
    try:
        told_bytes, _ = child.communicate(timeout=seconds_max)
    except subprocess.TimeoutExpired:
        child.kill()
        # A process that hangs in the kernel does not even die; then it is left behind.
        with suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=_REAPING_SECONDS)
        return causes.silent(seconds_max)
    if child.returncode < 0:
        return causes.crashed(_signal(-child.returncode))
    try:
        return msgspec.json.decode(told_bytes, type=Answer)
    except msgspec.DecodeError:
        return causes.crashed(f"exit code {child.returncode}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _begins(uuid: str, device: str) -> bool:
    """Whether `device` is the beginning of a UUID, long enough to be meant as one."""
    return (
        device.startswith(("GPU-", _INSTANCE))
        and len(device) > len("GPU-")
        and uuid.startswith(device)
    )
