"""The constants of signal steps: windows and mel filters.

Knows: their formulas, as `appliance.recipe.signals` gives them. Rules: FP64. Leaves to others: applying
them (`signals`).
"""

import math

import numpy as np

from appliance.recipe import Frame, Mel
from appliance.tensors import Array

WINDOWS = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46), "rectangular": (1.0, 0.0)}
LINEAR_BELOW = (
    1000.0  # Hz: the slaney scale has 15 mels up to here, 27 more up to 6.4 times as much
)


def window_of(step: Frame) -> Array:
    """The window, FP64 (length,)."""
    level, swing = WINDOWS[step.window]
    period = max(step.length if step.periodic else step.length - 1, 1)
    if step.length == 1:
        return np.ones(1)
    return level - swing * np.cos(2.0 * math.pi * np.arange(step.length) / period)


def mel_filters(step: Mel, size: int) -> tuple[Array, Array]:
    """The filters over the bins of a transform of `size` samples.

    Weights FP64, those of one filter behind those of the other, and INT64 (mels, 3): the bins that a filter
    reaches, first and behind the last, and where its weights begin.
    """
    high = step.rate / 2 if step.high is None else step.high
    edges = _hertz(step, np.linspace(_mel(step, step.low), _mel(step, high), step.mels + 2))
    bins = np.arange(size // 2 + 1) * (step.rate / size)
    weights, reached, at = [], np.zeros((step.mels, 3), np.int64), 0
    for m in range(step.mels):
        left, top, right = edges[m : m + 3]
        first, behind = np.searchsorted(bins, left, "right"), np.searchsorted(bins, right, "left")
        near = bins[first:behind]
        rising, falling = (near - left) / (top - left), (right - near) / (right - top)
        peak = 2.0 / (right - left) if step.norm == "slaney" else 1.0
        weights.append(np.minimum(rising, falling) * peak)
        reached[m] = first, first + near.size, at
        at += near.size
    return np.concatenate(weights), reached


def _mel(step: Mel, hertz: float) -> float:
    if step.scale == "htk":
        return 2595.0 * math.log10(1.0 + hertz / 700.0)
    if hertz < LINEAR_BELOW:
        return 3.0 * hertz / 200.0
    return 15.0 + 27.0 * math.log(hertz / LINEAR_BELOW) / math.log(6.4)


def _hertz(step: Mel, mels: Array) -> Array:
    if step.scale == "htk":
        return 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    steep = LINEAR_BELOW * np.exp((mels - 15.0) * (math.log(6.4) / 27.0))
    return np.where(mels < 15.0, mels * 200.0 / 3.0, steep)
