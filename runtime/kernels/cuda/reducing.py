"""What the threads of a block find out together.

Knows: sums of pairs and the best of scores over a block. Rules: a block has THREADS threads in x, a power of two; the tree is
the same each time, so a sum is the same to the bit; the arrays are shared ones of THREADS values, and every thread of the block
calls. Leaves to others: what is summed.
"""

import math

from appliance.tensors import Array
from runtime.kernels.cuda import gpu
from runtime.kernels.cuda.pairs import Pair, Single, sum_of

THREADS = 128


def block_sum(value: Single, low: Single, highs: Array, lows: Array) -> Pair:
    """The sum of every thread's pair, told to all of them."""
    own = gpu.threadIdx.x
    highs[own], lows[own] = value, low
    gpu.syncthreads()
    step = THREADS // 2
    while step > 0:
        if own < step:
            highs[own], lows[own] = sum_of(
                highs[own], lows[own], highs[own + step], lows[own + step]
            )
        gpu.syncthreads()
        step //= 2
    total, error = highs[0], lows[0]
    gpu.syncthreads()  # before anybody uses the arrays again
    return total, error


def is_ahead(score: Single, index: int, other: Single, other_index: int) -> bool:
    """True when the first comes before the other: larger, or equal with a lower index; NaN is smallest."""
    if score > other:
        return True
    if score < other:
        return False
    if math.isnan(score) != math.isnan(other):
        return math.isnan(other)
    return index < other_index


def block_best(score: Single, index: int, scores: Array, indices: Array) -> int:
    """The index of the best of every thread's scores, told to all; a negative index offers nothing."""
    own = gpu.threadIdx.x
    scores[own], indices[own] = score, index
    gpu.syncthreads()
    step = THREADS // 2
    while step > 0:
        if own < step:
            mine, theirs = indices[own], indices[own + step]
            if theirs >= 0 and (
                mine < 0 or is_ahead(scores[own + step], theirs, scores[own], mine)
            ):
                scores[own], indices[own] = scores[own + step], theirs
        gpu.syncthreads()
        step //= 2
    best: int = indices[0]
    gpu.syncthreads()
    return best
