"""When two answers to one request agree. Pure.

Knows: how an output's kind says what agreeing means. Rules: scores over classes agree where their largest
value is in the same place; whole numbers, truth values and texts agree where they are equal; other numbers
with a fraction have no such word, so only their largest difference is told. Row by row. Leaves to others:
which answers belong together (`tui.comparison`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from appliance.audit.payload import Tensor
from appliance.tensors import Array, DataType
from tui.recordtext import elements

Measure: TypeAlias = Literal["argmax", "equality", "difference"]
_FRACTIONS = (DataType.FP16, DataType.FP32, DataType.FP64)
_SCORES_AXES_MAX = 2  # rows and classes; boxes and pictures have more


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputAgreement:
    """How one output of two versions agrees over `rows` rows.

    `agreeing` rows agree, by `measure`; None for a measure that cannot say so. `difference_max` is the
    largest absolute difference of two numbers with a fraction, else None; `reshaped` rows had another shape or
    datatype, and neither agree nor have a difference.
    """

    output: str
    measure: Measure
    rows: int
    agreeing: int | None
    reshaped: int
    difference_max: float | None


@dataclass(slots=True)
class _Found:
    measure: Measure
    rows: int = 0
    agreeing: int = 0
    reshaped: int = 0
    difference_max: float | None = None


class Outputs:
    """The agreement of every output, answer by answer."""

    def __init__(self) -> None:
        self._found: dict[str, _Found] = {}

    def add(self, ours: Sequence[Tensor], theirs: Sequence[Tensor], *, rows: int) -> None:
        """Compare two answers to one request of `rows` rows; an output that one lacks counts as reshaped."""
        others = {tensor.name: tensor for tensor in theirs}
        for tensor in ours:
            measure = _measure(tensor, rows)
            found = self._found.setdefault(tensor.name, _Found(measure))
            other = others.get(tensor.name)
            parts = _rows(tensor, rows)
            found.rows += parts
            if other is None or (other.datatype, other.shape) != (tensor.datatype, tensor.shape):
                found.reshaped += parts
            else:
                _compare(found, tensor, other, parts)

    def found(self) -> tuple[OutputAgreement, ...]:
        """Every output in the order of the answers."""
        return tuple(
            OutputAgreement(
                output=name,
                measure=item.measure,
                rows=item.rows,
                agreeing=None if item.measure == "difference" else item.agreeing,
                reshaped=item.reshaped,
                difference_max=item.difference_max,
            )
            for name, item in self._found.items()
        )


def _compare(found: _Found, ours: Tensor, theirs: Tensor, parts: int) -> None:
    left, right = _values(ours, parts), _values(theirs, parts)
    if found.measure == "argmax":
        found.agreeing += int((left.argmax(axis=1) == right.argmax(axis=1)).sum())
    else:
        found.agreeing += int((left == right).all(axis=1).sum())
    if ours.datatype in _FRACTIONS and left.size:
        found.difference_max = max(found.difference_max or 0.0, _difference(left, right))


def _difference(left: Array, right: Array) -> float:
    """The largest absolute difference; infinite where only one is a number."""
    ours, theirs = left.astype(np.float64), right.astype(np.float64)
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(ours - theirs))
    return float(np.where(np.isnan(apart), np.inf, apart).max())


def _measure(tensor: Tensor, rows: int) -> Measure:
    if tensor.datatype not in _FRACTIONS:
        return "equality"
    classes = np.prod(tensor.shape, dtype=int) // max(1, _rows(tensor, rows))
    scores = len(tensor.shape) <= _SCORES_AXES_MAX and classes > 1
    return "argmax" if scores else "difference"


def _rows(tensor: Tensor, rows: int) -> int:
    """In how many parts the tensor is compared: its rows where it has the request's, else one."""
    return rows if tensor.shape and tensor.shape[0] == rows else 1


def _values(tensor: Tensor, parts: int) -> Array:
    """The tensor's values, part by part: shape (parts, values)."""
    if tensor.datatype is DataType.BYTES:
        values: Array = np.array(elements(tensor.data), dtype=object)
    else:
        values = np.frombuffer(tensor.data, tensor.datatype.numpy)
    return values.reshape(parts, -1) if parts else values.reshape(0, 1)
