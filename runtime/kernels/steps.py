"""The kernels: what each recipe step computes, to the rounding.

Knows: arrays in, arrays out, one pass each. Rules: plain Python in the part of it that numba compiles;
FP32 arithmetic, each operation rounded to nearest even, unless a docstring says otherwise; nothing is
allocated but one row of pixels and its taps; shapes are right when a kernel is called, nothing is checked
in here. Leaves to others: checking shapes and choosing kernels (`images`, `tables`, `after`) and
compiling (`compiled`).
"""

# ruff: noqa: PLR0917, FBT001  numba calls take positions only
import math

import numpy as np

from appliance.tensors import Array
from runtime.kernels.compiled import inlined

FILL, STANDARDISE, EQUALS = 0, 1, 2


@inlined
def taps(count: int, length: int, stride: int, low: Array, high: Array, weight: Array) -> None:
    """Find between which two of `length` samples each of `count` new samples lies.

    Half-pixel centres (OpenCV's INTER_LINEAR): at = (i + 0.5) * length / count - 0.5 in FP64, clamped to
    [0, length - 1]; low = floor(at) and high = low + 1, both times `stride`; weight = at - low, rounded to
    FP32. Where the weight is 0 high is low, so that a pixel that counts for nothing cannot spread NaN.
    `low` and `high` are UINT64, which spares the loops that use them a test for negative positions.
    """
    for i in range(count):
        at = min(max((i + 0.5) * length / count - 0.5, 0.0), length - 1.0)
        below = int(at)
        weight[i] = np.float32(at - below)
        low[i] = below * stride
        high[i] = (below if weight[i] == 0.0 else below + 1) * stride


@inlined
def blend_rows(upper: Array, lower: Array, weight: float, into: Array) -> None:
    """Over one row of pixels: into = upper + weight * (lower - upper), FP32."""
    for i in range(into.size):
        first = np.float32(upper[i])
        into[i] = first + weight * (np.float32(lower[i]) - first)


@inlined
def sample_row(
    row: Array, low: Array, high: Array, weight: Array, scale: float, shift: float, into: Array
) -> None:
    """Of one channel: into = (row[low] + weight * (row[high] - row[low])) * scale + shift, FP32."""
    for i in range(low.size):
        first = row[low[i]]
        into[i] = (first + weight[i] * (row[high[i]] - first)) * scale + shift


def resize_image(
    raw: Array,
    out: Array,
    channels: int,
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    scale: Array,
    shift: Array,
    chw: bool,
) -> None:
    """Resize, normalise and lay out images in one pass.

    raw: (rows, height, width * channels) UINT8 or FP32. out: (rows, size[0] * size[1] * channels) FP32,
    each image CHW when `chw`, else HWC; only the box (top, left, height, width) of it is written.
    scale, shift: (channels,) FP32.

    With the taps of y and x: v = p[y0] + wy * (p[y1] - p[y0]), then h = v[x0] + wx * (v[x1] - v[x0]), then
    out = h * scale[c] + shift[c]. FP32, no fused multiply-add, so with u = 2**-24 and M = max |raw| the error
    is at most 20 u (|scale| M + |shift|), underflow aside, if no difference of two pixels overflows.
    """
    rows, length, row_size = raw.shape
    top, left, height, width = box
    y_low, y_high = np.empty(height, np.uint64), np.empty(height, np.uint64)
    x_low, x_high = np.empty(width, np.uint64), np.empty(width, np.uint64)
    y_weight, x_weight = np.empty(height, np.float32), np.empty(width, np.float32)
    taps(height, length, 1, y_low, y_high, y_weight)
    taps(width, row_size // channels, channels, x_low, x_high, x_weight)
    row = np.empty(row_size, np.float32)
    for r in range(rows):
        for y in range(height):
            blend_rows(raw[r, y_low[y]], raw[r, y_high[y]], y_weight[y], row)
            for c in range(channels):
                if chw:
                    start, step = (c * size[0] + top + y) * size[1] + left, 1
                else:
                    start, step = ((top + y) * size[1] + left) * channels + c, channels
                into = out[r, start : start + width * step : step]
                sample_row(row[c:], x_low, x_high, x_weight, scale[c], shift[c], into)


def normalise_image(
    raw: Array,
    out: Array,
    scale: Array,
    shift: Array,
    chw: bool,
) -> None:
    """Normalise and lay out images in one pass: out = raw * scale[c] + shift[c], FP32.

    raw: (rows, pixels, channels) UINT8 or FP32. out: (rows, pixels * channels) FP32, each image CHW when
    `chw`, else HWC. scale, shift: (channels,) FP32. Error at most 4 u (|scale raw| + |shift|), u = 2**-24.
    """
    rows, pixels, channels = raw.shape
    for r in range(rows):
        for c in range(channels):
            start, step = (c * pixels, 1) if chw else (c, channels)
            into = out[r, start : start + (pixels - 1) * step + 1 : step]
            for p in range(pixels):
                into[p] = np.float32(raw[r, p, c]) * scale[c] + shift[c]


def run_table(
    raw: Array,
    out: Array,
    source: Array,
    first: Array,
    operation: Array,
    left: Array,
    right: Array,
) -> None:
    """Make each output column by its own short program.

    raw: (rows, raw columns) FP32. out: (rows, columns) FP32. Column j starts as raw[:, source[j]] and goes
    through operations first[j] .. first[j + 1] - 1, all FP32 (operands are rounded to FP32 beforehand):
    FILL: x = left if x is NaN; STANDARDISE: x = (x - left) / right; EQUALS: x = 1 if x == left else 0
    (NaN equals nothing).
    """
    for r in range(raw.shape[0]):
        for j in range(out.shape[1]):
            value = raw[r, source[j]]
            for at in range(first[j], first[j + 1]):
                if operation[at] == FILL:
                    value = left[at] if math.isnan(value) else value
                elif operation[at] == STANDARDISE:
                    value = (value - left[at]) / right[at]
                else:
                    value = np.float32(1.0) if value == left[at] else np.float32(0.0)
            out[r, j] = value


def softmax(scores: Array, out: Array) -> None:
    """Per row out = exp(x - max x) / sum of the same; scores, out: (rows, classes) FP32.

    Computed in FP64 and rounded to FP32 once, so the error is half a unit in the last place. A row that
    holds NaN or +inf gives NaN, as the formula does.
    """
    for r in range(scores.shape[0]):
        largest = np.float64(scores[r, 0])
        for i in range(scores.shape[1]):
            largest = max(largest, np.float64(scores[r, i]))
        total = 0.0
        for i in range(scores.shape[1]):
            total += math.exp(np.float64(scores[r, i]) - largest)
        for i in range(scores.shape[1]):
            out[r, i] = np.float32(math.exp(np.float64(scores[r, i]) - largest) / total)


@inlined
def better(score: float, than: float) -> bool:
    """True when `score` is larger; NaN is smaller than every number."""
    return score > than or (math.isnan(than) and not math.isnan(score))


def argmax(scores: Array, out: Array) -> None:
    """Per row the index of the largest score, the lowest of equal ones; NaN is smallest.

    scores: (rows, classes) FP32. out: (rows, 1) INT64.
    """
    for r in range(scores.shape[0]):
        best = 0
        for i in range(1, scores.shape[1]):
            if better(scores[r, i], scores[r, best]):
                best = i
        out[r, 0] = best


def top_k(scores: Array, out: Array) -> None:
    """Per row the indices of the k largest scores, best first, equal ones by lower index.

    scores: (rows, classes >= k) FP32; NaN is smallest. out: (rows, k) INT64. Insertion into the k kept so
    far: quick for the small k of a recipe.
    """
    k = out.shape[1]
    for r in range(scores.shape[0]):
        for i in range(scores.shape[1]):
            at = min(i, k)
            while at > 0 and better(scores[r, i], scores[r, out[r, at - 1]]):
                if at < k:
                    out[r, at] = out[r, at - 1]
                at -= 1
            if at < k:
                out[r, at] = i
