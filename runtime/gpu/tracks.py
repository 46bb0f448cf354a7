"""Streams of a GPU, and the memory that what runs on one of them takes turns in.

Knows: a track: a stream, an arena for programs and a pool for the engine's activations. Rules: work on one stream never
overlaps, so lanes of several versions share one arena and one pool, each as large as the most that one of them needs;
when either moves, addresses that were handed out are old (`moves` counts). Leaves to others: what runs (`lane`),
whether it fits (`holding`).
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from appliance.errors import GpuMemory
from runtime.gpu.device import Device, Pointer


class Need(NamedTuple):
    """What a lane needs of its track, in bytes."""

    arena: int
    pool: int


class Piece:
    """Device memory that grows and shrinks; `pointer` is 0 while it has no byte."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.pointer: Pointer = 0
        self.size = 0

    def fit(self, size: int) -> bool:
        """Have exactly `size` bytes; whether it moved. Raises GpuMemory, and has none then."""
        if size == self.size:
            return False
        if self.pointer:
            self._device.free(self.pointer)
        self.pointer = self.size = 0
        if size:
            self.pointer = self._device.allocate(size)
        self.size = size
        return True


class Track:
    """One stream and its memory. `lanes` counts the lanes that are on it."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.stream = device.stream()
        self.arena, self.pool = Piece(device), Piece(device)
        self.moves = 0
        self._needs: dict[int, Need] = {}

    @property
    def lanes(self) -> int:
        """How many lanes take turns here."""
        return len(self._needs)

    def beyond(self, need: Need) -> int:
        """How many bytes more it would take, to fit `need` too."""
        return max(need.arena - self.arena.size, 0) + max(need.pool - self.pool.size, 0)

    def reserve(self, lane: int, need: Need) -> None:
        """Let `lane` have what it needs from now on. Raises GpuMemory; what others need is kept as it was."""
        before = self._needs.get(lane)
        self._needs[lane] = need
        try:
            self._fit()
        except BaseException:
            if before is None:
                del self._needs[lane]
            else:
                self._needs[lane] = before
            self._fit()
            raise

    def ready(self) -> None:
        """Have what lanes need, where a failure took it away. Raises GpuMemory."""
        self._fit()

    def leave(self, lane: int) -> None:
        """The lane is gone, and what only it needed goes back."""
        if self._needs.pop(lane, None) is not None:
            with suppress(GpuMemory):  # others took it meanwhile: `ready` asks again
                self._fit()

    def close(self) -> None:
        """Give everything back."""
        self._needs.clear()
        self._fit()
        self._device.drop_stream(self.stream)

    def _fit(self) -> None:
        arena = max((need.arena for need in self._needs.values()), default=0)
        pool = max((need.pool for need in self._needs.values()), default=0)
        if (arena, pool) == (self.arena.size, self.pool.size):
            return
        self._device.synchronise(self.stream)  # what is queued uses the old addresses
        self.moves += 1
        self.arena.fit(arena)
        self.pool.fit(pool)


def least_used(tracks: Sequence[Track]) -> Track:
    """Where the next lane goes."""
    return min(tracks, key=lambda track: track.lanes)
