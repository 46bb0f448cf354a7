"""The drift vector's kernels: what is measured of an image and of class scores, to the formula.

Knows: arrays in, columns of the vector out, one pass each. Rules: plain Python in the part of it that
numba compiles; sums are FP64; NaN and infinities never raise and come out as NaN or infinities. Leaves to
others: which parts a vector has (`vector`) and fitting the PCA (`vector_fit`).
"""

# ruff: noqa: PLR0917, FBT001  numba calls take positions only
import math
from typing import Literal

import numpy as np

from appliance.layout import GRID_CELLS, GRID_LENGTH, Floats
from appliance.tensors import Array
from runtime.kernels.compiled import (
    FLAG,
    INTEGER,
    Kernel,
    compiled,
    inlined,
    integers,
    reads,
    writes,
)

CELLS_AT = 4  # an image's first values: mean, std, sharpness, zeros

Order = Literal["CHW", "HWC"]


def fill_image(
    images: Array,
    shape: tuple[int, int, int],
    strides: tuple[int, int, int],
    centre: Array,
    components: Array,
    out: Array,
    at: int,
) -> None:
    """Write an image's values to out[:, at:]: mean, std, sharpness, zeros, PCA scores, residual.

    images: (rows, size) FP32, one image a row; shape: channels, height, width; strides: of the same, in
    elements. centre: (64,) FP32; components: (k, 64) FP32. Sums are FP64. Grey is the mean over
    channels. Sharpness is the mean absolute difference of neighbouring grey pixels, zeros the share of
    values that are exactly 0. A cell is the mean grey of its pixels: pixel y, x belongs to cell
    8 y // height, 8 x // width; a cell without pixels is 0. The residual is the distance of the cells
    from their reconstruction.
    """
    channels, height, width = shape
    size = channels * height * width
    pairs = height * (width - 1) + (height - 1) * width
    # Sums are kept by column until a row of cells is over: then the loops over x have no order to keep.
    grey, above, squares = np.empty(width), np.empty(width), np.empty(width)
    steps, zeros, column = np.empty(width), np.empty(width), np.empty(width)
    cells, counts = np.empty(GRID_CELLS), np.empty(GRID_CELLS)
    for r in range(images.shape[0]):
        squares[:], steps[:], zeros[:], column[:] = 0.0, 0.0, 0.0, 0.0
        cells[:], counts[:] = 0.0, 0.0
        total, band = 0.0, 0
        for y in range(height):
            if GRID_LENGTH * y // height != band:
                total += pool(column, cells, band)
                band = GRID_LENGTH * y // height
            grey[:] = 0.0
            for c in range(channels):
                start = c * strides[0] + y * strides[1]
                if strides[2] == 1:
                    add(images[r, start : start + width], grey, squares, zeros)
                else:
                    end = start + width * strides[2]
                    add(images[r, start : end : strides[2]], grey, squares, zeros)
            count(counts, width, band)
            compare(grey, above, channels, y, steps, column)
            grey, above = above, grey
        total += pool(column, cells, band)
        mean = total * channels / size
        variance = squares.sum() / size - mean * mean
        out[r, at] = mean
        out[r, at + 1] = 0.0 if variance < 0.0 else math.sqrt(variance)
        out[r, at + 2] = steps.sum() / max(pairs, 1)
        out[r, at + 3] = zeros.sum() / size
        for i in range(GRID_CELLS):
            cells[i] = cells[i] / max(counts[i], 1.0) - centre[i]
        project(cells, components, out[r, at + CELLS_AT :])


@inlined
def add(values: Array, grey: Array, squares: Array, zeros: Array) -> None:
    """Add one channel's row to the sums of its columns."""
    for x in range(grey.size):
        value = np.float64(values[x])
        grey[x] += value
        squares[x] += value * value
        zeros[x] += 1.0 if value == 0.0 else 0.0


@inlined
def compare(grey: Array, above: Array, channels: int, y: int, steps: Array, column: Array) -> None:
    """Make a row's sums over channels their mean, and add its differences to neighbours to `steps`."""
    for x in range(grey.size):
        grey[x] /= channels
        column[x] += grey[x]
    for x in range(1, grey.size):
        steps[x] += abs(grey[x] - grey[x - 1])
    if y > 0:
        for x in range(grey.size):
            steps[x] += abs(grey[x] - above[x])


@inlined
def pool(column: Array, cells: Array, band: int) -> float:
    """Move the columns' sums to the cells of one row of them; returns the whole."""
    total = 0.0
    for x in range(column.size):
        cells[band * GRID_LENGTH + GRID_LENGTH * x // column.size] += column[x]
        total += column[x]
        column[x] = 0.0
    return total


@inlined
def count(counts: Array, width: int, band: int) -> None:
    """Count the pixels that one more row has in each cell."""
    for j in range(GRID_LENGTH):
        # Pixel x is in cell 8 x // width: from the first x that reaches j / 8 of the width.
        first, last = -(-width * j // GRID_LENGTH), -(-width * (j + 1) // GRID_LENGTH)
        counts[band * GRID_LENGTH + j] += last - first


@inlined
def project(cells: Array, components: Array, out: Array) -> None:
    """Write the scores, then the residual, to `out`; `cells` is left without its components."""
    for k in range(components.shape[0]):
        score = 0.0
        for i in range(cells.size):
            score += cells[i] * components[k, i]
        for i in range(cells.size):
            cells[i] -= score * components[k, i]
        out[k] = score
    residual = 0.0
    for i in range(cells.size):
        residual += cells[i] * cells[i]
    out[components.shape[0]] = math.sqrt(residual)


def fill_scores(scores: Array, logits: bool, probabilities: int, out: Array, at: int) -> None:
    """Write class scores' values to out[:, at:]: confidence, entropy (nats), class, probabilities.

    scores: (rows, classes) FP32, logits or probabilities. The class is the first of the largest. A row
    with NaN or +inf, or with nothing but -inf, gives NaN throughout; -inf is a masked class.
    """
    classes = scores.shape[1]
    shares = np.empty(classes)
    for r in range(scores.shape[0]):
        best, usable = 0, True
        for i in range(classes):
            usable = usable and scores[r, i] < math.inf
            if scores[r, i] > scores[r, best]:
                best = i
        largest = np.float64(scores[r, best])
        if not usable or largest == -math.inf:
            out[r, at : at + 3 + probabilities] = math.nan
            continue
        total = 0.0
        for i in range(classes):
            score = np.float64(scores[r, i])
            shares[i] = math.exp(score - largest) if logits else score
            total += shares[i]
        entropy = 0.0
        for i in range(classes):
            if logits:
                shares[i] /= total
            if shares[i] > 0.0:
                entropy -= shares[i] * math.log(shares[i])
        out[r, at] = shares[best]
        out[r, at + 1] = entropy
        out[r, at + 2] = best
        for i in range(probabilities):
            out[r, at + 3 + i] = shares[i]


class ImageKernel:
    """Compiled `fill_image` for images in one order, with one PCA."""

    def __init__(self, order: Order, centre: Floats, components: Floats) -> None:
        """`centre` is (64,), `components` (k, 64), both C-contiguous float32."""
        self._chw = order == "CHW"
        self._centre, self._components = centre, components
        self._kernel = compiled(
            fill_image,
            reads(np.float32, 2),
            integers(3),
            integers(3),
            reads(np.float32, 1),
            reads(np.float32, 2),
            writes(np.float32, 2),
            INTEGER,
        )

    def fill(self, images: Array, out: Floats, at: int) -> None:
        """Write the values of `images` (rows, and 3 axes in order) to `out` (rows, any), from column `at`."""
        rows, first, second, third = images.shape
        if self._chw:
            shape, strides = (first, second, third), (second * third, third, 1)
        else:
            shape, strides = (third, first, second), (1, second * third, third)
        flat = np.ascontiguousarray(images, np.float32).reshape(rows, -1)
        self._kernel(flat, shape, strides, self._centre, self._components, out, at)


def score_kernel() -> Kernel:
    """Compiled `fill_scores`."""
    scores, out = reads(np.float32, 2), writes(np.float32, 2)
    return compiled(fill_scores, scores, FLAG, INTEGER, out, INTEGER)
