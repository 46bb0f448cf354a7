"""The drift vector's layout: which values are kept of each row, and from which tensors.

Knows: the parts a vector is made of, the names and kinds of their values, the PCA of images. Rules: a
layout is sealed in the bundle, so a vector in the log means the same for ever. Leaves to others:
computing vectors (`runtime.kernels.vector`), counting them (`appliance.bins`).

Array fields are `bytes`: little-endian float32, base64 in JSON.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.tensors import TensorName

Floats = NDArray[np.float32]

GRID_LENGTH = 8  # an image is pooled to GRID_LENGTH x GRID_LENGTH grey cells before its PCA
GRID_CELLS = GRID_LENGTH * GRID_LENGTH
COMPONENTS_MAX = 16
COLUMNS_MAX = 64  # columns of all tables together that enter the vector
CLASSES_MAX = 32  # class probabilities, or plain output columns, that enter the vector


class Kind(StrEnum):
    """How a value of the vector is counted."""

    CONTINUOUS = "continuous"
    CATEGORICAL = "categorical"


class VectorValue(NamedTuple):
    """One value of the drift vector: `tensor.value` and its kind."""

    name: str
    kind: Kind


class Sealed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Data that travels in the bundle."""


class ImageValues(Sealed, frozen=True, kw_only=True, tag_field="part", tag="image"):
    """Values of an image input: mean, std, sharpness, exact zeros, PCA scores, PCA residual.

    `mean` (64) and `components` (up to 16 x 64, orthonormal rows) belong to the 8 x 8 grey grid.
    """

    input: TensorName
    order: Literal["CHW", "HWC"]
    mean: bytes
    components: bytes

    def __post_init__(self) -> None:
        cells = 4 * GRID_CELLS
        if len(self.mean) != cells or len(self.components) % cells:
            raise ValueError(f"the PCA of '{self.input}' does not fit {GRID_CELLS} cells")
        if len(self.components) > COMPONENTS_MAX * cells:
            raise ValueError(f"the PCA of '{self.input}' has more than {COMPONENTS_MAX} components")

    def values(self) -> Iterator[VectorValue]:
        """The values in vector order."""
        scores = (f"pca_{i + 1}" for i in range(len(self.component_rows())))
        for value in ("mean", "std", "sharpness", "zeros", *scores, "residual"):
            yield VectorValue(f"{self.input}.{value}", Kind.CONTINUOUS)

    def component_rows(self) -> Floats:
        """The PCA's components, float32 (components, 64)."""
        return floats(self.components).reshape(-1, GRID_CELLS)


class TableValues(Sealed, frozen=True, kw_only=True, tag_field="part", tag="table"):
    """The first columns of a table input, as the engine takes them; `columns` names them."""

    input: TensorName
    columns: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=COLUMNS_MAX)]

    def values(self) -> Iterator[VectorValue]:
        """The values in vector order."""
        return (VectorValue(f"{self.input}.{name}", Kind.CONTINUOUS) for name in self.columns)


class ScoreValues(Sealed, frozen=True, kw_only=True, tag_field="part", tag="scores"):
    """Values of class scores: confidence, entropy, predicted class, first probabilities.

    `logits` says that the output becomes probabilities by softmax; `labels` may be empty.
    """

    output: TensorName
    logits: bool
    classes: Annotated[int, msgspec.Meta(ge=2)]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.labels and len(self.labels) != self.classes:
            raise ValueError(f"'{self.output}' has {self.classes} classes, not as many labels")

    def values(self) -> Iterator[VectorValue]:
        """The values in vector order."""
        yield VectorValue(f"{self.output}.confidence", Kind.CONTINUOUS)
        yield VectorValue(f"{self.output}.entropy", Kind.CONTINUOUS)
        yield VectorValue(f"{self.output}.class", Kind.CATEGORICAL)
        for index in range(self.probabilities):
            yield VectorValue(f"{self.output}.p({self.label(index)})", Kind.CONTINUOUS)

    @property
    def probabilities(self) -> int:
        """How many class probabilities are in the vector."""
        return min(self.classes, CLASSES_MAX)

    def label(self, category: int) -> str:
        """What class `category` is called."""
        return self.labels[category] if category < len(self.labels) else str(category)


class OutputValues(Sealed, frozen=True, kw_only=True, tag_field="part", tag="output"):
    """The first columns of another numeric output."""

    output: TensorName
    columns: Annotated[int, msgspec.Meta(ge=1, le=CLASSES_MAX)]

    def values(self) -> Iterator[VectorValue]:
        """The values in vector order."""
        names = (f"{self.output}[{column}]" for column in range(self.columns))
        return (VectorValue(name, Kind.CONTINUOUS) for name in names)


Part: TypeAlias = ImageValues | TableValues | ScoreValues | OutputValues


class VectorLayout(Sealed, frozen=True, kw_only=True):
    """What the drift vector holds, part after part; no parts means no drift features.

    `batch_axis` says that the engine's tensors have a row axis in front; without one, a run is one row.
    """

    batch_axis: bool
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise ValueError("two values of the drift vector share a name")

    def values(self) -> Iterator[VectorValue]:
        """The vector's values in order."""
        for part in self.parts:
            yield from part.values()

    @property
    def names(self) -> tuple[str, ...]:
        """The values' names in order."""
        return tuple(value.name for value in self.values())

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The values' kinds, parallel to `names`."""
        return tuple(value.kind for value in self.values())

    def label(self, name: str, category: int) -> str:
        """What `category` of the categorical value `name` is called."""
        for part in self.parts:
            if isinstance(part, ScoreValues) and name == f"{part.output}.class":
                return part.label(category)
        return str(category)


def floats(data: bytes) -> Floats:
    """The float32 values of an array field. Raises ValueError on a broken length."""
    return np.frombuffer(data, "<f4")
