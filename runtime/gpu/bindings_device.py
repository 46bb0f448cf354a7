"""A GPU through NVIDIA's own Python bindings (cuda-bindings, a door).

Knows: how `cuda.bindings.driver` spells the Device protocol. Rules: as `device` has them; a handle is the driver's
own, as an integer. Leaves to others: what the errors mean (`failures`), graphs, sharing and copies by
address (`driver_calls`).
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from appliance.errors import GpuUnusable
from runtime.gpu.device import Float32, Function, Handle, Int32, Pointer, Room, Scalar
from runtime.gpu.driver_calls import ByDriver
from runtime.gpu.failures import NOT_READY, refused_module

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: waits for no other stream, the default one included
LOG_BYTES = 8192  # of what the driver's compiler says about a module


def bindings() -> Any:
    """The module `cuda.bindings.driver`. Raises ImportError."""
    from cuda.bindings import driver  # noqa: PLC0415 - only a box with a GPU pays for it

    return driver


class BindingsDevice(ByDriver):
    """The device with this ordinal among those that the process sees; its primary context is current afterwards."""

    def __init__(self, ordinal: int) -> None:
        self._driver = bindings()
        super().__init__()
        self._do("cuInit", 0, doing="starting the driver")
        self._device = self._do("cuDeviceGet", ordinal, doing=f"looking for device {ordinal}")
        words = self._do("cuDeviceGetName", 256, self._device, doing="asking for its name")
        self._name: str = words.split(b"\0")[0].decode()
        self._capability = self._attribute("MAJOR"), self._attribute("MINOR")
        doing = "taking its primary context"
        self._context = self._do("cuDevicePrimaryCtxRetain", self._device, doing=doing)
        self._do("cuCtxPushCurrent", self._context, doing=doing)
        self._closed = False

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Inside, this thread may use the device too."""
        doing = "entering its context"
        self._do("cuCtxPushCurrent", self._context, doing=doing)
        try:
            yield
        finally:
            self._do("cuCtxPopCurrent", doing=doing)

    def room(self) -> Room:
        """Its memory now."""
        free, total = self._do("cuMemGetInfo", doing="asking for its memory")
        return Room(free=int(free), total=int(total))

    def allocate(self, size: int) -> Pointer:
        """Device memory. Raises GpuMemory."""
        return int(self._do("cuMemAlloc", size, doing=f"allocating {size} bytes"))

    def free(self, pointer: Pointer) -> None:
        """Give back what `allocate` gave."""
        self._do("cuMemFree", pointer, doing="giving back memory")

    def stream(self) -> Handle:
        """A stream of its own."""
        return int(self._do("cuStreamCreate", NON_BLOCKING, doing="making a stream"))

    def drop_stream(self, stream: Handle) -> None:
        """Give a stream back."""
        self._do("cuStreamDestroy", stream, doing="giving back a stream")

    def event(self) -> Handle:
        """An event that keeps a time."""
        return int(self._do("cuEventCreate", 0, doing="making an event"))

    def drop_event(self, event: Handle) -> None:
        """Give an event back."""
        self._do("cuEventDestroy", event, doing="giving back an event")

    def record(self, event: Handle, stream: Handle) -> None:
        """Mark the end of what is queued."""
        self._do("cuEventRecord", event, stream, doing="marking a stream")

    def reached(self, event: Handle) -> bool:
        """Whether all before the mark is done."""
        (code,) = self._driver.cuEventQuery(event)
        if int(code) == NOT_READY:
            return False
        self._check(int(code), "computing")
        return True

    def wait(self, stream: Handle, event: Handle) -> None:
        """Let the stream wait for the mark."""
        self._do("cuStreamWaitEvent", stream, event, 0, doing="letting a stream wait")

    def elapsed_ms(self, begin: Handle, end: Handle) -> float:
        """Milliseconds between two marks."""
        return float(self._do("cuEventElapsedTime", begin, end, doing="reading a time"))

    def synchronise(self, stream: Handle) -> None:
        """Wait for what is queued."""
        self._do("cuStreamSynchronize", stream, doing="computing")

    def copy(self, to: Pointer, source: Pointer, size: int, stream: Handle) -> None:
        """Device memory to device memory."""
        self._do("cuMemcpyDtoDAsync", to, source, size, stream, doing="copying on the GPU")

    def fill(self, to: Pointer, byte: int, size: int, stream: Handle) -> None:
        """Set bytes."""
        self._do("cuMemsetD8Async", to, byte, size, stream, doing="filling memory")

    def load(self, image: bytes) -> Handle:
        """A module from a cubin or PTX."""
        option = self._driver.CUjit_option
        log = bytearray(LOG_BYTES)
        options = [option.CU_JIT_ERROR_LOG_BUFFER, option.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES]
        # The driver reads PTX up to a zero byte.
        code, module = self._driver.cuModuleLoadDataEx(image + b"\0", 2, options, [log, LOG_BYTES])
        if int(code):
            error = self._calls.error(int(code), "loading kernels")
            raise refused_module(error, log.decode(errors="replace"))
        return int(module)

    def unload(self, module: Handle) -> None:
        """Give a module back."""
        self._do("cuModuleUnload", module, doing="giving back kernels")

    def function(self, module: Handle, name: str) -> Function:
        """A kernel of a module."""
        doing = f"looking for the kernel {name}"
        found = self._do("cuModuleGetFunction", module, name.encode(), doing=doing)
        kinds = self._driver.CUfunction_attribute
        registers, local = (
            self._do("cuFuncGetAttribute", kind, found, doing=doing)
            for kind in (kinds.CU_FUNC_ATTRIBUTE_NUM_REGS, kinds.CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)
        )
        return Function(handle=int(found), registers=registers, local_bytes=local)

    def launch(
        self,
        function: Function,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Scalar],
        stream: Handle,
    ) -> None:
        """Queue a kernel."""
        values = tuple(argument.value for argument in arguments)
        kinds = tuple(map(_c_type, arguments))
        parameters = (values, kinds) if values else 0
        shape = (*grid, *block)
        self._do(
            "cuLaunchKernel", function.handle, *shape, 0, stream, parameters, 0, doing="launching"
        )

    def close(self) -> None:
        """Release the primary context."""
        if self._closed:
            return
        self._closed = True
        self._do("cuCtxPopCurrent", doing="leaving its context")
        self._do("cuDevicePrimaryCtxRelease", self._device, doing="releasing its context")

    def _attribute(self, part: str) -> int:
        kind = getattr(
            self._driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_{part}"
        )
        doing = "asking for its compute capability"
        return int(self._do("cuDeviceGetAttribute", kind, self._device, doing=doing))

    def _do(self, name: str, *arguments: object, doing: str) -> Any:
        """Call the driver; what it gives, one value or several. Raises GpuError."""
        try:
            code, *given = getattr(self._driver, name)(*arguments)
        except RuntimeError as error:  # the bindings' word for a driver that lacks the function
            raise GpuUnusable(
                f"NVIDIA's driver is too old for the installed cuda-bindings: {error}",
                remedy="install a newer driver, or the cuda-bindings of its CUDA release",
            ) from error
        self._check(int(code), doing)
        return given[0] if len(given) == 1 else given

    def _check(self, code: int, doing: str) -> None:
        if code:
            raise self._calls.error(code, doing)


def _c_type(argument: Scalar) -> Any:
    match argument:
        case Int32():
            return ctypes.c_int32
        case Float32():
            return ctypes.c_float
        case _:
            return ctypes.c_int64  # an address has the same 64 bits
