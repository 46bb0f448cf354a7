"""What is known of held-out rows beside their inputs: the true answers and the segments.

Knows: the arrays' names ('label', 'segment/NAME') and forms. Rules: a segment's values are texts or whole
numbers, kept as they sort; a label is a class or a measured value. Leaves to others: the inputs
(`samples`, `held_out`) and what is computed from them (`acceptance`).
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from appliance.errors import ApplianceError
from appliance.tensors import Array

LABEL, SEGMENT = "label", "segment/"
SEGMENT_VALUES_MAX = 256  # different values of one column
SEGMENT_CHARACTERS_MAX = 256  # of a column's name and of a value
_SHOWN_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Of each row: its label, int64 or float64 (rows, ...), if known, and its segments by column.

    A column is a numpy array of text (U) or int64, (rows,).
    """

    labels: Array | None = None
    segments: dict[str, Array] = field(default_factory=dict)

    def part(self, rows: Array) -> "Truth":
        """What is known of the rows at the indices `rows`."""
        return Truth(
            labels=None if self.labels is None else self.labels[rows],
            segments={name: column[rows] for name, column in self.segments.items()},
        )

    def arrays(self) -> dict[str, Array]:
        """All of it under the names in a file."""
        named = {SEGMENT + name: column for name, column in self.segments.items()}
        return named if self.labels is None else {**named, LABEL: self.labels}


def is_truth(name: str) -> bool:
    """True for an array that says something of a row beside its inputs."""
    return name == LABEL or name.startswith(SEGMENT)


def truth_from(
    arrays: dict[str, Array],
    rows: int,
    error: type[ApplianceError],
    *,
    where: str,
    inputs: Collection[str] = (),
) -> Truth:
    """Take labels and segments out of `arrays`, whatever is not an input; each must have `rows` rows.

    Raises `error` naming the file `where`, the array and what it must be.
    """
    names = [name for name in arrays if is_truth(name) and name not in inputs]
    taken = {name: arrays.pop(name) for name in names}
    try:
        labels = taken.pop(LABEL, None)
        truth = Truth(
            labels=None if labels is None else _labels(labels),
            segments={
                name.removeprefix(SEGMENT): _column(name, column) for name, column in taken.items()
            },
        )
    except _Unfit as unfit:
        raise error(f"{where}: {unfit}", remedy=unfit.remedy) from unfit
    counts = {name: len(array) for name, array in truth.arrays().items()}
    wrong = {name: count for name, count in counts.items() if count != rows}
    if wrong:
        raise error(
            f"{where}: there are {rows} rows of inputs and {wrong} of others",
            remedy="give every array the same rows",
        )
    return truth


class _Unfit(Exception):
    """An array that is no labels or no column, on its way to an error that names the file."""

    def __init__(self, what: str, *, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def _labels(labels: Array) -> Array:
    """Integers as int64, numbers as float64."""
    if labels.ndim and np.issubdtype(labels.dtype, np.integer):
        return labels.astype(np.int64)
    if labels.ndim and np.issubdtype(labels.dtype, np.floating):
        wide = labels.astype(np.float64)
        if np.isfinite(wide).all():
            return wide
    raise _Unfit(
        f"'{LABEL}' is {labels.dtype} {list(labels.shape)} or holds values that are not finite",
        remedy="save one class index a row, int64 [rows], or the true values, float64 [rows]",
    )


def _column(name: str, column: Array) -> Array:
    if column.ndim != 1 or column.dtype.kind not in "USiu":
        raise _Unfit(
            f"'{name}' is {column.dtype} {list(column.shape)}, not one text or integer a row",
            remedy="save the column as an array of text or int64, [rows]",
        )
    kept = _text(name, column) if column.dtype.kind in "US" else column.astype(np.int64)
    different = np.unique(kept)
    longest = max((len(str(value)) for value in different), default=0)
    if len(different) > SEGMENT_VALUES_MAX or max(longest, len(name)) > SEGMENT_CHARACTERS_MAX:
        raise _Unfit(
            f"'{name}' has {len(different)} different values, the longest of {longest} characters; "
            f"at most are {SEGMENT_VALUES_MAX} and {SEGMENT_CHARACTERS_MAX}",
            remedy="name groups of rows by the column, not single rows",
        )
    return kept


def _text(name: str, column: Array) -> Array:
    """The column as text of no more characters than it needs."""
    try:
        texts = np.char.decode(column, "utf-8") if column.dtype.kind == "S" else column
    except UnicodeDecodeError as cause:
        raise _Unfit(
            f"'{name}' holds bytes that are not UTF-8", remedy="save the column as text"
        ) from cause
    width = max(int(np.char.str_len(texts).max(initial=1)), 1)
    return texts.astype(f"<U{width}")


def shown(names: Collection[str]) -> str:
    """Some names for a message."""
    some = sorted(names)[:_SHOWN_MAX]
    return (f"{some}" if some else "none") + (" and others" if len(names) > len(some) else "")
