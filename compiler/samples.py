"""The engineer's rows: sample and held-out data, read and checked before anything is computed from them.

Knows: the form of the data files (.npz, one array an input, rows first). Rules: names, types, shapes and
row counts must be those of the spec, and every refusal says which array and what was expected. Leaves to
others: what is made of the rows (`reference`, `pack`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from appliance.errors import SpecError
from appliance.golden import arrays_to_bytes, load_arrays
from appliance.recipe import Recipe
from appliance.tensors import Array, Interface, TensorSpec, datatype_of

LABEL = "label"
FILE_BYTES_MAX = 4 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Raw rows by input name, each array (rows, *raw shape); `labels` int64 (rows,), if there are any."""

    inputs: dict[str, Array]
    labels: Array | None

    @property
    def count(self) -> int:
        """How many rows."""
        return len(next(iter(self.inputs.values())))

    def sha256(self) -> str:
        """SHA-256 of the inputs as .npz bytes, 64 hex digits."""
        return hashlib.sha256(arrays_to_bytes(self.inputs)).hexdigest()

    def part(self, rows: slice) -> "Rows":
        """Some of the rows, without their labels."""
        return Rows(inputs={name: array[rows] for name, array in self.inputs.items()}, labels=None)


def raw_specs(recipe: Recipe, engine: Interface) -> list[TensorSpec]:
    """What one raw row is made of: the recipe's raw inputs, the engine's own where it has none."""
    items = [(recipe.input_for(spec.name), spec) for spec in engine.inputs]
    return [spec if item is None else item.raw for item, spec in items]


def read_rows(path: Path, specs: list[TensorSpec]) -> Rows:
    """Read raw rows that fit `specs`, and labels when there is an array called "label".

    Raises SpecError naming file and array.
    """
    if path.is_file() and path.stat().st_size > FILE_BYTES_MAX:
        raise SpecError(f"{path} has more than {FILE_BYTES_MAX} bytes", remedy="give fewer rows")
    arrays = load_arrays(path, SpecError)
    wanted = {spec.name for spec in specs}
    if set(arrays) - {LABEL} != wanted - {LABEL} or not wanted <= set(arrays):
        raise SpecError(
            f"{path} holds {sorted(arrays)}, the model takes {sorted(wanted)}",
            remedy="save one array an input under its raw name, and the labels as 'label'",
        )
    for spec in specs:
        _check(path, spec, arrays[spec.name])
    labels = None if LABEL in wanted else arrays.pop(LABEL, None)
    rows = Rows(inputs={name: arrays[name] for name in sorted(wanted)}, labels=labels)
    _check_counts(path, rows)
    return rows if labels is None else replace(rows, labels=labels.astype(np.int64))


def _check(path: Path, spec: TensorSpec, array: Array) -> None:
    fits = array.ndim > 0 and spec.fits(array.shape[1:])
    if datatype_of(array.dtype) is not spec.datatype or not fits:
        raise SpecError(
            f"{path}: '{spec.name}' is {array.dtype} {list(array.shape)}, "
            f"the spec says {spec.datatype.numpy} {['rows', *spec.shape]}",
            remedy="save the rows as clients send them, with the rows in front",
        )


def _check_counts(path: Path, rows: Rows) -> None:
    arrays: Mapping[str, Array] = rows.inputs
    if rows.labels is not None:
        arrays = {**arrays, LABEL: rows.labels}
        if rows.labels.ndim != 1 or not np.issubdtype(rows.labels.dtype, np.integer):
            raise SpecError(
                f"{path}: 'label' is {rows.labels.dtype} {list(rows.labels.shape)}",
                remedy="save one class index a row, int64 [rows]",
            )
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1 or not rows.count:
        raise SpecError(
            f"{path}: the arrays have {counts} rows",
            remedy="give every array the same rows, 1 or more",
        )
