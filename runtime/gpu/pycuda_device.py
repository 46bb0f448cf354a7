"""A GPU through pycuda (a door).

Knows: how `pycuda.driver` spells the Device protocol. Rules: as `device` has them, but that events, modules and
kernels are numbers of this room, since pycuda keeps the driver's handles of those to itself; pycuda frees an object
when nobody holds it, so everything is held here until it is given back. Its errors hand on the driver's words alone: the
code is looked up by them, and words that the driver does not know count as the end of the context. Leaves to others: what
the errors mean (`failures`), graphs, pinning and copies by address (`driver_calls`).
"""

import atexit
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

from appliance.errors import GpuError
from runtime.gpu.device import Address, Float32, Function, Handle, Int32, Pointer, Room, Scalar
from runtime.gpu.driver_calls import UNKNOWN, ByDriver
from runtime.gpu.failures import refused_module

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: waits for no other stream, the default one included


def pycuda() -> Any:
    """The module `pycuda.driver`. Raises ImportError."""
    import pycuda.driver  # noqa: PLC0415 - only a box with a GPU pays for it

    return pycuda.driver


class PycudaDevice(ByDriver):
    """The device with this ordinal among those that the process sees; its primary context is current afterwards."""

    def __init__(self, ordinal: int) -> None:
        self._driver = pycuda()
        super().__init__()
        self._numbers = count(1)
        self._held: dict[int, Any] = {}
        self._kernels: dict[
            Handle, list[Handle]
        ] = {}  # of each module, which lives as long as they
        doing = f"starting the driver for device {ordinal}"
        self._do(doing, self._driver.init)
        device = self._do(doing, self._driver.Device, ordinal)
        self._name = str(self._do(doing, device.name))
        major, minor = self._do(doing, device.compute_capability)
        self._capability = int(major), int(minor)
        self._context = self._do(doing, device.retain_primary_context)
        self._do(doing, self._context.push)
        atexit.register(self._leave)  # pycuda aborts a process that ends within a context

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Inside, this thread may use the device too."""
        doing = "entering its context"
        self._do(doing, self._context.push)
        try:
            yield
        finally:
            self._do(doing, self._context.pop)

    def room(self) -> Room:
        """Its memory now."""
        free, total = self._do("asking for its memory", self._driver.mem_get_info)
        return Room(free=int(free), total=int(total))

    def allocate(self, size: int) -> Pointer:
        """Device memory. Raises GpuMemory."""
        allocation = self._do(f"allocating {size} bytes", self._driver.mem_alloc, size)
        self._held[int(allocation)] = allocation
        return int(allocation)

    def free(self, pointer: Pointer) -> None:
        """Give back what `allocate` gave."""
        self._do("giving back memory", self._held.pop(pointer).free)

    def stream(self) -> Handle:
        """A stream of its own."""
        stream = self._do("making a stream", self._driver.Stream, NON_BLOCKING)
        self._held[int(stream.handle)] = stream
        return int(stream.handle)

    def drop_stream(self, stream: Handle) -> None:
        """Give a stream back."""
        del self._held[stream]

    def event(self) -> Handle:
        """An event that keeps a time."""
        return self._hold(self._do("making an event", self._driver.Event))

    def drop_event(self, event: Handle) -> None:
        """Give an event back."""
        del self._held[event]

    def record(self, event: Handle, stream: Handle) -> None:
        """Mark the end of what is queued."""
        self._do("marking a stream", self._held[event].record, self._held[stream])

    def reached(self, event: Handle) -> bool:
        """Whether all before the mark is done."""
        return bool(self._do("computing", self._held[event].query))

    def wait(self, stream: Handle, event: Handle) -> None:
        """Let the stream wait for the mark."""
        waiting = self._held[stream].wait_for_event
        self._do("letting a stream wait", waiting, self._held[event])

    def elapsed_ms(self, begin: Handle, end: Handle) -> float:
        """Milliseconds between two marks."""
        return float(self._do("reading a time", self._held[begin].time_till, self._held[end]))

    def synchronise(self, stream: Handle) -> None:
        """Wait for what is queued."""
        self._do("computing", self._held[stream].synchronize)

    def copy(self, to: Pointer, source: Pointer, size: int, stream: Handle) -> None:
        """Device memory to device memory."""
        copied = self._driver.memcpy_dtod_async
        self._do("copying on the GPU", copied, to, source, size, self._held[stream])

    def fill(self, to: Pointer, byte: int, size: int, stream: Handle) -> None:
        """Set bytes."""
        filled = self._driver.memset_d8_async
        self._do("filling memory", filled, to, byte, size, self._held[stream])

    def load(self, image: bytes) -> Handle:
        """A module from a cubin or PTX."""
        # The driver reads PTX up to a zero byte.
        loaded = self._driver.module_from_buffer
        return self._hold(self._do("loading kernels", loaded, image + b"\0"))

    def unload(self, module: Handle) -> None:
        """Give a module back."""
        for kernel in self._kernels.pop(module, ()):
            del self._held[kernel]
        del self._held[module]

    def function(self, module: Handle, name: str) -> Function:
        """A kernel of a module."""
        doing = f"looking for the kernel {name}"
        found = self._do(doing, self._held[module].get_function, name)
        handle = self._hold(_Kernel(found))
        self._kernels.setdefault(module, []).append(handle)
        return Function(
            handle=handle,
            registers=self._do(doing, getattr, found, "num_regs"),
            local_bytes=self._do(doing, getattr, found, "local_size_bytes"),
        )

    def launch(
        self,
        function: Function,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Scalar],
        stream: Handle,
    ) -> None:
        """Queue a kernel."""
        kernel: _Kernel = self._held[function.handle]
        self._do("launching", kernel.launch, grid, block, arguments, self._held[stream])

    def close(self) -> None:
        """Release the primary context."""
        atexit.unregister(self._leave)
        context, self._context = self._context, None
        self._held.clear()
        if context is not None:
            self._calls.leave_context()  # pycuda takes it off its own stack only
            self._do("releasing its context", context.detach)

    def _leave(self) -> None:
        with suppress(GpuError):  # the process ends, and with it the context
            self.close()

    def _hold(self, thing: object) -> Handle:
        number = next(self._numbers)
        self._held[number] = thing
        return number

    def _do(self, what: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call pycuda. Raises its errors as ours."""
        try:
            return call(*arguments)
        except self._driver.Error as error:
            _, _, words = str(error).partition(" failed: ")
            told, _, log = words.partition(" - ")
            found = self._calls.error(self._calls.codes.get(told, UNKNOWN), what)
            raise refused_module(found, log) from error


class _Kernel:
    """A function of pycuda's, prepared for the types it was last launched with."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._types = ""

    def launch(self, grid: Any, block: Any, arguments: Sequence[Scalar], stream: Any) -> None:
        types = "".join(map(_letter, arguments))
        if types != self._types or not types:
            self._function.prepare(types)
            self._types = types
        values = [argument.value for argument in arguments]
        self._function.prepared_async_call(grid, block, stream, *values)


def _letter(argument: Scalar) -> str:
    """The type's letter in Python's struct format."""
    match argument:
        case Int32():
            return "i"
        case Float32():
            return "f"
        case Address():
            return "P"
        case _:
            return "q"
