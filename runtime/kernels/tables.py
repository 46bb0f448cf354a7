"""Table recipes as one pass: a short program of operations for each column that is made.

Knows: what each table step does to the programs. Rules: steps are followed in their order, whatever it
is; constants are rounded to FP32. Leaves to others: running the programs (`steps.run_table`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from appliance.recipe import BeforeStep, Impute, InputRecipe, OneHot, Select, Standardise
from appliance.tensors import Array
from runtime.kernels.compiled import compiled, reads, writes
from runtime.kernels.scratch import Scratch, cast_into
from runtime.kernels.steps import EQUALS, FILL, STANDARDISE, run_table

Operation: TypeAlias = tuple[int, float, float]


class TableProgram:
    """Tables of any numeric datatype in, FP32 out; anything but FP32 is cast first."""

    def __init__(self, item: InputRecipe) -> None:
        columns = _programs(item)
        operations = [operation for column in columns for operation in column.operations]
        self._source = np.array([column.source for column in columns], np.int64)
        self._first = np.cumsum(
            [0, *(len(column.operations) for column in columns)], dtype=np.int64
        )
        self._operation = np.array([kind for kind, _, _ in operations], np.int64)
        self._left = np.array([left for _, left, _ in operations], np.float32)
        self._right = np.array([right for _, _, right in operations], np.float32)
        table, indices, numbers = reads(np.float32, 2), reads(np.int64, 1), reads(np.float32, 1)
        self._kernel = compiled(
            run_table, table, writes(np.float32, 2), indices, indices, indices, numbers, numbers
        )
        self._scratch = Scratch()

    def shape(self, sent: Sequence[Array]) -> tuple[int, ...]:
        """The shape made of a table (rows, raw columns)."""
        return (len(sent[0]), len(self._source))

    def run(self, sent: Sequence[Array], into: Array, placed: Array | None) -> None:  # noqa: ARG002
        """Make the FP32 table `into`, C-contiguous, of the one sent."""
        raw = sent[0]
        if raw.dtype != np.float32:
            raw = cast_into(raw, self._scratch.take(raw.shape))
        self._kernel(
            np.require(raw, requirements=("C", "A")),
            into,
            self._source,
            self._first,
            self._operation,
            self._left,
            self._right,
        )


class Selection:
    """Columns picked from a table of any datatype, not cast."""

    def __init__(self, item: InputRecipe) -> None:
        self._source = [column.source for column in _programs(item)]

    def shape(self, sent: Sequence[Array]) -> tuple[int, ...]:
        """The shape made of a table (rows, raw columns)."""
        return (len(sent[0]), len(self._source))

    def run(self, sent: Sequence[Array], into: Array, placed: Array | None) -> None:  # noqa: ARG002
        """Copy the columns of the table sent into `into`."""
        into[...] = sent[0][:, self._source]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One column being made: its name, the raw column it starts as, what is done to it."""

    name: str
    source: int
    operations: tuple[Operation, ...] = ()

    def then(self, kind: int, left: float, right: float = 0.0) -> "_Column":
        return replace(self, operations=(*self.operations, (kind, left, right)))


def _programs(item: InputRecipe) -> list[_Column]:
    columns = [_Column(name=name, source=at) for at, name in enumerate(item.columns)]
    for step in item.steps:
        columns = list(_followed_by(step, columns))
    return columns


def _followed_by(step: BeforeStep, columns: list[_Column]) -> Iterable[_Column]:
    named = {column.name: column for column in columns}
    match step:
        case Select():
            return (named[name] for name in step.columns)
        case Impute():
            named |= {name: named[name].then(FILL, value) for name, value in step.values.items()}
        case Standardise():
            for name, mean, std in zip(step.columns, step.mean, step.std, strict=True):
                named[name] = named[name].then(STANDARDISE, mean, std)
        case OneHot():
            return (hot for column in columns for hot in _hot(step, column))
    return named.values()


def _hot(step: OneHot, column: _Column) -> list[_Column]:
    """What a one-hot step makes of one column; others it leaves alone."""
    if column.name != step.column:
        return [column]
    made = zip(step.names, step.categories, strict=True)
    return [replace(column.then(EQUALS, category), name=name) for name, category in made]
