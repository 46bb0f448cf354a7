"""What a client's shared memory lies in: an object of the system, or memory of a GPU.

Knows: how each is read, written and let go of. Rules: bytes are copied, never mapped: a client that shrinks its object
meets an error and cannot end this process, and one that rewrites it cannot change what was already read; an object is
closed when nobody holds it any more, memory of a GPU when that is noticed, since it takes a word with the GPU's
owner, and no garbage collection may wait for that. Leaves to others: bounds and names (`runtime.regions`).
"""

import os
import stat
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

HANDLE_BYTES = 64  # of a cudaIpcMemHandle_t (CUDA_IPC_HANDLE_SIZE)


class Memory(Protocol):
    """Bytes that a client shares; used from any thread."""

    @property
    def size(self) -> int:
        """How many there are, as far as is known now."""

    def read(self, at: int, size: int) -> memoryview:
        """A copy of `size` bytes from `at` on. Raises OSError when they are gone, GpuError from a GPU."""

    def write(self, at: int, data: memoryview) -> None:
        """Write `data` from `at` on; raises as `read`."""


class SystemMemory:
    """An open POSIX shared memory object."""

    def __init__(self, path: Path, owners: Collection[int]) -> None:
        """Open the object; OSError when it is none, is a link, or belongs to nobody of `owners` (uid)."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._descriptor = os.open(path, flags)
        found = os.fstat(self._descriptor)
        plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        if not plain or found.st_uid not in owners:
            raise PermissionError(f"{path} is no object of an allowed user")

    def __del__(self) -> None:
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)

    @property
    def size(self) -> int:
        """See `Memory`."""
        return os.fstat(self._descriptor).st_size

    def read(self, at: int, size: int) -> memoryview:
        """See `Memory`."""
        parts: list[bytes] = []
        while size:
            part = os.pread(self._descriptor, size, at)
            if not part:
                raise OSError("the object has shrunk")
            parts.append(part)
            at, size = at + len(part), size - len(part)
        return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))

    def write(self, at: int, data: memoryview) -> None:
        """See `Memory`."""
        # A write behind the end would make the object grow on our account.
        if self.size < at + data.nbytes:
            raise OSError("the object has shrunk")
        while data.nbytes:
            written = os.pwrite(self._descriptor, data, at)
            at, data = at + written, data[written:]


class Shared(Protocol):
    """Memory of another process on a GPU, opened by the GPU's owner (`runtime.gpu.owner`)."""

    def read(self, offset: int, size: int) -> bytes:
        """Those bytes. Raises GpuError."""

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write `data` there. Raises GpuError."""

    def close(self) -> None:
        """Let it go."""


class GpuMemory:
    """Memory of a client on a GPU; what nobody holds any more is left in `unused`, for `close_unused`."""

    def __init__(self, shared: Shared, size: int, unused: "SimpleQueue[Shared]") -> None:
        self._shared, self._unused = shared, unused
        self.size = size

    def __del__(self) -> None:
        self._unused.put(self._shared)  # the one queue that a finaliser may use (queue.SimpleQueue)

    def read(self, at: int, size: int) -> memoryview:
        """See `Memory`."""
        return memoryview(self._shared.read(at, size) if size else b"")

    def write(self, at: int, data: memoryview) -> None:
        """See `Memory`."""
        if data.nbytes:
            self._shared.write(at, data)


def close_unused(unused: "SimpleQueue[Shared]") -> None:
    """Let go of all memory that nobody holds any more."""
    with suppress(Empty):
        while True:
            unused.get_nowait().close()  # another thread may take the last one meanwhile
