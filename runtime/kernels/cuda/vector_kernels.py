"""The drift vector's kernels on the device: what is measured of an image and of class scores.

Knows: what a block sums. Rules: see `runtime.kernels.cuda`; formulas are those of `vector_steps`, whose FP64 sums are sums of
pairs here (`pairs`); NaN and infinities come out as NaN or infinities. Leaves to others: grids and places (`vectors`).
"""

# ruff: noqa: PLR0917  kernels take positions only
import numpy as np

from appliance.layout import GRID_CELLS, GRID_LENGTH
from appliance.tensors import Array
from runtime.kernels.cuda import gpu
from runtime.kernels.cuda.pairs import (
    INFINITE,
    NO_NUMBER,
    ONE,
    ZERO,
    Pair,
    Single,
    log_pair,
    product_of,
    quotient_of,
    root_of,
    sum_of,
    two_sum,
    whole_pair,
)
from runtime.kernels.cuda.reducing import THREADS, block_sum
from runtime.kernels.cuda.score_kernels import power_of, row_best, share_of

HWC = 0  # 1 where a pixel's channels lie together
LOGITS = 0  # 1 where scores become probabilities by softmax
SUMS = 8  # numbers kept of a cell: four pairs


def image_cells(images: Array, sums: Array, channels: int, height: int, width: int) -> None:
    """One cell of one image a block: sums over its pixels, SUMS numbers a cell.

    sums: FP32 (rows, 64, 8): pairs of the values, of the squares of their distance from the image's first value, of the
    differences of neighbours to the left and above, summed over channels, and of the values that are exactly 0. Blocks over
    rows and cells.
    """
    highs = gpu.shared.array(THREADS, np.float32)
    lows = gpu.shared.array(THREADS, np.float32)
    row, cell, own = gpu.blockIdx.x, gpu.blockIdx.y, gpu.threadIdx.x
    start = row * channels * height * width
    first, last = first_of(cell // GRID_LENGTH, height), first_of(cell // GRID_LENGTH + 1, height)
    left, right = first_of(cell % GRID_LENGTH, width), first_of(cell % GRID_LENGTH + 1, width)
    pivot = np.float32(images[start])
    total, error = ZERO, ZERO
    squares, squares_low = ZERO, ZERO
    steps, steps_low = ZERO, ZERO
    zeros = ZERO
    y, x = first, left + own
    while y < last and left < right:
        while x >= right:
            x += left - right
            y += 1
        if y < last:
            grey, low = grey_of(images, start, channels, height, width, y, x)
            total, error = sum_of(total, error, grey, low)
            if x > 0:
                other, other_low = grey_of(images, start, channels, height, width, y, x - 1)
                step, step_low = distance(grey, low, other, other_low)
                steps, steps_low = sum_of(steps, steps_low, step, step_low)
            if y > 0:
                other, other_low = grey_of(images, start, channels, height, width, y - 1, x)
                step, step_low = distance(grey, low, other, other_low)
                steps, steps_low = sum_of(steps, steps_low, step, step_low)
            for c in range(channels):
                value = np.float32(images[start + place_of(channels, height, width, c, y, x)])
                away, away_low = two_sum(value, -pivot)
                square, square_low = product_of(away, away_low, away, away_low)
                squares, squares_low = sum_of(squares, squares_low, square, square_low)
                if value == ZERO:
                    zeros += ONE
        x += THREADS
    total, error = block_sum(total, error, highs, lows)
    squares, squares_low = block_sum(squares, squares_low, highs, lows)
    steps, steps_low = block_sum(steps, steps_low, highs, lows)
    zeros, zeros_low = block_sum(zeros, ZERO, highs, lows)
    if own == 0:
        at = SUMS * (row * GRID_CELLS + cell)
        sums[at], sums[at + 1] = total, error
        sums[at + 2], sums[at + 3] = squares, squares_low
        sums[at + 4], sums[at + 5] = steps, steps_low
        sums[at + 6], sums[at + 7] = zeros, zeros_low


def first_of(band: int, length: int) -> int:
    """The first pixel in a band of cells: pixel p is in cell 8 p // length."""
    return (band * length + GRID_LENGTH - 1) // GRID_LENGTH


def place_of(channels: int, height: int, width: int, c: int, y: int, x: int) -> int:
    """Where a value of an image lies."""
    if HWC:
        return (y * width + x) * channels + c
    return (c * height + y) * width + x


def grey_of(
    images: Array, start: int, channels: int, height: int, width: int, y: int, x: int
) -> Pair:
    """The sum of a pixel's channels."""
    grey, low = np.float32(images[start + place_of(channels, height, width, 0, y, x)]), ZERO
    for c in range(1, channels):
        value = np.float32(images[start + place_of(channels, height, width, c, y, x)])
        grey, low = sum_of(grey, low, value, ZERO)
    return grey, low


def distance(a: Single, a_low: Single, b: Single, b_low: Single) -> Pair:
    """|a - b| of two pairs."""
    away, low = sum_of(a, a_low, -b, -b_low)
    if away < ZERO:
        return -away, -low
    return away, low


def image_values(
    images: Array,
    sums: Array,
    pca: Array,
    out: Array,
    components: int,
    channels: int,
    height: int,
    width: int,
) -> None:
    """One image a block of 64 threads, one a cell: mean, std, sharpness, zeros, PCA scores, residual.

    sums: as `image_cells` left them; pca: FP32, the centre (64), then the components (components, 64). out: FP32 (rows, 5 +
    components).
    """
    highs = gpu.shared.array(THREADS, np.float32)
    lows = gpu.shared.array(THREADS, np.float32)
    row, own = gpu.blockIdx.x, gpu.threadIdx.x
    size = channels * height * width
    at = SUMS * (row * GRID_CELLS + own)
    to = row * (5 + components)
    total, error = block_sum(sums[at], sums[at + 1], highs, lows)
    squares, squares_low = block_sum(sums[at + 2], sums[at + 3], highs, lows)
    steps, steps_low = block_sum(sums[at + 4], sums[at + 5], highs, lows)
    zeros, zeros_low = block_sum(sums[at + 6], sums[at + 7], highs, lows)
    count, count_low = whole_pair(size)
    mean, mean_low = quotient_of(total, error, count, count_low)
    if own == 0:
        pairs = height * (width - 1) + (height - 1) * width
        pixels, pixels_low = whole_pair(max(pairs, 1) * channels)
        out[to] = mean
        away, away_low = sum_of(mean, mean_low, -np.float32(images[row * size]), ZERO)
        square, square_low = product_of(away, away_low, away, away_low)
        spread, spread_low = quotient_of(squares, squares_low, count, count_low)
        spread, spread_low = sum_of(spread, spread_low, -square, -square_low)
        out[to + 1] = root_of(spread, spread_low)
        out[to + 2] = quotient_of(steps, steps_low, pixels, pixels_low)[0]
        out[to + 3] = quotient_of(zeros, zeros_low, count, count_low)[0]
    tall = first_of(own // GRID_LENGTH + 1, height) - first_of(own // GRID_LENGTH, height)
    wide = first_of(own % GRID_LENGTH + 1, width) - first_of(own % GRID_LENGTH, width)
    pixels, pixels_low = whole_pair(max(tall * wide, 1) * channels)
    cell, low = quotient_of(sums[at], sums[at + 1], pixels, pixels_low)
    cell, low = sum_of(cell, low, -pca[own], ZERO)
    for k in range(components):
        weight = pca[(1 + k) * GRID_CELLS + own]
        score, score_low = product_of(cell, low, weight, ZERO)
        score, score_low = block_sum(score, score_low, highs, lows)
        share, share_low = product_of(score, score_low, weight, ZERO)
        cell, low = sum_of(cell, low, -share, -share_low)
        if own == 0:
            out[to + 4 + k] = score
    square, square_low = product_of(cell, low, cell, low)
    square, square_low = block_sum(square, square_low, highs, lows)
    if own == 0:
        out[to + 4 + components] = root_of(square, square_low)


def score_values(scores: Array, out: Array, classes: int, probabilities: int) -> None:
    """One row a block: confidence, entropy (nats), class, probabilities; see `vector_steps.fill_scores`.

    out: FP32 (rows, 3 + probabilities).
    """
    highs = gpu.shared.array(THREADS, np.float32)
    lows = gpu.shared.array(THREADS, np.float32)
    indices = gpu.shared.array(THREADS, np.int32)
    row, own = gpu.blockIdx.x, gpu.threadIdx.x
    start, to = row * classes, row * (3 + probabilities)
    best = row_best(scores, start, classes, highs, indices)
    largest = np.float32(scores[start + best])
    odd = ZERO
    total, error = ZERO, ZERO
    spread, spread_low = ZERO, ZERO
    for i in range(own, classes, THREADS):
        score = np.float32(scores[start + i])
        if not score < INFINITE:
            odd = ONE
        power, low = score, ZERO
        if LOGITS:
            power, low = power_of(score, largest)
        total, error = sum_of(total, error, power, low)
        if power > ZERO:
            # Of logits: (largest - score) * power; the rest of the entropy is the total's logarithm.
            away, away_low = -log_pair(power, ZERO), ZERO
            if LOGITS:
                away, away_low = two_sum(largest, -score)
            away, away_low = product_of(away, away_low, power, low)
            spread, spread_low = sum_of(spread, spread_low, away, away_low)
    odd, _ = block_sum(odd, ZERO, highs, lows)
    total, error = block_sum(total, error, highs, lows)
    spread, spread_low = block_sum(spread, spread_low, highs, lows)
    if odd > ZERO or largest == -INFINITE:
        for i in range(own, 3 + probabilities, THREADS):
            out[to + i] = NO_NUMBER
        return
    if own == 0:
        if LOGITS:
            spread, spread_low = quotient_of(spread, spread_low, total, error)
            spread, spread_low = sum_of(spread, spread_low, log_pair(total, error), ZERO)
            out[to] = share_of(ONE, ZERO, total, error)
        else:
            out[to] = largest
        out[to + 1] = spread
        out[to + 2] = np.float32(best)
    for i in range(own, probabilities, THREADS):
        share = np.float32(scores[start + i])
        if LOGITS:
            power, low = power_of(share, largest)
            share = share_of(power, low, total, error)
        out[to + 3 + i] = share


def columns(given: Array, out: Array, length: int, width: int, count: int) -> None:
    """One value a thread: the first `width` of a row's `length` values, FP32; count = rows * width."""
    i = gpu.grid(1)
    if i < count:
        out[i] = np.float32(given[i // width * length + i % width])
