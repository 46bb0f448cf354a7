"""Kernels of images on a GPU that sum more than two taps a side: cubic, area and the filters.

Knows: the arithmetic of `image_steps`, operation by operation and in its order, Pillow's fixed point included. Rules: as
`image_kernels`; one and four taps a side are summed where the pixel is made; a filter, whose taps grow with the
picture, goes one way into scratch and then the other, so that its work grows with the taps and not with their
square. Leaves to others: taps (`image_tables`), the arguments that kernels share (`image_pixels`).

Bytes that must move for a pixel of the result besides those of `image_kernels`: the two kernels of a filter write and read what
lies between them, 6 bytes (UINT8) for each new column of an old row, or 24 (FP32) for each old column of a new row.
"""

# ruff: noqa: PLR0917  kernels take positions only
from typing import Final

import numpy as np

from appliance.tensors import Array
from runtime.kernels.cuda import gpu
from runtime.kernels.cuda.image_pixels import (
    CHANNELS,
    MADE,
    NOTHING,
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
from runtime.kernels.lanes import FRACTION_BITS

TAPS = 4  # of `weigh_image`, the same both ways; this and the next are bound for each kernel
PAIRED = 0  # whether `weigh_image` sums across as `lanes.weigh_lanes` does of a pair

HALF: Final = np.int32(1 << (FRACTION_BITS - 1))


def summed_down(
    raw: Array, start: Index, pitch: Index, index: Array, weight: Array, at: Index, taps: Index
) -> np.float32:
    """As `image_steps.weigh_rows`: one value of each row that `index` names from `at` on, four at a time."""
    if taps == 1:
        return weight[at] * np.float32(raw[start + np.int32(index[at] * pitch)])  # type: ignore[return-value]
    total: np.float32 = NOTHING
    for k in range(at, at + taps, 4):
        a = weight[k] * np.float32(raw[start + np.int32(index[k] * pitch)])
        b = weight[k + 1] * np.float32(raw[start + np.int32(index[k + 1] * pitch)])
        c = weight[k + 2] * np.float32(raw[start + np.int32(index[k + 2] * pitch)])
        d = weight[k + 3] * np.float32(raw[start + np.int32(index[k + 3] * pitch)])
        four = (a + b) + (c + d)
        total = four if k == at else total + four
    return total


def weighed(
    raw: Array,
    start: Index,
    pitch: Index,
    down: Index,
    across: Index,
    wide: Index,
    y_index: Array,
    y_weight: Array,
    x_index: Array,
    x_weight: Array,
) -> np.float32:
    """One or four taps a side, down and then across."""
    total, other = NOTHING, NOTHING
    for k in range(TAPS):
        at = across + k * wide
        value = summed_down(raw, start + x_index[at], pitch, y_index, y_weight, down * TAPS, TAPS)
        value = x_weight[at] * value
        if PAIRED and k % 2 == 1:
            other = value if k == 1 else other + value
        else:
            total = value if PAIRED and k == 0 else total + value
    return total + other if PAIRED else total


def weigh_image(
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
    """Resize by TAPS taps a side, as `image_steps.weigh_image`; tables: (tall, TAPS), (TAPS, wide)."""
    x, y = column(), line()
    if x >= width or y >= height:
        return
    down, across = y - top, x - left
    if is_border(down, across, tall, wide):
        border_at(out, y, x, height, width, colours)
        return
    start = picture(raw_size)
    for c in range(MADE):
        at = start + picks[c]
        value = weighed(raw, at, pitch, down, across, wide, y_index, y_weight, x_index, x_weight)
        value = finished(value, c, colours, step, zero, low, high)
        out[place_of(y, x, c, height, width)] = value


def weigh_down(
    raw: Array,
    sums: Array,
    raw_size: Index,
    pitch: Index,
    first: Index,
    span: Index,
    tall: Index,
    taps: Index,
    y_index: Array,
    y_weight: Array,
) -> None:
    """The first half of a filter in FP32: `span` values of each raw row from `first` on, summed down.

    sums: (rows, tall, span) FP32; taps: a multiple of four; y_index, y_weight: (tall, taps).
    """
    x, y = column(), line()
    if x < span and y < tall:
        start = picture(raw_size) + np.int32(first + x)
        value = summed_down(raw, start, pitch, y_index, y_weight, np.int32(y * taps), taps)
        sums[picture(np.int32(tall * span)) + np.int32(y * span + x)] = value


def weigh_across(
    sums: Array,
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
    span: Index,
    taps: Index,
    x_index: Array,
    x_weight: Array,
) -> None:
    """The second half: sums across; x_index, x_weight: (taps, wide), counted from the first value of `sums`."""
    x, y = column(), line()
    if x >= width or y >= height:
        return
    down, across = y - top, x - left
    if is_border(down, across, tall, wide):
        border_at(out, y, x, height, width, colours)
        return
    start = picture(np.int32(tall * span)) + np.int32(down * span)
    for c in range(0, MADE, 4):
        p, q, s, t = pick(picks, c), pick(picks, c + 1), pick(picks, c + 2), pick(picks, c + 3)
        first, second, third, fourth = NOTHING, NOTHING, NOTHING, NOTHING
        for k in range(taps):
            place = np.int32(k * wide + across)
            weight, at = x_weight[place], start + x_index[place]
            first = first + weight * sums[at + p]
            if c + 1 < MADE:
                second = second + weight * sums[at + q]
            if c + 2 < MADE:
                third = third + weight * sums[at + s]
            if c + 3 < MADE:
                fourth = fourth + weight * sums[at + t]
        a = finished(first, c, colours, step, zero, low, high)
        b = finished(second, c + 1, colours, step, zero, low, high)
        d = finished(third, c + 2, colours, step, zero, low, high)
        e = finished(fourth, c + 3, colours, step, zero, low, high)
        store(out, y, x, c, height, width, a, b, d, e)


def settled(total: Index) -> Index:
    """The whole part of a fixed-point sum, clipped to UINT8."""
    return min(max(np.int32(total >> FRACTION_BITS), np.int32(0)), np.int32(255))


def convolve_across(
    raw: Array,
    made: Array,
    raw_size: Index,
    pitch: Index,
    first_row: Index,
    rows: Index,
    wide: Index,
    taps: Index,
    x_index: Array,
    x_weight: Array,
) -> None:
    """The first half of a filter in Pillow's fixed point: `rows` rows from `first_row` on, summed across.

    made: (pictures, CHANNELS, rows, wide) UINT8; x_index, x_weight: (taps, wide), weights INT32.
    """
    x, y = column(), line()
    if x >= wide or y >= rows:
        return
    row = picture(raw_size) + np.int32((first_row + y) * pitch)
    size = np.int32(rows * wide)
    to = picture(np.int32(CHANNELS * size)) + np.int32(y * wide + x)
    for c in range(0, CHANNELS, 4):
        first, second, third, fourth = HALF, HALF, HALF, HALF
        for k in range(taps):
            place = np.int32(k * wide + x)
            weight, at = x_weight[place], row + x_index[place] + c
            first = np.int32(first + weight * np.int32(raw[at]))
            if c + 1 < CHANNELS:
                second = np.int32(second + weight * np.int32(raw[at + 1]))
            if c + 2 < CHANNELS:
                third = np.int32(third + weight * np.int32(raw[at + 2]))
            if c + 3 < CHANNELS:
                fourth = np.int32(fourth + weight * np.int32(raw[at + 3]))
        made[to + np.int32(c * size)] = settled(first)
        if c + 1 < CHANNELS:
            made[to + np.int32((c + 1) * size)] = settled(second)
        if c + 2 < CHANNELS:
            made[to + np.int32((c + 2) * size)] = settled(third)
        if c + 3 < CHANNELS:
            made[to + np.int32((c + 3) * size)] = settled(fourth)


def convolve_words(
    words: Array,
    made: Array,
    raw_size: Index,
    pitch: Index,
    first_row: Index,
    rows: Index,
    wide: Index,
    fours: Index,
    x_index: Array,
    x_weight: Array,
) -> None:
    """As `convolve_across`, of three channels whose bytes are read four at a time: a third of the reads.

    words: what `raw` is, as UINT32; x_index: (wide,), where a new pixel's taps begin, side by side; x_weight:
    (4 * fours, wide) INT32. What lies behind the last word of all pictures is not read.
    """
    x, y = column(), line()
    if x >= wide or y >= rows:
        return
    at = picture(raw_size) + np.int32((first_row + y) * pitch) + x_index[x]
    word, shift = at >> 2, (at & 3) * 8
    last = ((gpu.gridDim.z * raw_size + 3) >> 2) - 1
    first, second, third = HALF, HALF, HALF
    low = np.int64(words[min(word, last)])
    for four in range(fours):
        place = np.int32(4 * four * wide + x)
        a, b = x_weight[place], x_weight[place + wide]
        c, d = x_weight[place + 2 * wide], x_weight[place + 3 * wide]
        middle = np.int64(words[min(word + 1, last)])
        high = np.int64(words[min(word + 2, last)])
        after = np.int64(words[min(word + 3, last)])
        p = np.int32(((middle << 32) | low) >> shift)
        q = np.int32(((high << 32) | middle) >> shift)
        s = np.int32(((after << 32) | high) >> shift)
        one, two = byte(p, 0) * a + byte(p, 24) * b, byte(q, 16) * c + byte(s, 8) * d
        first = np.int32(first + one + two)
        one, two = byte(p, 8) * a + byte(q, 0) * b, byte(q, 24) * c + byte(s, 16) * d
        second = np.int32(second + one + two)
        one, two = byte(p, 16) * a + byte(q, 8) * b, byte(s, 0) * c + byte(s, 24) * d
        third = np.int32(third + one + two)
        low, word = after, word + 3
    size = np.int32(rows * wide)
    to = picture(np.int32(CHANNELS * size)) + np.int32(y * wide + x)
    made[to] = settled(first)
    made[to + size] = settled(second)
    made[to + 2 * size] = settled(third)


def byte(word: Index, by: Index) -> Index:
    """A byte of a word, which lies so many bits from its low end."""
    return np.int32((word >> by) & 255)


def convolve_down(
    made: Array,
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
    rows: Index,
    taps: Index,
    y_index: Array,
    y_weight: Array,
) -> None:
    """The second half: summed down; y_index, y_weight: (tall, taps), counted from the first row of `made`."""
    x, y = column(), line()
    if x >= width or y >= height:
        return
    down, across = y - top, x - left
    if is_border(down, across, tall, wide):
        border_at(out, y, x, height, width, colours)
        return
    size = np.int32(rows * wide)
    start = picture(np.int32(CHANNELS * size)) + across
    for c in range(0, MADE, 4):
        p, q = np.int32(pick(picks, c) * size), np.int32(pick(picks, c + 1) * size)
        s, t = np.int32(pick(picks, c + 2) * size), np.int32(pick(picks, c + 3) * size)
        first, second, third, fourth = HALF, HALF, HALF, HALF
        for k in range(np.int32(down * taps), np.int32(down * taps + taps)):
            weight, at = y_weight[k], start + np.int32(y_index[k] * wide)
            first = np.int32(first + weight * np.int32(made[at + p]))
            if c + 1 < MADE:
                second = np.int32(second + weight * np.int32(made[at + q]))
            if c + 2 < MADE:
                third = np.int32(third + weight * np.int32(made[at + s]))
            if c + 3 < MADE:
                fourth = np.int32(fourth + weight * np.int32(made[at + t]))
        a = finished(np.float32(settled(first)), c, colours, step, zero, low, high)
        b = finished(np.float32(settled(second)), c + 1, colours, step, zero, low, high)
        d = finished(np.float32(settled(third)), c + 2, colours, step, zero, low, high)
        e = finished(np.float32(settled(fourth)), c + 3, colours, step, zero, low, high)
        store(out, y, x, c, height, width, a, b, d, e)
