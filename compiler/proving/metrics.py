"""The task metrics' formulas. Pure.

Knows: how each metric of `appliance.manifest.Metric` is computed and which way it is better. Rules: FP64;
a row with NaN counts as wrong, or makes an error NaN, which reaches no threshold. Leaves to others: which
rows, and thresholds (`acceptance`).
"""

from collections.abc import Callable

import numpy as np

from appliance.manifest import Metric
from appliance.tensors import Array

CLASSIFYING = frozenset({Metric.ACCURACY, Metric.MACRO_F1})  # larger is better; labels are classes


def value_of(metric: Metric, outputs: Array, labels: Array) -> float:
    """The metric of `outputs` (rows, ...) against `labels`: int64 (rows,) classes, or true values.

    Outputs hold one value a class and row, or one a true value.
    """
    rows = len(labels)
    return _METRICS[metric](outputs.reshape(rows, -1), labels.reshape(rows, -1))


def faults(metric: Metric, outputs: Array, labels: Array) -> Array:
    """How wrong each row is, FP64 (rows,), larger is worse; NaN counts as infinitely wrong.

    Classes: the best other score less the label's. Values: the largest absolute error.
    """
    rows = len(labels)
    flat = outputs.reshape(rows, -1).astype(np.float64)
    if metric in CLASSIFYING:
        at = np.minimum(labels.reshape(rows, 1), flat.shape[1] - 1)
        own = np.take_along_axis(flat, at, axis=1)[:, 0]
        others = flat.copy()
        np.put_along_axis(others, at, -np.inf, axis=1)
        wrong = others.max(axis=1) - own
    else:
        wrong = np.abs(flat - labels.reshape(rows, -1)).max(axis=1)
    return np.where(np.isnan(wrong), np.inf, wrong)


def accuracy(scores: Array, labels: Array) -> float:
    """Share of rows whose largest score is their label's; the first of equal scores wins."""
    return float(np.mean(_predicted(scores) == labels[:, 0]))


def macro_f1(scores: Array, labels: Array) -> float:
    """Mean over the classes that occur as label of 2 TP / (2 TP + FP + FN)."""
    predicted, wanted = _predicted(scores), labels[:, 0]
    shares = []
    for one in np.unique(wanted):
        hits = np.sum((predicted == one) & (wanted == one))
        shares.append(2 * hits / (np.sum(predicted == one) + np.sum(wanted == one)))
    return float(np.mean(shares))


def mean_absolute_error(values: Array, labels: Array) -> float:
    """Mean of |value - label|."""
    return float(np.mean(np.abs(values.astype(np.float64) - labels)))


def root_mean_squared_error(values: Array, labels: Array) -> float:
    """Square root of the mean of (value - label)^2."""
    return float(np.sqrt(np.mean((values.astype(np.float64) - labels) ** 2)))


_METRICS: dict[Metric, Callable[[Array, Array], float]] = {
    Metric.ACCURACY: accuracy,
    Metric.MACRO_F1: macro_f1,
    Metric.MEAN_ABSOLUTE_ERROR: mean_absolute_error,
    Metric.ROOT_MEAN_SQUARED_ERROR: root_mean_squared_error,
}


def _predicted(scores: Array) -> Array:
    """The class of each row; -1, which is none, for a row with NaN."""
    usable = ~np.isnan(scores.astype(np.float64)).any(axis=1)
    return np.where(usable, scores.argmax(axis=1), -1)
