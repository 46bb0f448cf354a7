"""What the kernels of images on a GPU share: a thread's pixel, its finishing and its place.

Knows: the arithmetic that ends every pass, and how a result is laid out. Rules: one thread a pixel of the result; what a kernel
is compiled for is bound to the names in capitals; up to four channels are read and finished before the first is
written, as a compiler may move no read over a write; places in a picture are counted in 32 bits. Leaves to others: what a
pixel is made of (`image_kernels`, `image_sums`).

Arguments that kernels share. raw: pictures of `raw_size` values, whose rows are of `pitch` values, CHANNELS a pixel. out:
pictures of (height, width, MADE), CHW or HWC. picks: (MADE,) INT32, the raw channel of each channel made. colours:
(3, MADE) FP32: scale, shift and what lies where no picture does. top, left, tall, wide: the box of `out` that shows
the picture. step, zero, low, high: see `finished`. y_index, x_index: INT32; y_index counts rows, x_index values.
Tables of x have a row for each tap, those of y a row for each new pixel, so that the threads of a warp read x tables
side by side and y tables at one place.
"""

# ruff: noqa: PLR0917  kernels take positions only
from typing import Any, Final, TypeAlias

import numpy as np

from appliance.tensors import Array
from runtime.kernels.cuda import gpu

Index: TypeAlias = Any  # an integer of 32 or 64 bits: Python's here, the device's in a kernel

CHANNELS, MADE = 3, 3  # of raw and of out; this and what follows is bound for each kernel
CHW = 1  # else HWC
ROUNDS = 0  # whether what is resized is UINT8 again
LEVELS = 0  # whether the result is quantised

WHOLE_MAGIC: Final = np.float32(1.5 * 2**23)  # added and taken away again, it leaves a whole number
BYTE_MOST: Final = np.float32(255.0)
NOTHING: Final = np.float32(0.0)


def column() -> Index:
    """The pixel of this thread from the left."""
    return np.int32(gpu.blockIdx.x * gpu.blockDim.x + gpu.threadIdx.x)


def line() -> Index:
    """The pixel of this thread from the top."""
    return np.int32(gpu.blockIdx.y * gpu.blockDim.y + gpu.threadIdx.y)


def picture(size: Index) -> Index:
    """Where this thread's picture begins among pictures of `size` values; the only place that needs 64 bits."""
    return gpu.blockIdx.z * size


def pick(picks: Array, c: Index) -> Index:
    """The raw channel of the channel made, or of the last one."""
    return picks[min(c, MADE - 1)]


def rounded(value: np.float32) -> np.float32:
    """`value` as a whole number, half to even; right from -2**22 to 2**22."""
    return (value + WHOLE_MAGIC) - WHOLE_MAGIC


def clipped(value: np.float32, low: np.float32, high: np.float32) -> np.float32:
    """`value`, but at least `low` and at most `high`."""
    return min(max(value, low), high)


def finished(
    value: np.float32,
    c: Index,
    colours: Array,
    step: np.float32,
    zero: np.float32,
    low: np.float32,
    high: np.float32,
) -> np.float32:
    """As `image_steps.finish_line`; clipped before it is rounded, which changes nothing as bounds are whole."""
    if c >= MADE:
        return NOTHING
    if ROUNDS:
        value = rounded(clipped(value, NOTHING, BYTE_MOST))
    value = value * colours[c] + colours[MADE + c]
    if LEVELS:
        level = rounded(clipped(value / step, low - zero, high - zero)) + zero
        value = level if value == value else zero  # noqa: PLR0124  NaN alone differs from itself
    return value


def place_of(y: Index, x: Index, c: Index, height: Index, width: Index) -> Index:
    """Where channel `c` of a pixel lies in `out`."""
    size = np.int32(height * width)
    if CHW:
        return picture(np.int32(size * MADE)) + np.int32(c * size + y * width + x)
    return picture(np.int32(size * MADE)) + np.int32((y * width + x) * MADE + c)


def store(
    out: Array,
    y: Index,
    x: Index,
    c: Index,
    height: Index,
    width: Index,
    first: np.float32,
    second: np.float32,
    third: np.float32,
    fourth: np.float32,
) -> None:
    """Write the channels from `c` on of a pixel, up to four, as far as there are any."""
    out[place_of(y, x, c, height, width)] = first
    if c + 1 < MADE:
        out[place_of(y, x, c + 1, height, width)] = second
    if c + 2 < MADE:
        out[place_of(y, x, c + 2, height, width)] = third
    if c + 3 < MADE:
        out[place_of(y, x, c + 3, height, width)] = fourth


def is_border(down: Index, across: Index, tall: Index, wide: Index) -> bool:
    """Whether a pixel of the canvas shows no picture; it is counted from the box's corner."""
    return bool(down < 0 or down >= tall or across < 0 or across >= wide)


def border_at(out: Array, y: Index, x: Index, height: Index, width: Index, colours: Array) -> None:
    """Write a pixel where no picture lies."""
    for c in range(MADE):
        out[place_of(y, x, c, height, width)] = colours[2 * MADE + c]
