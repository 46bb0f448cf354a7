"""Taps: which old pixels make a new one along one axis, and with what weights.

Knows: each method of `appliance.recipe.Resize`, as OpenCV and as Pillow compute it. Rules: positions and
weights are FP64, rounded once at the end; a tap that weighs nothing points to a pixel that weighs
something, so that a pixel that counts for nothing cannot spread NaN; indices are UINT64, which spares the
loops that use them a test for negative positions. Leaves to others: applying them (`image_steps`).

Sources: OpenCV's resize.cpp; Pillow's Resample.c (precompute_coeffs, normalize_coeffs_8bpc) and Geometry.c
(ImagingScaleAffine).
"""

# ruff: noqa: PLR0917  numba calls take positions only
import math
from typing import Final, TypeAlias

import numpy as np

from appliance.recipe import Resize
from appliance.tensors import Array
from runtime.kernels.compiled import inlined
from runtime.kernels.lanes import FRACTION_BITS

NEAREST, NEAREST_CENTRE, CUBIC, AREA, TRIANGLE, SOFT_CUBIC, LANCZOS = range(7)
METHODS: Final = {
    ("nearest", "opencv"): NEAREST,
    ("bicubic", "opencv"): CUBIC,
    ("area", "opencv"): AREA,
    ("nearest", "pillow"): NEAREST_CENTRE,
    ("bilinear", "pillow"): TRIANGLE,
    ("bicubic", "pillow"): SOFT_CUBIC,
    ("lanczos", "pillow"): LANCZOS,
}
TAPS_FIXED: Final = {NEAREST: 1, NEAREST_CENTRE: 1, CUBIC: 4}  # whatever the sizes
SUPPORT: Final = {TRIANGLE: 1.0, SOFT_CUBIC: 2.0, LANCZOS: 3.0}  # of Pillow's filters
OPENCV_SLOPE, PILLOW_SLOPE = -0.75, -0.5  # the cubic's `a`
FIXED_ONE = float(1 << FRACTION_BITS)
SHARE_LEAST = 1e-9  # of a cell: less is the rounding of its edges

Axis: TypeAlias = tuple[int, int, int, int, int]


def method_of(step: Resize) -> int | None:
    """Which of the methods above `step` uses; None for OpenCV's bilinear, which has taps of its own."""
    return METHODS.get((step.method, step.like))


def taps_most(method: int, length: int, size: int) -> int:
    """The most taps that any of `size` pixels made of `length` has."""
    if method in TAPS_FIXED:
        return TAPS_FIXED[method]
    if method == AREA:
        return length // size + 2
    return math.ceil(SUPPORT[method] * max(length / size, 1.0)) * 2 + 1


def blend_taps(axis: Axis, low: Array, high: Array, weight: Array) -> None:
    """Between which two pixels each new one lies, as OpenCV's INTER_LINEAR.

    axis: pixels before the first, pixels, new pixels in all, the first new one wanted, stride. low, high:
    (wanted,) UINT64; weight: (wanted,) FP32. at = (i + 0.5) * length / size - 0.5, clamped to
    [0, length - 1]; low = floor(at), high = low + 1, both from the beginning and times the stride;
    weight = at - low. Where the weight is 0 high is low.
    """
    start, length, size, first, stride = axis
    for i in range(low.size):
        at = min(max((first + i + 0.5) * length / size - 0.5, 0.0), length - 1.0)
        below = int(at)
        weight[i] = np.float32(at - below)
        low[i] = (start + below) * stride
        high[i] = (start + below + (0 if weight[i] == 0.0 else 1)) * stride


def nearest_taps(
    method: int, axis: Axis, index: Array, weight: Array, fixed: Array, exact: Array
) -> None:
    """One tap a pixel, like OpenCV or like Pillow.

    Arguments of this and of the next three. axis: as `blend_taps`. index: (wanted, taps) UINT64
    from the beginning and times the stride. weight: the same FP32; fixed: the same INT32 with 22
    bits of fraction, rounded half away from 0. exact: (taps,) FP64, scratch.
    """
    length, size, first = axis[1], axis[2], axis[3]
    scale = length / size
    walked = scale * 0.5  # Pillow adds the scale once a pixel
    for i in range(first + index.shape[0]):
        if i >= first:
            at = walked if method == NEAREST_CENTRE else math.floor(i * (1.0 / (size / length)))
            exact[0] = 1.0
            keep(min(int(at), length - 1), exact, axis, index, weight, fixed, i - first)
        walked += scale


def cubic_taps(
    method: int,  # noqa: ARG001
    axis: Axis,
    index: Array,
    weight: Array,
    fixed: Array,
    exact: Array,
) -> None:
    """Four taps a pixel, as OpenCV's interpolateCubic."""
    a = OPENCV_SLOPE
    for i in range(index.shape[0]):
        at = (axis[3] + i + 0.5) * (axis[1] / axis[2]) - 0.5
        below = math.floor(at)
        x = at - below
        exact[0] = ((a * (x + 1.0) - 5.0 * a) * (x + 1.0) + 8.0 * a) * (x + 1.0) - 4.0 * a
        exact[1] = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
        exact[2] = ((a + 2.0) * (1.0 - x) - (a + 3.0)) * (1.0 - x) * (1.0 - x) + 1.0
        exact[3] = 1.0 - exact[0] - exact[1] - exact[2]
        keep(below - 1, exact, axis, index, weight, fixed, i)


def area_taps(
    method: int,  # noqa: ARG001
    axis: Axis,
    index: Array,
    weight: Array,
    fixed: Array,
    exact: Array,
) -> None:
    """Each old pixel's share of a new one's cell."""
    length, scale = axis[1], axis[1] / axis[2]
    for i in range(index.shape[0]):
        low, high = (axis[3] + i) * scale, (axis[3] + i + 1) * scale
        begin = min(math.floor(low), length - 1)
        for k in range(exact.size):
            share = (min(high, begin + k + 1.0) - max(low, begin + k)) / scale
            exact[k] = share if begin + k < length and share > SHARE_LEAST else 0.0
        keep(begin, exact, axis, index, weight, fixed, i)


def filter_taps(
    method: int, axis: Axis, index: Array, weight: Array, fixed: Array, exact: Array
) -> None:
    """Pillow's filters, as its precompute_coeffs."""
    length, scale = axis[1], axis[1] / axis[2]
    widened = max(scale, 1.0)
    reach = (3.0 if method == LANCZOS else 2.0 if method == SOFT_CUBIC else 1.0) * widened
    for i in range(index.shape[0]):
        centre = (axis[3] + i + 0.5) * scale
        begin = max(int(centre - reach + 0.5), 0)
        count = min(int(centre + reach + 0.5), length) - begin
        total = 0.0
        for k in range(exact.size):
            exact[k] = 0.0
            if k < count:
                exact[k] = filtered(method, (k + begin - centre + 0.5) * (1.0 / widened))
                total += exact[k]
        for k in range(exact.size):
            exact[k] = exact[k] / total if total != 0.0 else exact[k]
        keep(begin, exact, axis, index, weight, fixed, i)


@inlined
def keep(
    begin: int, exact: Array, axis: Axis, index: Array, weight: Array, fixed: Array, i: int
) -> None:
    """Write new pixel `i`'s taps, whose first is the old pixel `begin`, repeated at the borders."""
    start, length, stride = axis[0], axis[1], axis[4]
    heaviest = 0
    for k in range(1, exact.size):
        if abs(exact[k]) > abs(exact[heaviest]):
            heaviest = k
    for k in range(exact.size):
        used = heaviest if exact[k] == 0.0 else k
        index[i, k] = (start + min(max(begin + used, 0), length - 1)) * stride
        weight[i, k] = np.float32(exact[k])
        fixed[i, k] = int((-0.5 if exact[k] < 0.0 else 0.5) + exact[k] * FIXED_ONE)


def pair_taps(axis: Axis, index: Array, weight: Array, low: Array, pairs: Array) -> None:
    """Four taps a pixel as weights of four adjoining pixels, for rows without NaN and infinity.

    index, weight: (wanted, 4) of the methods above. low: (wanted, 1) UINT64, the first of the four pixels.
    pairs: (wanted, 16) FP32, for each of a pixel's channels the weight of pixel 0, then of pixel 1,
    to 8 values, then the same of pixels 2 and 3. Taps that share a pixel at the border add up.
    """
    start, length, stride = axis[0], axis[1], axis[4]
    latest = (start + max(length - 4, 0)) * stride
    for i in range(index.shape[0]):
        begin = np.int64(latest)
        for k in range(4):
            begin = min(begin, np.int64(index[i, k]))
        low[i, 0] = begin
        pairs[i, :] = 0.0
        for k in range(4):
            pixel = (np.int64(index[i, k]) - begin) // stride
            for c in range(stride):
                pairs[i, pixel // 2 * 8 + pixel % 2 * stride + c] += weight[i, k]


@inlined
def filtered(method: int, x: float) -> float:
    """Pillow's bilinear_filter, bicubic_filter and lanczos_filter."""
    if method == LANCZOS:
        if x == 0.0 or not -3.0 <= x < 3.0:
            return 1.0 if x == 0.0 else 0.0
        whole, third = x * math.pi, x / 3.0 * math.pi
        return math.sin(whole) / whole * (math.sin(third) / third)
    x = abs(x)
    if method == TRIANGLE:
        return 1.0 - x if x < 1.0 else 0.0
    if x < 1.0:
        return ((PILLOW_SLOPE + 2.0) * x - (PILLOW_SLOPE + 3.0)) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * PILLOW_SLOPE
    return 0.0


TAPS: Final = {
    NEAREST: nearest_taps,
    NEAREST_CENTRE: nearest_taps,
    CUBIC: cubic_taps,
    AREA: area_taps,
    TRIANGLE: filter_taps,
    SOFT_CUBIC: filter_taps,
    LANCZOS: filter_taps,
}
