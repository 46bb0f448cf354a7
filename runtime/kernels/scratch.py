"""Scratch: memory between two passes, kept from call to call.

Knows: one FP32 buffer a thread. Rules: it grows to the largest array asked for and is never shared
between threads. Leaves to others: what is written into it.
"""

import math
import threading

import numpy as np

from appliance.tensors import Array


class Scratch(threading.local):
    """One growing FP32 buffer a thread."""

    def __init__(self) -> None:
        self._buffer = np.empty(0, np.float32)

    def take(self, shape: tuple[int, ...]) -> Array:
        """An FP32 array of `shape`, contents arbitrary, good until the thread's next call."""
        size = math.prod(shape)
        if self._buffer.size < size:
            self._buffer = np.empty(size, np.float32)
        return self._buffer[:size].reshape(shape)


def cast_into(raw: Array, into: Array) -> Array:
    """Copy `raw` into `into` of equal shape, values as `appliance.recipe.Cast` says; returns `into`."""
    with np.errstate(over="ignore", invalid="ignore"):
        np.copyto(into, raw, casting="unsafe")
    return into
