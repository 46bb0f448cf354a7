"""The held-out rows as a bundle seals them: served inputs, true answers and segments.

Knows: their file form. Rules: equal rows give equal bytes. Leaves to others: what is computed from them
(`acceptance`), what labels and segments are (`truth`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from appliance.errors import BundleContent
from appliance.golden import arrays_to_bytes, load_arrays
from appliance.tensors import Array
from compiler.rows.truth import Truth, truth_from

_INPUT = "input/"
_PACK_AGAIN = "pack it again with this release"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Served inputs by name, each (rows, ...), and what else is known of the rows."""

    inputs: dict[str, Array]
    truth: Truth = field(default_factory=Truth)

    @property
    def rows(self) -> int:
        """How many rows."""
        return len(next(iter(self.inputs.values())))

    def part(self, rows: Array) -> "HeldOut":
        """The rows at the indices `rows`."""
        inputs = {name: array[rows] for name, array in self.inputs.items()}
        return HeldOut(inputs=inputs, truth=self.truth.part(rows))

    def requests(self, batch_max: int) -> Iterator[dict[str, Array]]:
        """All rows in order, as requests of at most `batch_max` rows; 0: one row without its axis."""
        for start in range(0, self.rows, batch_max or 1):
            rows = slice(start, start + batch_max) if batch_max else start
            yield {name: array[rows, ...] for name, array in self.inputs.items()}

    def to_bytes(self) -> bytes:
        """The rows as .npz bytes."""
        arrays = {_INPUT + name: array for name, array in self.inputs.items()}
        return arrays_to_bytes({**arrays, **self.truth.arrays()})

    @classmethod
    def load(cls, path: Path) -> "HeldOut":
        """Read the rows from a file of an extracted bundle. Raises BundleContent."""
        arrays = load_arrays(path, BundleContent)
        inputs = {
            name.removeprefix(_INPUT): arrays.pop(name)
            for name in sorted(arrays)
            if name.startswith(_INPUT)
        }
        rows = next((array.shape[0] for array in inputs.values() if array.ndim), 0)
        try:
            truth = truth_from(arrays, rows, BundleContent, where=path.name)
        except BundleContent as error:  # whoever builds can only ask for another bundle
            raise BundleContent(str(error), remedy=_PACK_AGAIN) from error
        if arrays or not inputs:
            raise BundleContent(
                f"{path.name} holds {sorted(arrays)}, which is no held-out row", remedy=_PACK_AGAIN
            )
        return cls(inputs=inputs, truth=truth)
