"""The kernels of scores: softmax, sigmoid, the best classes.

Knows: rows of scores in, rows out, one pass each. Rules: plain Python in the part of it that numba
compiles; nothing is allocated; shapes are right when a kernel is called, nothing is checked in here.
Leaves to others: which kernel a step needs (`after`) and compiling (`compiled`).
"""

import math

import numpy as np

from appliance.tensors import Array
from runtime.kernels.compiled import inlined


def softmax(scores: Array, out: Array) -> None:
    """Per row out = exp(x - max x) / sum of the same; scores, out: (rows, classes) FP32.

    Computed in FP64; the powers and the shares are each rounded to FP32, so the error is at most
    1.5 units in the last place. A row that holds NaN or +inf gives NaN, as the formula does.
    """
    for r in range(scores.shape[0]):
        largest = np.float64(scores[r, 0])
        for i in range(scores.shape[1]):
            largest = max(largest, np.float64(scores[r, i]))
        total = 0.0
        for i in range(scores.shape[1]):
            power = math.exp(np.float64(scores[r, i]) - largest)
            total += power
            out[r, i] = np.float32(power)
        for i in range(scores.shape[1]):
            out[r, i] = np.float32(np.float64(out[r, i]) / total)


def sigmoid(scores: Array, out: Array) -> None:
    """Of each value out = 1 / (1 + exp(-x)); scores, out: (rows, values) FP32; NaN stays NaN.

    Computed in FP64 and rounded to FP32 once, so the error is half a unit in the last place; from below 0 as
    exp(x) / (1 + exp(x)), which cannot overflow.
    """
    for r in range(scores.shape[0]):
        for i in range(scores.shape[1]):
            x = np.float64(scores[r, i])
            power = math.exp(-abs(x))
            out[r, i] = np.float32((1.0 if x >= 0.0 else power) / (1.0 + power))


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
