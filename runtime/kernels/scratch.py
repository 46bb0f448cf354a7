"""Scratch: memory between two passes, kept from call to call.

Knows: buffers of each thread. Rules: a buffer grows to the largest array asked for and is never shared
between threads. Leaves to others: what is written into it.
"""

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from appliance.tensors import Array


class Scratch(threading.local):
    """One growing buffer a thread, FP32 unless another dtype is named."""

    def __init__(self, dtype: DTypeLike = np.float32) -> None:
        self._buffer = np.empty(0, dtype)

    def take(self, shape: tuple[int, ...]) -> Array:
        """An array of `shape`, contents arbitrary, good until the thread's next call."""
        size = math.prod(shape)
        if self._buffer.size < size:
            self._buffer = np.empty(size, self._buffer.dtype)
        return self._buffer[:size].reshape(shape)


class Workspace(threading.local):
    """A thread's growing buffers by name, and what it remembers of the last call."""

    def __init__(self) -> None:
        self._buffers: dict[str, Array] = {}
        self.key: tuple[int, ...] | None = None
        self.kept: tuple[Any, ...] = ()

    def take(self, name: str, dtype: DTypeLike, *shape: int) -> Array:
        """An array of `shape`, contents arbitrary, good until the thread asks for `name` again."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, dtype)
        return buffer[:size].reshape(shape)


def floats_of(array: Array) -> Array:
    """`array` as FP32, C-contiguous; itself when it is that, else a copy cast as `cast_into` does."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(array, np.float32)


def cast_into(raw: Array, into: Array) -> Array:
    """Copy `raw` into `into` of equal shape, values as `appliance.recipe.Cast` says; returns `into`."""
    if raw.dtype == into.dtype:  # changing how numpy takes errors costs more than a small copy
        into[...] = raw
        return into
    with np.errstate(over="ignore", invalid="ignore"):
        np.copyto(into, raw, casting="unsafe")
    return into
