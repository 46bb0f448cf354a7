"""The engineer's rows: sample and held-out data, read and checked before anything is computed from them.

Knows: the form of the data files (.npz, one array an input, rows first; texts as numpy's `U` or `S`). Rules: names, types, shapes and
row counts must be those of the spec, and every refusal says which array and what was expected. Leaves to
others: what is made of the rows (`reference`, `packing`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appliance import fitting
from appliance.errors import SpecError
from appliance.golden import arrays_to_bytes, load_arrays
from appliance.recipe import Recipe
from appliance.tensors import Array, DataType, Interface, TensorSpec, datatype_of
from appliance.texts import texts_from_numpy
from compiler.rows.truth import Truth, is_truth, truth_from

FILE_BYTES_MAX = 4 << 30
_TEXT_KINDS = "US"  # numpy's dtypes of text
_NUMPY_NAMES = {DataType.BYTES: "text (dtype U or S)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Raw rows by input name, each array (rows, *raw shape), and what else is known of them."""

    inputs: dict[str, Array]
    truth: Truth = field(default_factory=Truth)

    @property
    def count(self) -> int:
        """How many rows."""
        return len(next(iter(self.inputs.values())))

    def sha256(self) -> str:
        """SHA-256 of the inputs as .npz bytes, 64 hex digits."""
        return hashlib.sha256(arrays_to_bytes(self.inputs)).hexdigest()

    def part(self, rows: slice) -> "Rows":
        """Some of the rows, without their labels and segments."""
        return Rows(inputs={name: array[rows] for name, array in self.inputs.items()})


def raw_specs(recipe: Recipe, engine: Interface) -> list[TensorSpec]:
    """What one raw row is made of: the recipe's raw inputs, the engine's own where it has none."""
    return [
        raw
        for spec in engine.inputs
        for raw in fitting.raw_specs(recipe.input_for(spec.name), spec)
    ]


def read_rows(path: Path, specs: list[TensorSpec]) -> Rows:
    """Read raw rows that fit `specs`, and their labels and segments (see `truth`) where there are any.

    Raises SpecError naming file and array.
    """
    if path.is_file() and path.stat().st_size > FILE_BYTES_MAX:
        raise SpecError(f"{path} has more than {FILE_BYTES_MAX} bytes", remedy="give fewer rows")
    arrays = load_arrays(path, SpecError)
    wanted = {spec.name for spec in specs}
    if not wanted <= set(arrays) or any(not is_truth(name) for name in set(arrays) - wanted):
        raise SpecError(
            f"{path} holds {sorted(arrays)}, the model takes {sorted(wanted)}",
            remedy="save one array an input under its raw name, labels as 'label', "
            "a column of segments as 'segment/NAME'",
        )
    for spec in specs:
        if spec.datatype is DataType.BYTES and arrays[spec.name].dtype.kind in _TEXT_KINDS:
            arrays[spec.name] = texts_from_numpy(arrays[spec.name])
        _check(path, spec, arrays[spec.name])
    inputs = {name: arrays[name] for name in sorted(wanted)}
    _check_counts(path, inputs)
    count = len(next(iter(inputs.values())))
    truth = truth_from(arrays, count, SpecError, where=str(path), inputs=wanted)
    return Rows(inputs=inputs, truth=truth)


def _check(path: Path, spec: TensorSpec, array: Array) -> None:
    fits = array.ndim > 0 and spec.fits(array.shape[1:])
    if datatype_of(array.dtype) is not spec.datatype or not fits:
        raise SpecError(
            f"{path}: '{spec.name}' is {array.dtype} {list(array.shape)}, "
            f"the spec says {_NUMPY_NAMES.get(spec.datatype, spec.datatype.numpy)} "
            f"{['rows', *spec.shape]}{f', within {spec.lengths()}' if spec.ranges else ''}",
            remedy="save the rows as clients send them, with the rows in front",
        )


def _check_counts(path: Path, arrays: Mapping[str, Array]) -> None:
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise SpecError(
            f"{path}: the arrays have {counts} rows",
            remedy="give every array the same rows, 1 or more",
        )
