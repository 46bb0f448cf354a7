"""How GPUs fare, as NVIDIA's management library tells it (a door to nvidia-ml-py).

Knows: which of its functions are asked, and in which units they answer. Rules: only reads; whatever a GPU does not tell
(an instance has no temperature, a consumer's card no ECC) is None; a GPU that answers nothing is shown with its trouble.
Needs no CUDA context. Leaves to others: how often (`watching`), showing it (`runtime.metrics`).
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import msgspec

from appliance.errors import GpuUnusable

Told = TypeVar("Told")

# nvmlClocksThrottleReasons of nvml.h, those that slow a GPU down against its will.
THROTTLES = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a GPU or an instance of one (MIG), which was asked for as `device`.

    `busy` is the share of the last moment (at most a second) in which a kernel ran; ECC errors are counted since the
    driver was loaded. None: it does not tell.
    """

    device: str
    uuid: str
    name: str
    memory_used_bytes: int | None = None
    memory_bytes: int | None = None
    busy: float | None = None
    celsius: int | None = None
    watts: float | None = None
    throttled: tuple[str, ...] | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    trouble: str = ""


class _Gpu(NamedTuple):
    """The library's handles: of the device, and of the whole GPU that it is a part of, which is the same without MIG."""

    device: str
    uuid: str
    name: str
    own: Any
    whole: Any


class Telemetry:
    """The library, opened; for one thread at a time."""

    def __init__(self, library: Any, devices: Mapping[str, str]) -> None:
        """`devices` are what each is called here, and by the library, which hides none."""
        self._library = library
        self._gpus = tuple(self._found(*names) for names in devices.items())

    def read(self) -> tuple[Reading, ...]:
        """One look at each GPU."""
        return tuple(map(self._read, self._gpus))

    def close(self) -> None:
        """Give the library back."""
        with suppress(self._library.NVMLError):  # nothing is left to be done about it
            self._library.nvmlShutdown()

    def _found(self, device: str, name: str) -> _Gpu:
        """Raises the library's error, or GpuUnusable when no GPU is called so."""
        library = self._library
        if name.isdecimal():
            whole = library.nvmlDeviceGetHandleByIndex(int(name))
            return _Gpu(device, self._uuid(whole), self._name(whole), whole, whole)
        if name.startswith("MIG-"):
            own = library.nvmlDeviceGetHandleByUUID(name)
            whole = library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(own)
            return _Gpu(device, name, self._name(own), own, whole)
        for index in range(library.nvmlDeviceGetCount()):
            whole = library.nvmlDeviceGetHandleByIndex(index)
            uuid = self._uuid(whole)
            if uuid.startswith(name):
                return _Gpu(device, uuid, self._name(whole), whole, whole)
        raise GpuUnusable(
            f"no GPU of this box is called {name}",
            remedy="set [gpu] devices to numbers or UUIDs as `nvidia-smi -L` shows them",
        )

    def _uuid(self, handle: Any) -> str:
        return _text(self._library.nvmlDeviceGetUUID(handle))

    def _name(self, handle: Any) -> str:
        return _text(self._library.nvmlDeviceGetName(handle))

    def _read(self, gpu: _Gpu) -> Reading:
        library = self._library
        try:
            memory = self._told(lambda: library.nvmlDeviceGetMemoryInfo(gpu.own))
            busy = self._told(lambda: library.nvmlDeviceGetUtilizationRates(gpu.own))
            milliwatts = self._told(lambda: library.nvmlDeviceGetPowerUsage(gpu.whole))
            reasons = self._told(
                lambda: library.nvmlDeviceGetCurrentClocksThrottleReasons(gpu.whole)
            )
            return Reading(
                device=gpu.device,
                uuid=gpu.uuid,
                name=gpu.name,
                memory_used_bytes=None if memory is None else int(memory.used),
                memory_bytes=None if memory is None else int(memory.total),
                busy=None if busy is None else busy.gpu / 100,
                celsius=self._told(
                    lambda: library.nvmlDeviceGetTemperature(
                        gpu.whole, library.NVML_TEMPERATURE_GPU
                    )
                ),
                watts=None if milliwatts is None else milliwatts / 1000,
                throttled=None if reasons is None else throttles(reasons),
                ecc_corrected=self._ecc(gpu, library.NVML_MEMORY_ERROR_TYPE_CORRECTED),
                ecc_uncorrected=self._ecc(gpu, library.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            )
        except library.NVMLError as error:
            return Reading(device=gpu.device, uuid=gpu.uuid, name=gpu.name, trouble=str(error))

    def _ecc(self, gpu: _Gpu, kind: int) -> int | None:
        library = self._library
        since_start = library.NVML_VOLATILE_ECC
        return self._told(lambda: library.nvmlDeviceGetTotalEccErrors(gpu.whole, kind, since_start))

    def _told(self, asked: Callable[[], Told]) -> Told | None:
        """What is asked; None when this GPU, driver or user is not told it. Raises the library's error otherwise."""
        library = self._library
        try:
            return asked()
        except library.NVMLError as error:
            if error.value in {
                library.NVML_ERROR_NOT_SUPPORTED,
                library.NVML_ERROR_NO_PERMISSION,
                library.NVML_ERROR_FUNCTION_NOT_FOUND,
                library.NVML_ERROR_INVALID_ARGUMENT,  # how some releases refuse an instance's handle
            }:
                return None
            raise


def open_telemetry(devices: Sequence[str] | None = None) -> Telemetry:
    """The telemetry of `devices`, by number or UUID as [gpu] devices has them; None is all GPUs. Raises GpuUnusable."""
    from runtime.gpu.process import shown  # noqa: PLC0415 - as pynvml

    try:
        import pynvml  # noqa: PLC0415 - only a box with a GPU pays for it
    except ImportError as error:
        raise GpuUnusable(
            f"the GPUs' telemetry is not there: {error}",
            remedy="install the extra `gpu`: pip install 'holdfast[gpu]'",
        ) from error
    named = {device: shown(os.environ, device) for device in devices or ()}
    try:
        pynvml.nvmlInit()
        if devices is None:
            named = {str(index): str(index) for index in range(pynvml.nvmlDeviceGetCount())}
        return Telemetry(pynvml, named)
    except pynvml.NVMLError as error:
        raise GpuUnusable(
            f"the GPUs' telemetry is not there: {error}",
            remedy="run `holdfast doctor`, which looks at the driver",
        ) from error


def throttles(reasons: int) -> tuple[str, ...]:
    """What slows a GPU down, from the library's bits."""
    return tuple(word for bit, word in THROTTLES.items() if reasons & bit)


def _text(told: str | bytes) -> str:
    """Older releases of the library give bytes."""
    return told.decode(errors="replace") if isinstance(told, bytes) else told
