"""Acceptance thresholds: whether each can be computed, and what was reached. Pure.

Knows: thresholds over all rows and by segment. Rules: a value is computed the same way from the reference
at pack and from the engine at build; a segment's rows reach the threshold by themselves. Leaves to others:
the formulas (`metrics`), labels and segments (`truth`), producing the outputs.
"""

import math
import sys
from collections.abc import Iterator, Mapping

import numpy as np

from appliance.errors import SpecError, ThresholdMissed
from appliance.manifest import Acceptance
from appliance.proof import Reached
from appliance.tensors import Array, DataType, Interface, TensorSpec
from compiler.proving.metrics import CLASSIFYING, value_of
from compiler.rows.truth import SEGMENT, Truth, shown

_TOLD_MAX = 5  # thresholds missed that one message lists


def check_acceptance(acceptance: tuple[Acceptance, ...], engine: Interface, truth: Truth) -> None:
    """Raise SpecError when a threshold cannot be computed from this interface and these rows."""
    for item in acceptance:
        _check_bounds(item)
        spec = engine.output(item.output)
        if spec is None or spec.datatype is DataType.BYTES:
            raise SpecError(
                f"{item.metric} needs an engine output '{item.output}' of numbers",
                remedy=f"use one of {', '.join(output.name for output in engine.outputs)}",
            )
        if item.segment is not None and item.segment not in truth.segments:
            raise SpecError(
                f"{item.metric} by segment '{item.segment}' needs that column of the held-out rows, "
                f"which have {shown(truth.segments)}",
                remedy=f"add an array '{SEGMENT}{item.segment}' (text or int64, one a row) "
                "to the held-out file",
            )
        if item.metric in CLASSIFYING:
            _check_classes(item, spec, truth.labels)
        else:
            _check_values(item, spec, truth.labels)


def reached(
    acceptance: tuple[Acceptance, ...], outputs: Mapping[str, Array], truth: Truth
) -> tuple[Reached, ...]:
    """The value of every threshold's metric; a threshold by segment gives one a value of its column.

    outputs: (rows, ...) by name, as `check_acceptance` took them. Raises ThresholdMissed naming what was
    missed.
    """
    values = tuple(value for item in acceptance for value in _values(item, outputs, truth))
    missed = [value for value in values if not value.threshold.holds(value.value)]
    if missed:
        told = "; ".join(_told(value) for value in missed[:_TOLD_MAX])
        more = f"; and {len(missed) - _TOLD_MAX} more" if len(missed) > _TOLD_MAX else ""
        raise ThresholdMissed(
            told + more, remedy="train a better model, or agree on another threshold in the spec"
        )
    return values


def threshold_text(item: Acceptance) -> str:
    """What was agreed, such as "at least 0.95"."""
    return f"at least {item.minimum:g}" if item.maximum is None else f"at most {item.maximum:g}"


def computed(item: Acceptance, outputs: Mapping[str, Array], truth: Truth) -> float:
    """The value of a threshold's metric over all rows, whatever its segment; always a finite number.

    An error over NaN or infinity is the largest number there is, which reaches no threshold.
    """
    assert truth.labels is not None, "checked before"
    value = value_of(item.metric, outputs[item.output], truth.labels)
    return value if math.isfinite(value) else sys.float_info.max


def rows_text(item: Reached) -> str:
    """Which rows a value is of, such as "20 held-out rows with site = B"."""
    rows = "1 held-out row" if item.rows == 1 else f"{item.rows} held-out rows"
    return (
        rows if item.segment is None else f"{rows} with {item.threshold.segment} = {item.segment}"
    )


def _values(item: Acceptance, outputs: Mapping[str, Array], truth: Truth) -> Iterator[Reached]:
    if item.segment is None:
        rows = len(next(iter(outputs.values())))
        yield Reached(threshold=item, value=computed(item, outputs, truth), rows=rows)
        return
    column = truth.segments[item.segment]
    for segment in np.unique(column):
        chosen = np.flatnonzero(column == segment)
        part = {item.output: outputs[item.output][chosen]}
        value = computed(item, part, truth.part(chosen))
        yield Reached(threshold=item, value=value, rows=len(chosen), segment=str(segment))


def value_text(value: float) -> str:
    """A metric's value: 0.9731, or 1.2e+12 for an error that needs no four decimals."""
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.3g}"


def _told(value: Reached) -> str:
    item = value.threshold
    return (
        f"{item.metric} of '{item.output}' on {rows_text(value)} is {value_text(value.value)}, "
        f"which misses {threshold_text(item)}"
    )


def _check_bounds(item: Acceptance) -> None:
    """A share has a minimum, an error a maximum, and neither the other."""
    wanted, other = ("minimum", "maximum") if item.metric in CLASSIFYING else ("maximum", "minimum")
    bound = getattr(item, wanted)
    if bound is None or not math.isfinite(bound) or getattr(item, other) is not None:
        raise SpecError(
            f"the threshold on {item.metric} of '{item.output}' must have a {wanted} and no {other}",
            remedy=f"give {wanted} = ...; "
            + ("larger is better" if wanted == "minimum" else "smaller is better"),
        )


def _check_classes(item: Acceptance, spec: TensorSpec, labels: Array | None) -> None:
    """One value a class, perhaps behind the leading 1 of a graph exported for one row."""
    if spec.shape[:-1] not in ((), (1,)) or spec.shape == ():
        raise SpecError(
            f"{item.metric} needs an output of one value a class; "
            f"'{item.output}' has shape {list(spec.shape)}",
            remedy="name the output that holds the scores",
        )
    if labels is None or labels.dtype != np.int64 or labels.ndim != 1:
        found = "none" if labels is None else f"{labels.dtype} {list(labels.shape)}"
        raise SpecError(
            f"{item.metric} needs the true classes of the held-out rows: 'label' is {found}",
            remedy="add an array 'label' (int64, one a row) to the held-out file",
        )
    classes = spec.shape[-1]
    if labels.min() < 0 or (classes != -1 and labels.max() >= classes):
        raise SpecError(
            f"labels go from {labels.min()} to {labels.max()}, "
            f"'{item.output}' has {classes} classes",
            remedy="number the classes from 0 in the order of the output",
        )


def _check_values(item: Acceptance, spec: TensorSpec, labels: Array | None) -> None:
    """As many true values a row as the output has; an axis of one may be left out."""
    if labels is None:
        raise SpecError(
            f"{item.metric} needs the true values of the held-out rows",
            remedy="add an array 'label' (float64, one a row) to the held-out file",
        )
    if _without_ones(spec.shape) != _without_ones(labels.shape[1:]) or -1 in spec.shape:
        raise SpecError(
            f"'{item.output}' has shape {list(spec.shape)} a row, 'label' {list(labels.shape[1:])}",
            remedy="save the true values in the shape of the output, the rows in front",
        )


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)
