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
from typing import Final

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
SUPPORT: Final = {TRIANGLE: 1.0, SOFT_CUBIC: 2.0, LANCZOS: 3.0}  # of Pillow's filters
OPENCV_SLOPE, PILLOW_SLOPE = -0.75, -0.5  # the cubic's `a`
FIXED_ONE = float(1 << FRACTION_BITS)


def method_of(step: Resize) -> int | None:
    """Which of the methods above `step` uses; None for OpenCV's bilinear, which has taps of its own."""
    return METHODS.get((step.method, step.like))


def taps_most(method: int, length: int, size: int) -> int:
    """The most taps that any of `size` pixels made of `length` has."""
    if method in (NEAREST, NEAREST_CENTRE):
        return 1
    if method == CUBIC:
        return 4
    if method == AREA:
        return length // size + 2
    return math.ceil(SUPPORT[method] * max(length / size, 1.0)) * 2 + 1


def blend_taps(
    axis: tuple[int, int, int, int, int], low: Array, high: Array, weight: Array
) -> None:
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


def weigh_taps(
    method: int,
    support: float,
    axis: tuple[int, int, int, int, int],
    index: Array,
    weight: Array,
    fixed: Array,
    exact: Array,
) -> None:
    """The taps of each new pixel by any other method.

    axis: as `blend_taps`; support: the filter's half width, for Pillow's. index: (wanted, taps) UINT64
    from the beginning and times the stride. weight: the same FP32; fixed: the same INT32 with 22 bits of
    fraction, rounded half away from 0. exact: (taps,) FP64, scratch.
    """
    start, length, size, first, stride = axis
    scale = length / size
    walked = scale * 0.5  # Pillow adds the scale once a pixel
    for i in range(first + index.shape[0]):
        if i >= first:
            exact[:] = 0.0
            if method == NEAREST:
                begin = min(math.floor(i * (1.0 / (size / length))), length - 1)
                exact[0] = 1.0
            elif method == NEAREST_CENTRE:
                begin = min(int(walked), length - 1)
                exact[0] = 1.0
            elif method == CUBIC:
                begin = cubic_weights((i + 0.5) * scale - 0.5, exact)
            elif method == AREA:
                begin = area_weights(i * scale, (i + 1) * scale, length, exact)
            else:
                begin = filter_weights(method, support, i, scale, length, exact)
            spread(begin, exact, (start, length, stride), index[i - first])
            for k in range(exact.size):
                weight[i - first, k] = np.float32(exact[k])
                half = -0.5 if exact[k] < 0.0 else 0.5
                fixed[i - first, k] = int(half + exact[k] * FIXED_ONE)
        walked += scale


@inlined
def spread(begin: int, exact: Array, axis: tuple[int, int, int], index: Array) -> None:
    """Where the taps from `begin` on point, repeated at the borders; axis: start, length, stride."""
    start, length, stride = axis
    heaviest = 0
    for k in range(1, exact.size):
        if abs(exact[k]) > abs(exact[heaviest]):
            heaviest = k
    for k in range(exact.size):
        used = heaviest if exact[k] == 0.0 else k
        index[k] = (start + min(max(begin + used, 0), length - 1)) * stride


@inlined
def cubic_weights(at: float, exact: Array) -> int:
    """OpenCV's interpolateCubic; returns the first tap's pixel."""
    below = math.floor(at)
    x, a = at - below, OPENCV_SLOPE
    exact[0] = ((a * (x + 1.0) - 5.0 * a) * (x + 1.0) + 8.0 * a) * (x + 1.0) - 4.0 * a
    exact[1] = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    exact[2] = ((a + 2.0) * (1.0 - x) - (a + 3.0)) * (1.0 - x) * (1.0 - x) + 1.0
    exact[3] = 1.0 - exact[0] - exact[1] - exact[2]
    return int(below) - 1


@inlined
def area_weights(low: float, high: float, length: int, exact: Array) -> int:
    """Each pixel's share of the cell from `low` to `high`; returns the first tap's pixel."""
    begin = min(math.floor(low), length - 1)
    for k in range(exact.size):
        share = min(high, begin + k + 1.0) - max(low, begin + k)
        if begin + k < length and share > 1e-9 * (high - low):
            exact[k] = share / (high - low)
    return begin


@inlined
def filter_weights(
    method: int, support: float, i: int, scale: float, length: int, exact: Array
) -> int:
    """Pillow's precompute_coeffs for pixel `i`; returns the first tap's pixel."""
    widened = max(scale, 1.0)
    reach, centre = support * widened, (i + 0.5) * scale
    begin = max(int(centre - reach + 0.5), 0)
    count = min(int(centre + reach + 0.5), length) - begin
    total = 0.0
    for k in range(count):
        exact[k] = filtered(method, (k + begin - centre + 0.5) * (1.0 / widened))
        total += exact[k]
    if total != 0.0:
        for k in range(count):
            exact[k] /= total
    return begin


@inlined
def filtered(method: int, x: float) -> float:
    """Pillow's bilinear_filter, bicubic_filter and lanczos_filter."""
    if method == LANCZOS:
        return sinc(x) * sinc(x / 3.0) if -3.0 <= x < 3.0 else 0.0
    x = abs(x)
    if method == TRIANGLE:
        return 1.0 - x if x < 1.0 else 0.0
    if x < 1.0:
        return ((PILLOW_SLOPE + 2.0) * x - (PILLOW_SLOPE + 3.0)) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * PILLOW_SLOPE
    return 0.0


@inlined
def sinc(x: float) -> float:
    """sin(pi x) / (pi x)."""
    if x == 0.0:
        return 1.0
    return math.sin(x * math.pi) / (x * math.pi)
