"""What the GPU path asks of a CUDA device: one small interface, with pycuda or cuda-bindings behind it.

Knows: the Device protocol. Rules: a device is used by the thread that opened it, and by another one that has
entered it, in the device's primary context, which TensorRT shares; pointers, streams and graphs are the driver's own handles as integers, events, modules
and kernels numbers of the device's; every failure is a GpuError, and one after which the context can do nothing more
is GpuLost. Leaves to others: the libraries (`pycuda_device`, `bindings_device`), whether
there is a driver at all (`appliance.driver`).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeAlias

Handle: TypeAlias = int
Pointer: TypeAlias = int  # of device memory, or of pinned host memory where that is said
Scalar: TypeAlias = "Int32 | Int64 | Float32 | Address"


class Int32(NamedTuple):
    """A kernel's argument of 32 bits."""

    value: int


class Int64(NamedTuple):
    """A kernel's argument of 64 bits."""

    value: int


class Float32(NamedTuple):
    """A kernel's argument, a single."""

    value: float


class Address(NamedTuple):
    """A kernel's argument, a pointer into device memory."""

    value: Pointer


class Room(NamedTuple):
    """A device's memory, in bytes (cuMemGetInfo)."""

    free: int
    total: int


class Function(NamedTuple):
    """A kernel that is loaded: its handle, and what it takes of each thread."""

    handle: Handle
    registers: int
    local_bytes: int


class Device(Protocol):
    """One GPU. Sizes are in bytes; all copies, fills and launches are queued on a stream, never waited for."""

    @property
    def name(self) -> str:
        """What the driver calls it."""

    @property
    def capability(self) -> tuple[int, int]:
        """Its compute capability, such as (9, 0)."""

    def entered(self) -> AbstractContextManager[None]:
        """Inside, this thread may use the device too, beside the one that opened it. Raises GpuError."""

    def room(self) -> Room:
        """Its memory now."""

    def allocate(self, size: int) -> Pointer:
        """Device memory, aligned to 256 bytes at least. Raises GpuMemory."""

    def free(self, pointer: Pointer) -> None:
        """Give back what `allocate` gave."""

    def extent(self, pointer: Pointer) -> int:
        """The bytes from `pointer` to the end of its allocation, one's own or shared. Raises GpuError."""

    def pin(self, memory: memoryview) -> Pointer:
        """Lock host memory that is writable and aligned to pages, so that copies run beside kernels; its address."""

    def unpin(self, pointer: Pointer) -> None:
        """Undo `pin`."""

    def stream(self) -> Handle:
        """A stream of its own, which waits for no other."""

    def drop_stream(self, stream: Handle) -> None:
        """Give a stream back."""

    def event(self) -> Handle:
        """An event that keeps a time."""

    def drop_event(self, event: Handle) -> None:
        """Give an event back."""

    def record(self, event: Handle, stream: Handle) -> None:
        """Mark the end of all that is queued on `stream` so far."""

    def reached(self, event: Handle) -> bool:
        """Whether all before the mark is done. Raises what failed among it."""

    def wait(self, stream: Handle, event: Handle) -> None:
        """Let what is queued on `stream` from now on wait for the mark."""

    def elapsed_ms(self, begin: Handle, end: Handle) -> float:
        """Milliseconds between two marks that were reached."""

    def synchronise(self, stream: Handle) -> None:
        """Wait for all that is queued on `stream`. Raises what failed among it."""

    def copy_in(self, to: Pointer, host: Pointer, size: int, stream: Handle) -> None:
        """From host memory, pinned or it waits, to the device."""

    def copy_out(self, host: Pointer, source: Pointer, size: int, stream: Handle) -> None:
        """From the device to host memory, pinned or it waits."""

    def copy(self, to: Pointer, source: Pointer, size: int, stream: Handle) -> None:
        """From device memory to device memory."""

    def fill(self, to: Pointer, byte: int, size: int, stream: Handle) -> None:
        """Set `size` bytes to `byte`."""

    def load(self, image: bytes) -> Handle:
        """A module from a cubin or PTX. Raises GpuError naming what the driver refuses in it."""

    def unload(self, module: Handle) -> None:
        """Give a module back."""

    def function(self, module: Handle, name: str) -> Function:
        """A kernel of a module. Raises GpuError when it has none of that name."""

    def launch(
        self,
        function: Function,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Scalar],
        stream: Handle,
    ) -> None:
        """Queue a kernel whose parameters are `arguments`, plain C types in order; no dynamic shared memory."""

    def captured(self, stream: Handle) -> AbstractContextManager["Capture"]:
        """What is queued on `stream` inside is not run but kept as a graph, which the capture holds afterwards."""

    def replay(self, graph: Handle, stream: Handle) -> None:
        """Queue a captured graph."""

    def drop_graph(self, graph: Handle) -> None:
        """Give a graph back."""

    def open_shared(self, handle: bytes) -> Pointer:
        """Device memory of another process, by its 64 bytes of cudaIpcMemHandle_t. Raises GpuError."""

    def close_shared(self, pointer: Pointer) -> None:
        """Undo `open_shared`."""

    def close(self) -> None:
        """Release the primary context; nothing of the device is used afterwards."""


class Capture(Protocol):
    """A capture that ended."""

    graph: Handle
