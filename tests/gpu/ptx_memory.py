"""Memory for PTX that runs without a GPU: it refuses what nobody owns, what is not aligned, and races.

Knows: where the spaces of a program lie, and who touched which byte last. Rules: two threads race for a byte when one writes it, the other
touches it, and no barrier lies between; what blocks of one launch touch is never ordered; atomic additions race with all
but each other. Leaves to others: the instructions (`ptx`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPACES = {"arena": 1 << 36, "constants": 1 << 37, "shared": 1 << 38}
SIZES = {"8": 1, "16": 2, "32": 4, "64": 8}
SINGLES = {"f32"}
CLASHES = {"read": ("write", "add"), "write": ("read", "write", "add"), "add": ("read", "write")}
SEVERAL = object()  # threads of one stretch

Array = NDArray[Any]
Value = Any  # an integer, or np.float32


class Memory:
    """What a launch sees. `thread` is the one that runs now."""

    def __init__(self, spaces: Mapping[str, Array]) -> None:
        self._spaces = spaces
        self.thread: object = None
        self._block = self._stretch = 0
        # By what was done and to which byte: the block, the stretch and the thread of the last one.
        self._global: dict[tuple[str, int], tuple[int, int, object]] = {}
        self._shared: dict[tuple[str, int], tuple[int, int, object]] = {}

    def begin_launch(self) -> None:
        """All that was done before is done."""
        self._global.clear()

    def begin_block(self) -> None:
        """Another block; it has shared memory of its own."""
        self._block += 1
        self._shared.clear()

    def begin_stretch(self) -> None:
        """All threads of the block begin, or passed a barrier."""
        self._stretch += 1

    def at(self, address: int, size: int) -> Array:
        """`size` bytes there."""
        for name, memory in self._spaces.items():
            offset = address - SPACES[name]
            if offset >= 0 and offset + size <= memory.size:
                assert offset % size == 0, f"{size} bytes at {address:#x} are not aligned"
                return memory[offset : offset + size]
        raise AssertionError(f"{size} bytes at {address:#x} are nobody's")

    def read(self, kind: str, address: int) -> Value:
        """A value of a type such as "s32", widened to 64 bits."""
        self._touch("read", address, SIZES[kind[1:]])
        return self._value(kind, address)

    def write(self, kind: str, address: int, value: Value) -> None:
        """The low bytes of a value."""
        self._touch("write", address, SIZES[kind[1:]])
        self._put(kind, address, value)

    def add(self, kind: str, address: int, value: Value) -> Value:
        """Add to a value, and give what it was."""
        self._touch("add", address, SIZES[kind[1:]])
        old = self._value(kind, address)
        self._put(kind, address, old + whole(value))
        return old

    def _value(self, kind: str, address: int) -> Value:
        if kind in SINGLES:
            return self.at(address, 4).view(np.float32)[0]
        found = self.at(address, SIZES[kind[1:]]).tobytes()
        return int.from_bytes(found, "little", signed=kind[0] == "s") & mask(64)

    def _put(self, kind: str, address: int, value: Value) -> None:
        size = SIZES[kind[1:]]
        low = (whole(value) & mask(8 * size)).to_bytes(size, "little")
        self.at(address, size)[:] = np.frombuffer(low, np.uint8)

    def _touch(self, what: str, address: int, size: int) -> None:
        """Note who touches bytes. A byte that several threads read, or add to, in one stretch is of SEVERAL."""
        now = (self._block, self._stretch, self.thread)
        touched = self._global if address < SPACES["shared"] else self._shared
        for byte in range(address, address + size):
            for other in CLASHES[what]:
                block, stretch, thread = touched.get((other, byte), now)
                is_ordered = block == self._block and stretch < self._stretch
                assert is_ordered or (block, stretch, thread) == now, f"a race for {byte:#x}"
            before = touched.get((what, byte), now)
            is_shared = before[:2] == now[:2] and before[2] != self.thread
            touched[what, byte] = (*now[:2], SEVERAL) if is_shared else now


def whole(value: Value) -> int:
    """A register read as an integer."""
    return int(value.view(np.uint32)) if isinstance(value, np.float32) else int(value)


def mask(width: int) -> int:
    """So many low bits."""
    return (1 << width) - 1
