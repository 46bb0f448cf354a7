"""The kernels of scores on the device: softmax, sigmoid, the best classes, thresholds, casts.

Knows: what one block does to one row, or one thread to one value. Rules: see `runtime.kernels.cuda`; scores are of any dtype
that floats or integers have up to 32 bits and of 64 bits, each rounded to FP32 first; the formulas and the order of equal values
are those of `output_steps`. Leaves to others: which kernel a step needs, grids and places (`scores`).
"""

import numpy as np

from appliance.tensors import Array
from runtime.kernels.cuda import gpu
from runtime.kernels.cuda.pairs import (
    ONE,
    ZERO,
    exp_pair,
    quotient_of,
    sum_of,
    two_sum,
)
from runtime.kernels.cuda.reducing import THREADS, block_best, block_sum, is_ahead

NONE = -1


def row_best(scores: Array, start: int, classes: int, highs: Array, indices: Array) -> int:
    """The first of a row's largest scores."""
    score, best = ZERO, NONE
    for i in range(gpu.threadIdx.x, classes, THREADS):
        each = np.float32(scores[start + i])
        if best < 0 or is_ahead(each, i, score, best):
            score, best = each, i
    return block_best(score, best, highs, indices)


def softmax(scores: Array, out: Array, classes: int) -> None:
    """One row a block, out = exp(x - max x) / sum of the same, FP32.

    Within 1.01 units in the last place of the formula, so within 2.6 of the CPU's, which rounds the power first. A row that holds
    NaN or +infinity, or nothing but -infinity, becomes NaN.
    """
    highs = gpu.shared.array(THREADS, np.float32)
    lows = gpu.shared.array(THREADS, np.float32)
    indices = gpu.shared.array(THREADS, np.int32)
    start = gpu.blockIdx.x * classes
    largest = np.float32(scores[start + row_best(scores, start, classes, highs, indices)])
    total, error = ZERO, ZERO
    for i in range(gpu.threadIdx.x, classes, THREADS):
        power, low = power_of(np.float32(scores[start + i]), largest)
        total, error = sum_of(total, error, power, low)
    total, error = block_sum(total, error, highs, lows)
    for i in range(gpu.threadIdx.x, classes, THREADS):
        power, low = power_of(np.float32(scores[start + i]), largest)
        out[start + i] = share_of(power, low, total, error)


def power_of(score: np.float32, largest: np.float32) -> tuple[np.float32, np.float32]:
    """exp(score - largest) as a pair; the difference keeps what FP32 would round away."""
    beneath, rest = two_sum(score, -largest)
    return exp_pair(beneath, rest)


def share_of(
    power: np.float32, low: np.float32, total: np.float32, error: np.float32
) -> np.float32:
    """A pair through a pair, rounded to FP32."""
    return quotient_of(power, low, total, error)[0]


def sigmoid(scores: Array, out: Array, count: int) -> None:
    """One value a thread, out = 1 / (1 + exp(-x)), FP32, within 1 unit in the last place; NaN stays NaN."""
    i = gpu.grid(1)
    if i < count:
        x = np.float32(scores[i])
        power, low = exp_pair(-abs(x), ZERO)
        total, error = sum_of(ONE, ZERO, power, low)
        if x >= ZERO:
            power, low = ONE, ZERO
        out[i] = share_of(power, low, total, error)


def argmax(scores: Array, out: Array, classes: int) -> None:
    """One row a block: the index of the largest score, the lowest of equal ones; NaN is smallest."""
    highs = gpu.shared.array(THREADS, np.float32)
    indices = gpu.shared.array(THREADS, np.int32)
    start = gpu.blockIdx.x * classes
    best = row_best(scores, start, classes, highs, indices)
    if gpu.threadIdx.x == 0:
        out[gpu.blockIdx.x] = best


def top_k(scores: Array, out: Array, values: Array, classes: int, k: int) -> None:
    """One row a block: the k largest scores, best first, and where they are; NaN is smallest.

    out: INT64 (rows, k); values: FP32 (rows, k). Each round finds the best of those behind the last one found.
    """
    highs = gpu.shared.array(THREADS, np.float32)
    indices = gpu.shared.array(THREADS, np.int32)
    start = gpu.blockIdx.x * classes
    at = gpu.blockIdx.x * k
    last = row_best(scores, start, classes, highs, indices)
    for place in range(k):
        if gpu.threadIdx.x == 0:
            out[at + place] = last
            values[at + place] = np.float32(scores[start + last])
        bound = np.float32(scores[start + last])
        score, best = ZERO, NONE
        for i in range(gpu.threadIdx.x, classes, THREADS):
            each = np.float32(scores[start + i])
            if is_ahead(bound, last, each, i) and (best < 0 or is_ahead(each, i, score, best)):
                score, best = each, i
        last = block_best(score, best, highs, indices)


def threshold(scores: Array, out: Array, count: int, at: np.float32) -> None:
    """One value a thread, out = x >= at, one byte, 0 or 1; NaN is below."""
    i = gpu.grid(1)
    if i < count:
        out[i] = 1 if np.float32(scores[i]) >= at else 0


def cast(given: Array, out: Array, count: int) -> None:
    """One value a thread, rounded to FP32, to nearest even."""
    i = gpu.grid(1)
    if i < count:
        out[i] = np.float32(given[i])


def cast_truth(given: Array, out: Array, count: int) -> None:
    """One value a thread, 1 of a byte that is not 0, as numpy reads a bool."""
    i = gpu.grid(1)
    if i < count:
        out[i] = ONE if given[i] != 0 else ZERO
