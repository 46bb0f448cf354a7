"""Device memory of other processes, as clients register it.

Knows: what is open, and how far it reaches. Rules: nothing is read or written beyond what was registered, nor registered
beyond the allocation; bytes are copied before anybody uses them; a handle that cannot be opened is its client's trouble
alone. Leaves to others: who may (`runtime.services`).
"""

import ctypes
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from appliance.errors import GpuError, GpuLost
from runtime.gpu.device import Device, Handle, Pointer

HANDLE_BYTES = 64  # cudaIpcMemHandle_t


class _Opened(NamedTuple):
    pointer: Pointer
    size: int


class SharedMemory:
    """Everything that is shared with one device's owner."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._opened: dict[int, _Opened] = {}

    def open(self, number: int, handle: bytes, size: int) -> None:
        """Open `size` bytes and call them `number`. Raises GpuError."""
        if len(handle) != HANDLE_BYTES:
            raise GpuError(
                f"a handle of {len(handle)} bytes",
                remedy=f"send the {HANDLE_BYTES} bytes of cudaIpcGetMemHandle",
            )
        pointer = self._mapped(handle)
        with ExitStack() as failing:
            failing.callback(self._device.close_shared, pointer)
            most = self._device.extent(pointer)
            if not 0 < size <= most:
                raise GpuError(
                    f"{size} bytes of an allocation that has {most}",
                    remedy="register what there is",
                )
            failing.pop_all()
        self._opened[number] = _Opened(pointer, size)

    def read(self, number: int, offset: int, size: int) -> bytes:
        """The bytes there. Raises GpuError."""
        source = self._place(number, offset, size)
        host = ctypes.create_string_buffer(size)
        self._copied(lambda stream: self._device.copy_out(_at(host), source, size, stream))
        return host.raw

    def write(self, number: int, offset: int, data: bytes) -> None:
        """Set the bytes there. Raises GpuError."""
        to = self._place(number, offset, len(data))
        host = ctypes.create_string_buffer(data, len(data))
        self._copied(lambda stream: self._device.copy_in(to, _at(host), len(data), stream))

    def close(self, number: int) -> None:
        """Close it; one that is unknown is fine."""
        opened = self._opened.pop(number, None)
        if opened is not None:
            self._device.close_shared(opened.pointer)

    def close_all(self) -> None:
        """Close every one."""
        for number in list(self._opened):
            self.close(number)

    def _mapped(self, handle: bytes) -> Pointer:
        """Raises GpuError for a handle that cannot be, whatever the driver calls it."""
        try:
            return self._device.open_shared(handle)
        except GpuLost as lost:
            self._device.room()  # raises as well when the GPU is lost indeed
            raise GpuError(
                str(lost), remedy="register what cudaIpcGetMemHandle gives in a process that runs"
            ) from lost

    def _place(self, number: int, offset: int, size: int) -> Pointer:
        opened = self._opened.get(number)
        if opened is None:
            raise GpuError("the shared memory is not open", remedy="register it again")
        if offset < 0 or size <= 0 or offset + size > opened.size:
            raise GpuError(
                f"bytes {offset} to {offset + size} of shared memory of {opened.size}",
                remedy="name what was registered",
            )
        return opened.pointer + offset

    def _copied(self, copy: Callable[[Handle], None]) -> None:
        stream = self._device.stream()
        try:
            copy(stream)
            self._device.synchronise(stream)
        finally:
            self._device.drop_stream(stream)


def _at(host: "ctypes.Array[ctypes.c_char]") -> int:
    return ctypes.addressof(host)
