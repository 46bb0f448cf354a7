"""The held-out rows as a bundle seals them: served inputs and true classes.

Knows: their file form. Rules: equal rows give equal bytes. Leaves to others: what is computed from them
(`acceptance`).
"""

from dataclasses import dataclass
from pathlib import Path

from appliance.errors import BundleContent
from appliance.golden import arrays_to_bytes, load_arrays
from appliance.tensors import Array

_INPUT, _LABEL = "input/", "label"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Served inputs by name, each (rows, ...), and labels int64 (rows,) when there are any."""

    inputs: dict[str, Array]
    labels: Array | None

    @property
    def rows(self) -> int:
        """How many rows."""
        return len(next(iter(self.inputs.values())))

    def to_bytes(self) -> bytes:
        """The rows as .npz bytes."""
        arrays = {_INPUT + name: array for name, array in self.inputs.items()}
        return arrays_to_bytes(arrays if self.labels is None else {**arrays, _LABEL: self.labels})

    @classmethod
    def load(cls, path: Path) -> "HeldOut":
        """Read the rows from a file of an extracted bundle. Raises BundleContent."""
        arrays = load_arrays(path, BundleContent)
        labels = arrays.pop(_LABEL, None)
        return cls(
            inputs={name.removeprefix(_INPUT): array for name, array in arrays.items()},
            labels=labels,
        )
