"""Acceptance thresholds: what a task metric is and whether it was reached. Pure.

Knows: the metrics' formulas. Rules: a value is computed the same way from the reference at pack and from
the engine at build. Leaves to others: producing the outputs.
"""

from collections.abc import Mapping

import numpy as np

from appliance.errors import SpecError, ThresholdMissed
from appliance.manifest import Acceptance
from appliance.proof import Reached
from appliance.tensors import Array, DataType, Interface, TensorSpec


def check_acceptance(
    acceptance: tuple[Acceptance, ...], engine: Interface, labels: Array | None
) -> None:
    """Raise SpecError when a threshold cannot be computed from this interface and these labels."""
    for item in acceptance:
        spec = engine.output(item.output)
        if spec is None or not _is_scores(spec):
            raise SpecError(
                f"{item.metric} needs an engine output '{item.output}' of one value a class",
                remedy=f"use one of {[output.name for output in engine.outputs]}",
            )
        if labels is None:
            raise SpecError(
                f"{item.metric} needs the true classes of the held-out rows",
                remedy="add an array 'label' (int64, one a row) to the held-out file",
            )
        classes = spec.shape[-1]
        if labels.min() < 0 or (classes != -1 and labels.max() >= classes):
            raise SpecError(
                f"labels go from {labels.min()} to {labels.max()}, "
                f"'{item.output}' has {classes} classes",
                remedy="number the classes from 0 in the order of the output",
            )


def reached(
    acceptance: tuple[Acceptance, ...], outputs: Mapping[str, Array], labels: Array | None
) -> tuple[Reached, ...]:
    """The value of every threshold's metric.

    outputs: (rows, classes) or (rows, 1, classes) by name. labels: integers (rows,). Raises ThresholdMissed at the first
    value below its minimum.
    """
    values = []
    for item in acceptance:
        assert labels is not None, "checked before"
        value = accuracy(outputs[item.output].reshape(len(labels), -1), labels)
        if not item.holds(value):
            raise ThresholdMissed(
                f"{item.metric} of '{item.output}' on {len(labels)} held-out rows is {value:.4f}, "
                f"which misses {threshold_text(item)}",
                remedy="train a better model, or agree on a lower threshold in the spec",
            )
        values.append(Reached(threshold=item, value=value, rows=len(labels)))
    return tuple(values)


def threshold_text(item: Acceptance) -> str:
    """What was agreed, such as "at least 0.95"."""
    return f"at least {item.minimum:g}" if item.maximum is None else f"at most {item.maximum:g}"


def _is_scores(spec: TensorSpec) -> bool:
    """One value a class, perhaps behind the leading 1 of a graph exported for one row."""
    return (
        spec.shape[:-1] in ((), (1,)) and spec.shape != () and spec.datatype is not DataType.BYTES
    )


def accuracy(scores: Array, labels: Array) -> float:
    """Share of rows whose largest score is their label's; a row with NaN counts as wrong.

    scores: (rows, classes). labels: integers (rows,). The first of equal scores wins.
    """
    usable = ~np.isnan(scores.astype(np.float64)).any(axis=1)
    return float(np.mean(usable & (scores.argmax(axis=1) == labels)))
