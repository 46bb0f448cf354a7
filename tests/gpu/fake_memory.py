"""The memory of the fake of a GPU: allocations far from each other, and host memory that is pinned.

Knows: who owns which address. Rules: bytes outside of one allocation are nobody's, and asking for them is IllegalAccess; fresh
memory is never zero. Leaves to others: when anything is copied (`tests.gpu.fakes`).
"""

from bisect import bisect_right
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Bytes: TypeAlias = np.ndarray[Any, Any]

FIRST_ADDRESS = 0x7000_0000_0000
GUARD = 4096  # bytes between two allocations, which belong to nobody
PAGE = 4096
SHARED = Path("/dev/shm")


class IllegalAccess(Exception):
    """An address that is nobody's."""


class Addresses:
    """All memory that the fake knows. `owned` and `shared` are by their first address, `pinned` too."""

    def __init__(self) -> None:
        self.owned: dict[int, Bytes] = {}
        self.shared: dict[int, Bytes] = {}
        self.pinned: dict[int, Bytes] = {}
        self._next = FIRST_ADDRESS
        self._starts: list[int] = []  # addresses only grow, so this stays sorted

    @property
    def used(self) -> int:
        """The bytes that are allocated."""
        return sum(memory.size for memory in list(self.owned.values()))  # another thread may add

    def allocate(self, size: int) -> int:
        """Fresh memory; its address."""
        return self._placed(self.owned, np.full(size, 0xCD, np.uint8))

    def map_shared(self, handle: bytes) -> int | None:
        """The object in /dev/shm that the handle names; None when there is none."""
        path = SHARED / handle.rstrip(b"\0").decode("ascii", "replace").replace("/", "_")
        return (
            self._placed(self.shared, np.memmap(path, np.uint8, "r+")) if path.is_file() else None
        )

    def release(self, pointer: int, of: dict[int, Bytes]) -> bool:
        """Take an allocation out of `owned` or `shared`; False when it is none of theirs."""
        if of.pop(pointer, None) is None:
            return False
        self._starts.remove(pointer)
        return True

    def pin(self, memory: memoryview) -> int | None:
        """The address of whole pages of the host's; None when they are not, or pinned already."""
        found: Bytes = np.frombuffer(memory, np.uint8)
        pointer = int(found.ctypes.data)
        if pointer % PAGE or pointer in self.pinned:
            return None
        self.pinned[pointer] = found
        return pointer

    def host(self, pointer: int, size: int) -> Bytes | None:
        """Pinned memory of the host; None when it is not pinned, or not all of it."""
        for start, memory in self.pinned.items():
            if start <= pointer and pointer + size <= start + memory.size:
                return memory[pointer - start : pointer - start + size]
        return None

    def extent(self, pointer: int) -> int:
        """The bytes from there to the end of the allocation."""
        start, memory = self._found(pointer)
        return int(memory.size) - (pointer - start)

    def bytes(self, pointer: int, size: int) -> Bytes:
        """The bytes there, to be read and written."""
        start, memory = self._found(pointer)
        if pointer - start + size > memory.size:
            raise IllegalAccess(f"an illegal memory access of {size} bytes at {pointer:#x}")
        return memory[pointer - start : pointer - start + size]

    def _placed(self, among: dict[int, Bytes], memory: Bytes) -> int:
        pointer = self._next
        self._next += -(-memory.size // PAGE) * PAGE + GUARD
        self._starts.append(pointer)
        among[pointer] = memory
        return pointer

    def _found(self, pointer: int) -> tuple[int, Bytes]:
        at = bisect_right(self._starts, pointer) - 1
        start = self._starts[at] if at >= 0 else -1
        memory = self.owned.get(start, self.shared.get(start))
        if memory is None or pointer >= start + memory.size:
            raise IllegalAccess(f"an illegal memory access at {pointer:#x}")
        return start, memory
