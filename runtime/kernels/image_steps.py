"""The kernels of images: resize, normalise, quantise and lay out in one pass over each picture.

Knows: a picture becomes planes of FP32, one row at a time, and each plane's row is finished into the
result. Rules: as `output_steps`: plain Python for numba, nothing allocated, nothing checked; FP32, each
operation rounded to nearest even, no fused multiply-add. Leaves to others: which kernel a pass needs, its
taps and its memory (`image_pass`), OpenCV's and Pillow's weights (`image_taps`).

Arguments that kernels share. raw: (rows, height, width * channels) UINT8 or FP32. out: (rows,
pixels * channels) of the result's datatype, each picture CHW or HWC. pixel: a tuple as long as raw
has channels, so that their number is a constant to the compiler. chw: None for HWC. frame: height
and width of the result; top, left, height and width of the box in it that is written. rounds,
levels: see `finish_line`. picks: (made,) INT64, the raw channel of each channel made; scale, shift:
(made,) FP32. planes: FP32, one row of each channel of raw, padded to whole lanes; line: FP32, four
lanes a pixel. What is None costs nothing: numba leaves out the branches that would use it.
"""

# ruff: noqa: PLR0917  numba calls take positions only
from typing import TypeAlias

import numpy as np

from appliance.tensors import Array
from runtime.kernels.compiled import inlined
from runtime.kernels.lanes import (
    FRACTION_BITS,
    LANES,
    blend_lanes,
    turn_lanes,
    weigh_bytes,
    weigh_lanes,
)

Frame: TypeAlias = tuple[int, int, int, int, int, int]
Single: TypeAlias = np.float32
Levels: TypeAlias = tuple[Single, Single, Single, Single]
Pixel: TypeAlias = tuple[int, ...]


@inlined
def finish_line(
    line: Array,
    into: Array,
    rounds: int | None,
    levels: Levels | None,
    scale: float,
    shift: float,
) -> None:
    """Into = quantised(rounded(line) * scale + shift).

    rounds: None, or 1 to round to UINT8 first, half to even and saturated. levels: None, or scale, zero
    point, lowest and highest value to quantise: round(x / scale) + zero point, half to even, saturated;
    NaN becomes the zero point.
    """
    for x in range(into.size):
        value = line[x]
        if rounds is not None:
            value = np.rint(value)
            value = max(value, np.float32(0.0))
            value = min(value, np.float32(255.0))
        value = value * scale + shift
        if levels is not None:
            step, zero, low, high = levels
            level = np.rint(value / step) + zero
            level = max(level, low)
            level = min(level, high)
            value = level if value == value else zero  # noqa: PLR0124  NaN alone differs from itself
        into[x] = value


@inlined
def finish_row(
    planes: Array,
    row: Array,
    y: int,
    frame: Frame,
    chw: int | None,
    rounds: int | None,
    levels: Levels | None,
    picks: Array,
    scale: Array,
    shift: Array,
) -> None:
    """Finish row `y` of the box into `row`, one picture of `out`."""
    height, width, top, left, _, wide = frame
    padded = -(-wide // LANES) * LANES
    for c in range(picks.size):
        line = planes[picks[c] * padded : picks[c] * padded + wide]
        if chw is None:
            start = ((top + y) * width + left) * picks.size + c
            end = start + (wide - 1) * picks.size + 1
            finish_line(line, row[start : end : picks.size], rounds, levels, scale[c], shift[c])
        else:
            start = (c * height + top + y) * width + left
            finish_line(line, row[start : start + wide], rounds, levels, scale[c], shift[c])


@inlined
def split_row(row: Array, pixel: Pixel, planes: Array, wide: int) -> None:
    """Each channel of a row of `wide` pixels to its plane."""
    padded = -(-wide // LANES) * LANES
    for c in range(len(pixel)):
        plane, first = planes[c * padded : c * padded + wide], row[c:]
        for x in range(wide):
            plane[x] = first[x * len(pixel)]


@inlined
def turn_line(line: Array, group: int, planes: Array, wide: int) -> None:
    """The channels from `group` on, four lanes a pixel, to their planes."""
    padded = -(-wide // LANES) * LANES
    for x in range(0, padded, LANES):
        turn_lanes(planes, group * padded + x, padded, line, x * LANES)


def place_image(
    raw: Array,
    out: Array,
    pixel: Pixel,
    frame: Frame,
    chw: int | None,
    rounds: int | None,
    levels: Levels | None,
    picks: Array,
    scale: Array,
    shift: Array,
    planes: Array,
    corner: tuple[int, int],
) -> None:
    """Pictures as large as they are; corner: top and left of the part of raw that fills the box."""
    tall, wide = frame[4], frame[5]
    first, last = corner[1] * len(pixel), (corner[1] + wide) * len(pixel)
    for r in range(raw.shape[0]):
        for y in range(tall):
            split_row(raw[r, corner[0] + y, first:last], pixel, planes, wide)
            finish_row(planes, out[r], y, frame, chw, rounds, levels, picks, scale, shift)


def blend_image(
    raw: Array,
    out: Array,
    pixel: Pixel,
    frame: Frame,
    chw: int | None,
    rounds: int | None,
    levels: Levels | None,
    picks: Array,
    scale: Array,
    shift: Array,
    planes: Array,
    line: Array,
    row: Array,
    y_low: Array,
    y_high: Array,
    y_weight: Array,
    x_low: Array,
    x_high: Array,
    x_weight: Array,
) -> None:
    """Resize by two taps a side: OpenCV's bilinear.

    row: FP32, one row of raw and three values more. With the taps of y and x: v = p[y0] + wy * (p[y1] -
    p[y0]), then h = v[x0] + wx * (v[x1] - v[x0]), then `finish_line`. With u = 2**-24 and M = max |raw|
    the error is at most 20 u (|scale| M + |shift|), underflow aside, if no difference of two pixels
    overflows.
    """
    channels, tall, wide = len(pixel), frame[4], frame[5]
    first, last = x_low[0], x_high[wide - 1] + np.uint64(channels)
    for r in range(raw.shape[0]):
        for y in range(tall):
            upper, lower = raw[r, y_low[y], first:last], raw[r, y_high[y], first:last]
            weight, part = y_weight[y], row[first:last]
            for i in range(part.size):
                above = np.float32(upper[i])
                part[i] = above + weight * (np.float32(lower[i]) - above)
            for group in range(0, channels, LANES):
                pixels = row[group:]
                for x in range(wide):
                    blend_lanes(line, x * LANES, pixels, x_low[x], x_high[x], x_weight[x])
                turn_line(line, group, planes, wide)
            finish_row(planes, out[r], y, frame, chw, rounds, levels, picks, scale, shift)


@inlined
def weigh_rows(raw: Array, rows: Array, weight: Array, into: Array, first: int, last: int) -> None:
    """into[first:last] = the sum of weight[k] * raw[rows[k]], four taps at a time; FP32."""
    part = into[first:last]
    for k in range(0, rows.size, 4):
        count = min(rows.size - k, 4)
        a, b = raw[rows[k], first:last], raw[rows[k + min(1, count - 1)], first:last]
        c = raw[rows[k + min(2, count - 1)], first:last]
        d = raw[rows[k + min(3, count - 1)], first:last]
        wa, wb = weight[k], weight[k + 1] if count > 1 else np.float32(0.0)
        wc = weight[k + 2] if count > 2 else np.float32(0.0)
        wd = weight[k + 3] if count > 3 else np.float32(0.0)
        if k == 0 and count == 1:
            for i in range(part.size):
                part[i] = wa * np.float32(a[i])
        elif k == 0:
            for i in range(part.size):
                part[i] = (wa * np.float32(a[i]) + wb * np.float32(b[i])) + (
                    wc * np.float32(c[i]) + wd * np.float32(d[i])
                )
        else:
            for i in range(part.size):
                part[i] += (wa * np.float32(a[i]) + wb * np.float32(b[i])) + (
                    wc * np.float32(c[i]) + wd * np.float32(d[i])
                )


def weigh_image(
    raw: Array,
    out: Array,
    pixel: Pixel,
    frame: Frame,
    chw: int | None,
    rounds: int | None,
    levels: Levels | None,
    picks: Array,
    scale: Array,
    shift: Array,
    planes: Array,
    line: Array,
    row: Array,
    y_index: Array,
    y_weight: Array,
    x_index: Array,
    x_weight: Array,
    span: tuple[int, int],
    taps: tuple[int, ...] | None,
    pair: Pixel | None,
) -> None:
    """Resize by any number of taps a side, down and then across.

    row: as `blend_image`, 16 values more for a pair; indices: (new, taps); taps, pair and what they say
    of x_index and x_weight: as `weigh_lanes`; span: the first value of a raw row that a tap points to
    and the one after the last. With g = the largest sum of |weight| of
    a side, u = 2**-24 and M = max |raw| the error is at most (4 taps + 16) u (|scale| g**2 M +
    |shift|), taps those of both sides.
    """
    channels, tall, wide = len(pixel), frame[4], frame[5]
    for r in range(raw.shape[0]):
        for y in range(tall):
            weigh_rows(raw[r], y_index[y], y_weight[y], row, span[0], span[1])
            for group in range(0, channels, LANES):
                pixels = row[group:]
                for x in range(wide):
                    weigh_lanes(line, x * LANES, pixels, x_index, x_weight, x, taps, pair)
                turn_line(line, group, planes, wide)
            finish_row(planes, out[r], y, frame, chw, rounds, levels, picks, scale, shift)


def convolve_image(
    raw: Array,
    out: Array,
    pixel: Pixel,
    frame: Frame,
    chw: int | None,
    rounds: int | None,
    levels: Levels | None,
    picks: Array,
    scale: Array,
    shift: Array,
    planes: Array,
    line: Array,
    row: Array,
    y_index: Array,
    y_weight: Array,
    x_index: Array,
    x_weight: Array,
    span: tuple[int, int],
    across: Array,
    sums: Array,
) -> None:
    """Resize UINT8 as Pillow does, to the bit: across and then down, each rounded to UINT8.

    row: UINT8, as `blend_image`; weights: INT32 with 22 bits of fraction; span: the first raw row that a
    tap points to and the one after the last. across: UINT8, for each four channels the rows of the span,
    four lanes a new pixel; sums: INT32, one such row.
    """
    channels, tall, wide = len(pixel), frame[4], frame[5]
    rows, size = span[1] - span[0], wide * LANES
    for r in range(raw.shape[0]):
        for y in range(rows):
            copy_row(raw[r, span[0] + y], row)
            for group in range(0, channels, LANES):
                start = (group // LANES * rows + y) * size
                made, pixels = across[start : start + size], row[group:]
                for x in range(wide):
                    weigh_bytes(made, x * LANES, pixels, x_index, x_weight, x)
        for y in range(tall):
            for group in range(0, channels, LANES):
                for i in range(size):
                    sums[i] = 1 << (FRACTION_BITS - 1)
                for k in range(y_index.shape[1]):
                    if y_weight[y, k] != 0:
                        at = group // LANES * rows + np.int64(y_index[y, k]) - span[0]
                        add_bytes(sums, across[at * size : at * size + size], y_weight[y, k])
                settle(sums, line, size)
                turn_line(line, group, planes, wide)
            finish_row(planes, out[r], y, frame, chw, rounds, levels, picks, scale, shift)


@inlined
def copy_row(row: Array, into: Array) -> None:
    """The first values of `into` = row."""
    for i in range(row.size):
        into[i] = row[i]


@inlined
def settle(sums: Array, line: Array, size: int) -> None:
    """Line = the whole part of the fixed-point sums, clipped to UINT8."""
    for i in range(size):
        value = sums[i] >> FRACTION_BITS
        value = max(value, 0)
        line[i] = min(value, 255)


@inlined
def add_bytes(sums: Array, row: Array, weight: int) -> None:
    """Sums += weight * row, INT32."""
    for i in range(row.size):
        sums[i] += weight * row[i]
