"""The driver's own functions, by ctypes: what neither library offers by plain addresses.

Knows: the prototypes of a few functions of libcuda.so.1 (cuda.h). Rules: a call is made by the thread in which the
device's context is current; a code that is no success is raised as `failures` has it. pycuda has no graphs, copies from
Python buffers only and never lets go of memory that it pinned, and each spells handles of shared memory its own way, so
both libraries' devices use this room for these.
Leaves to others: everything else of the driver (`pycuda_device`, `bindings_device`).
"""

import ctypes
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NoReturn

from appliance.driver.asking import LIBRARY, Refusal, devices
from appliance.errors import GpuError, GpuUnusable
from runtime.gpu.device import Handle, Pointer
from runtime.gpu.failures import failure

HANDLE_BYTES = 64  # CU_IPC_HANDLE_SIZE

UNKNOWN = 999
LAZY = 1  # CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS
PORTABLE = 1  # CU_MEMHOSTREGISTER_PORTABLE: pinned for every context of the process
RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED: what other threads call does not end the capture
CODES = range(1, 1000)


class _SharedHandle(ctypes.Structure):
    """CUipcMemHandle, which is handed over by value."""

    _fields_ = [("reserved", ctypes.c_char * HANDLE_BYTES)]


_ADDRESS = ctypes.c_void_p
_OUT = ctypes.POINTER(ctypes.c_void_p)
_POINTER = ctypes.c_uint64
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cuInit": (ctypes.c_uint,),
    "cuCtxPopCurrent_v2": (_OUT,),
    "cuGetErrorName": (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
    "cuGetErrorString": (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
    "cuMemHostRegister_v2": (_ADDRESS, ctypes.c_size_t, ctypes.c_uint),
    "cuMemHostUnregister": (_ADDRESS,),
    "cuMemGetAddressRange_v2": (
        ctypes.POINTER(ctypes.c_uint64),
        ctypes.POINTER(ctypes.c_size_t),
        _POINTER,
    ),
    "cuMemcpyHtoDAsync_v2": (_POINTER, _ADDRESS, ctypes.c_size_t, _ADDRESS),
    "cuMemcpyDtoHAsync_v2": (_ADDRESS, _POINTER, ctypes.c_size_t, _ADDRESS),
    "cuIpcOpenMemHandle_v2": (ctypes.POINTER(ctypes.c_uint64), _SharedHandle, ctypes.c_uint),
    "cuIpcCloseMemHandle": (_POINTER,),
    "cuStreamBeginCapture_v2": (_ADDRESS, ctypes.c_int),
    "cuStreamEndCapture": (_ADDRESS, _OUT),
    "cuGraphInstantiateWithFlags": (_OUT, _ADDRESS, ctypes.c_ulonglong),
    "cuGraphLaunch": (_ADDRESS, _ADDRESS),
    "cuGraphDestroy": (_ADDRESS,),
    "cuGraphExecDestroy": (_ADDRESS,),
}


@dataclass(slots=True)
class CapturedGraph:
    """A capture; `graph` is the executable graph, 0 until the capture has ended."""

    graph: int = 0


class DriverCalls:
    """The functions, bound once. Raises GpuUnusable when there is no driver, or one without them."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
            for name, arguments in _PROTOTYPES.items():
                function = getattr(self._library, name)
                function.argtypes, function.restype = arguments, ctypes.c_int
        except (OSError, AttributeError) as error:
            raise GpuUnusable(
                f"NVIDIA's driver library cannot be used: {error}",
                remedy="install the GPU's driver, or a newer one; `holdfast doctor` says more",
            ) from error

    def told(self, code: int) -> tuple[str, str]:
        """The driver's name and words for a code; "" for what it does not know."""
        found = []
        for ask in (self._library.cuGetErrorName, self._library.cuGetErrorString):
            text = ctypes.c_char_p()
            found.append(
                text.value.decode() if not ask(code, ctypes.byref(text)) and text.value else ""
            )
        return found[0], found[1]

    def error(self, code: int, doing: str) -> GpuError:
        """The error for a code."""
        name, told = self.told(code)
        return failure(code, name, told, doing=doing)

    @cached_property
    def codes(self) -> dict[str, int]:
        """The code for each of the driver's words, for a library that hands on the words alone."""
        known = ((self.told(code)[1], code) for code in CODES)
        return {told: code for told, code in known if told}

    def uuids(self) -> list[str]:
        """Of the devices that this process sees, by their ordinals. Raises GpuError."""
        try:
            self._call("cuInit", 0, doing="starting the driver")
            return [device["uuid"] for device in devices(self._library)]
        except Refusal as refusal:
            raise self.error(refusal.code, "looking for devices") from refusal

    def leave_context(self) -> None:
        """Take the current context off this thread's stack."""
        left = ctypes.c_void_p()
        self._call("cuCtxPopCurrent_v2", ctypes.byref(left), doing="leaving its context")

    def pin(self, host: int, size: int) -> None:
        """Lock `size` bytes of host memory from the address `host` on."""
        self._call("cuMemHostRegister_v2", host, size, PORTABLE, doing=f"pinning {size} bytes")

    def unpin(self, host: int) -> None:
        """Undo `pin`."""
        self._call("cuMemHostUnregister", host, doing="giving back pinned memory")

    def extent(self, pointer: int) -> int:
        """Bytes from `pointer` to the end of its allocation."""
        base, size = ctypes.c_uint64(), ctypes.c_size_t()
        out = (ctypes.byref(base), ctypes.byref(size))
        self._call(
            "cuMemGetAddressRange_v2", *out, pointer, doing="asking for an allocation's size"
        )
        return base.value + size.value - pointer

    def copy_in(self, to: int, host: int, size: int, stream: int) -> None:
        """Queue a copy of `size` bytes from the host's address to the device's."""
        self._call("cuMemcpyHtoDAsync_v2", to, host, size, stream, doing="copying to the GPU")

    def copy_out(self, host: int, source: int, size: int, stream: int) -> None:
        """Queue a copy of `size` bytes from the device's address to the host's."""
        self._call("cuMemcpyDtoHAsync_v2", host, source, size, stream, doing="copying from the GPU")

    def open_shared(self, handle: bytes) -> int:
        """Device memory of another process, by its cudaIpcMemHandle_t."""
        if len(handle) != HANDLE_BYTES:
            raise GpuError(
                f"a handle of shared GPU memory has {HANDLE_BYTES} bytes, and this one has {len(handle)}",
                remedy="register the bytes of cudaIpcMemHandle_t as they are",
            )
        pointer, doing = ctypes.c_uint64(), "opening shared memory"
        shared = _SharedHandle.from_buffer_copy(handle)
        self._call("cuIpcOpenMemHandle_v2", ctypes.byref(pointer), shared, LAZY, doing=doing)
        return pointer.value

    def close_shared(self, pointer: int) -> None:
        """Undo `open_shared`."""
        self._call("cuIpcCloseMemHandle", pointer, doing="closing shared memory")

    @contextmanager
    def captured(self, stream: int) -> Iterator[CapturedGraph]:
        """Keep what is queued on `stream` inside, and make it an executable graph."""
        capture, kept, made = CapturedGraph(), ctypes.c_void_p(), ctypes.c_void_p()
        doing = "capturing a graph"
        self._call("cuStreamBeginCapture_v2", stream, RELAXED, doing=doing)
        try:
            yield capture
        except BaseException:
            # The capture ends in any case, or the stream could do nothing more; its graph may be broken or none.
            self._library.cuStreamEndCapture(stream, ctypes.byref(kept))
            self._drop(kept)
            raise
        self._call("cuStreamEndCapture", stream, ctypes.byref(kept), doing=doing)
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(made), kept, 0, doing=doing)
        finally:
            self._drop(kept)
        capture.graph = made.value or 0

    def replay(self, graph: int, stream: int) -> None:
        """Queue an executable graph."""
        self._call("cuGraphLaunch", graph, stream, doing="replaying a graph")

    def drop_graph(self, graph: int) -> None:
        """Give an executable graph back."""
        self._call("cuGraphExecDestroy", graph, doing="giving back a graph")

    def _drop(self, graph: ctypes.c_void_p) -> None:
        if graph.value:
            self._library.cuGraphDestroy(graph)

    def _call(self, name: str, *arguments: object, doing: str) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            self._refuse(code, doing)

    def _refuse(self, code: int, doing: str) -> NoReturn:
        raise self.error(code, doing)


@cache
def driver_calls() -> DriverCalls:
    """The functions of this process's driver."""
    return DriverCalls()


class ByDriver:
    """What both libraries' devices do by these functions; `_name` and `_capability` are theirs to set."""

    _name: str
    _capability: tuple[int, int]

    def __init__(self) -> None:
        self._calls = driver_calls()

    @property
    def name(self) -> str:
        """What the driver calls it."""
        return self._name

    @property
    def capability(self) -> tuple[int, int]:
        """Its compute capability."""
        return self._capability

    def extent(self, pointer: Pointer) -> int:
        """Bytes from `pointer` to the end of its allocation."""
        return self._calls.extent(pointer)

    def pin(self, memory: memoryview) -> Pointer:
        """Lock host memory."""
        host = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._calls.pin(host, memory.nbytes)
        return host

    def unpin(self, pointer: Pointer) -> None:
        """Undo `pin`."""
        self._calls.unpin(pointer)

    def copy_in(self, to: Pointer, host: Pointer, size: int, stream: Handle) -> None:
        """Host memory to the device."""
        self._calls.copy_in(to, host, size, stream)

    def copy_out(self, host: Pointer, source: Pointer, size: int, stream: Handle) -> None:
        """The device to host memory."""
        self._calls.copy_out(host, source, size, stream)

    def captured(self, stream: Handle) -> AbstractContextManager[CapturedGraph]:
        """Keep what is queued inside as a graph."""
        return self._calls.captured(stream)

    def replay(self, graph: Handle, stream: Handle) -> None:
        """Queue a captured graph."""
        self._calls.replay(graph, stream)

    def drop_graph(self, graph: Handle) -> None:
        """Give a graph back."""
        self._calls.drop_graph(graph)

    def open_shared(self, handle: bytes) -> Pointer:
        """Device memory of another process."""
        return self._calls.open_shared(handle)

    def close_shared(self, pointer: Pointer) -> None:
        """Undo `open_shared`."""
        self._calls.close_shared(pointer)
