"""Kernels of images on a GPU: placed as they are, blended, grey, reordered; one thread a pixel of the result.

Knows: the arithmetic of `image_steps` and `grey_steps`, operation by operation and in their order, so that both give the same
to the bit; only the sign of a zero may differ. Rules: neighbouring threads write neighbouring pixels and read the same
few lines of the picture; what depends on the sent size alone is read from tables; nothing is shared, so nothing
waits. Leaves to others: more taps a side (`image_sums`), the arguments that kernels share (`image_pixels`), tables and
grids (`image_resizes`, `image_passes`).

Bytes that must move for a pixel of the result, FP32 of three channels from UINT8: 12 written; read 3 when it is placed, 3 times
the old pixels a new one when it is blended, but 12 at most, and less where a picture grows.
"""

# ruff: noqa: PLR0917  kernels take positions only
import numpy as np

from appliance.tensors import Array
from runtime.kernels.cuda.image_pixels import (
    CHANNELS,
    MADE,
    Index,
    border_at,
    column,
    finished,
    is_border,
    line,
    pick,
    picture,
    place_of,
    store,
)


def place_image(
    raw: Array,
    out: Array,
    picks: Array,
    colours: Array,
    height: Index,
    width: Index,
    top: Index,
    left: Index,
    tall: Index,
    wide: Index,
    step: np.float32,
    zero: np.float32,
    low: np.float32,
    high: np.float32,
    raw_size: Index,
    pitch: Index,
    corner_y: Index,
    corner_x: Index,
) -> None:
    """Pictures as large as they are; corner: top and left of the part of raw that fills the box."""
    x, y = column(), line()
    if x >= width or y >= height:
        return
    if is_border(y - top, x - left, tall, wide):
        border_at(out, y, x, height, width, colours)
        return
    start = picture(raw_size) + np.int32(
        (corner_y + y - top) * pitch + (corner_x + x - left) * CHANNELS
    )
    for c in range(0, MADE, 4):
        first = np.float32(raw[start + pick(picks, c)])
        second = np.float32(raw[start + pick(picks, c + 1)])
        third = np.float32(raw[start + pick(picks, c + 2)])
        fourth = np.float32(raw[start + pick(picks, c + 3)])
        a = finished(first, c, colours, step, zero, low, high)
        b = finished(second, c + 1, colours, step, zero, low, high)
        d = finished(third, c + 2, colours, step, zero, low, high)
        e = finished(fourth, c + 3, colours, step, zero, low, high)
        store(out, y, x, c, height, width, a, b, d, e)


def blended(
    raw: Array,
    upper: Index,
    lower: Index,
    near: Index,
    far: Index,
    share_y: np.float32,
    share_x: np.float32,
) -> np.float32:
    """Between four values: down and then across."""
    above, below = np.float32(raw[upper + near]), np.float32(raw[lower + near])
    first = above + share_y * (below - above)
    above, below = np.float32(raw[upper + far]), np.float32(raw[lower + far])
    second = above + share_y * (below - above)
    return first + share_x * (second - first)


def blend_image(
    raw: Array,
    out: Array,
    picks: Array,
    colours: Array,
    height: Index,
    width: Index,
    top: Index,
    left: Index,
    tall: Index,
    wide: Index,
    step: np.float32,
    zero: np.float32,
    low: np.float32,
    high: np.float32,
    raw_size: Index,
    pitch: Index,
    y_index: Array,
    y_weight: Array,
    x_index: Array,
    x_weight: Array,
) -> None:
    """Resize by two taps a side, as `image_steps.blend_image`: down and then across.

    y_index: (tall, 2), x_index: (2, wide); y_weight: (tall,), x_weight: (wide,).
    """
    x, y = column(), line()
    if x >= width or y >= height:
        return
    down, across = y - top, x - left
    if is_border(down, across, tall, wide):
        border_at(out, y, x, height, width, colours)
        return
    start = picture(raw_size)
    upper = start + np.int32(y_index[2 * down] * pitch)
    lower = start + np.int32(y_index[2 * down + 1] * pitch)
    near, far = x_index[across], x_index[wide + across]
    share_y, share_x = y_weight[down], x_weight[across]
    for c in range(0, MADE, 4):
        p, q, s, t = pick(picks, c), pick(picks, c + 1), pick(picks, c + 2), pick(picks, c + 3)
        first = blended(raw, upper, lower, near + p, far + p, share_y, share_x)
        second = blended(raw, upper, lower, near + q, far + q, share_y, share_x)
        third = blended(raw, upper, lower, near + s, far + s, share_y, share_x)
        fourth = blended(raw, upper, lower, near + t, far + t, share_y, share_x)
        a = finished(first, c, colours, step, zero, low, high)
        b = finished(second, c + 1, colours, step, zero, low, high)
        d = finished(third, c + 2, colours, step, zero, low, high)
        e = finished(fourth, c + 3, colours, step, zero, low, high)
        store(out, y, x, c, height, width, a, b, d, e)


def grey_bytes(
    raw: Array,
    out: Array,
    height: Index,
    width: Index,
    first: Index,
    second: Index,
    third: Index,
    bits: Index,
) -> None:
    """Grey of colour, as `grey_steps.grey_bytes`; out: (rows, height, width)."""
    x, y = column(), line()
    if x < width and y < height:
        size, p = np.int32(height * width), np.int32(y * width + x)
        at = picture(np.int32(size * CHANNELS)) + np.int32(p * CHANNELS)
        total = np.int32(raw[at]) * first + np.int32(raw[at + 1]) * second
        total = total + np.int32(raw[at + 2]) * third
        out[picture(size) + p] = (total + (1 << (bits - 1))) >> bits


def grey_floats(
    raw: Array,
    out: Array,
    height: Index,
    width: Index,
    first: np.float32,
    second: np.float32,
    third: np.float32,
) -> None:
    """Grey of colour, as `grey_steps.grey_floats`; out: (rows, height, width)."""
    x, y = column(), line()
    if x < width and y < height:
        size, p = np.int32(height * width), np.int32(y * width + x)
        at = picture(np.int32(size * CHANNELS)) + np.int32(p * CHANNELS)
        total = np.float32(raw[at]) * first + np.float32(raw[at + 1]) * second
        out[picture(size) + p] = total + np.float32(raw[at + 2]) * third


def reorder_image(raw: Array, out: Array, height: Index, width: Index) -> None:
    """Pictures HWC to CHW, values of any datatype as they are; one thread a pixel."""
    x, y = column(), line()
    if x < width and y < height:
        for c in range(MADE):
            size = np.int32(height * width * MADE)
            at = picture(size) + np.int32((y * width + x) * MADE + c)
            out[place_of(y, x, c, height, width)] = raw[at]
