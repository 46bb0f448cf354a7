"""Parts of the drift vector on the device: each makes its columns as one FP32 tensor (rows, width).

Knows: which kernels a part of a layout needs. Rules: as `runtime.kernels.vector`: with a batch axis a vector a row, else one in
all; a part reads the engine's input or output as it lies on the device. Leaves to others: the arithmetic
(`vector_kernels`), which parts run on the device (`splitting`).

Equal to the CPU's vector: class, zeros and copied columns to the bit; mean and sharpness within 2**-22 of the largest
value; std within 2**-20 of it; PCA scores and residual within 2**-20 of the cells' length; confidence and probabilities within 3
units in the last place; the entropy within 2**-21 of the sum of its terms, and 2**-50. What is NaN or infinite
here is so there, but of values past 2**60, whose squares FP32 does not hold.
"""

import math
from collections.abc import Mapping
from typing import Final

from appliance.layout import (
    GRID_CELLS,
    ImageValues,
    OutputValues,
    ScoreValues,
    TableValues,
)
from appliance.layout import Part as LayoutPart
from appliance.tensors import TensorSpec
from runtime.gpu.program import Argument, Launch, Place, Whole
from runtime.kernels.cuda import KernelSource, Part, Shape
from runtime.kernels.cuda import vector_kernels as kernels
from runtime.kernels.cuda.launching import Plain, over_rows, over_values, pointer_to, source_of
from runtime.kernels.cuda.reducing import THREADS

VECTOR: Final = "vector:"  # in front of the column where a part's own begin


class VectorPart(Plain):
    """What all parts have: one tensor read, `width` columns made from column `at` on."""

    def __init__(self, part: LayoutPart, source: TensorSpec, at: int, *, batch_axis: bool) -> None:
        super().__init__((source.name,), (f"{VECTOR}{at}",))
        self._width, self._batch_axis = sum(1 for _ in part.values()), batch_axis

    def made(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[Shape, str]]:
        """The columns, FP32 (rows, width)."""
        return {self.makes[0]: ((self.rows(shapes), self._width), "float32")}

    def rows(self, shapes: Mapping[str, Shape]) -> int:
        """How many vectors are made."""
        return shapes[self.reads[0]][0] if self._batch_axis else 1


class CellPart(VectorPart):
    """Values of an image: a block a cell, then a block an image."""

    def __init__(
        self,
        part: ImageValues,
        source: TensorSpec,
        at: int,
        *,
        batch_axis: bool,
        threads: int = THREADS,
    ) -> None:
        """`threads` of a block that work on one cell: a power of two."""
        super().__init__(part, source, at, batch_axis=batch_axis)
        self._threads, self._pca = threads, part.mean + part.components
        self._components = len(part.component_rows())
        self._hwc = part.order == "HWC"
        pointer = pointer_to(source)
        self._cells = source_of(
            kernels.image_cells,
            (pointer, "float32*", "int32", "int32", "int32"),
            {"HWC": int(self._hwc), "THREADS": threads},
        )
        self._values = source_of(
            kernels.image_values,
            (pointer, "float32*", "float32*", "float32*", "int32", "int32", "int32", "int32"),
            {"THREADS": GRID_CELLS},
        )

    def kernels(self) -> tuple[KernelSource, ...]:
        """For the cells and for the images."""
        return self._cells, self._values

    def constants(self, shapes: Mapping[str, Shape]) -> bytes:  # noqa: ARG002
        """The PCA's centre and components."""
        return self._pca

    def scratch(self, shapes: Mapping[str, Shape]) -> int:
        """The cells' sums."""
        return 4 * kernels.SUMS * GRID_CELLS * self.rows(shapes)

    def launches(
        self,
        shapes: Mapping[str, Shape],
        places: Mapping[str, Place],
        constants_at: Place,
        scratch_at: Place,
    ) -> list[Launch]:
        """Sums, then values."""
        first, second, third = shapes[self.reads[0]][-3:]
        lengths = (third, first, second) if self._hwc else (first, second, third)
        sizes: tuple[Argument, ...] = tuple(Whole(length) for length in lengths)
        images, out = places[self.reads[0]], places[self.makes[0]]
        rows = self.rows(shapes)
        if rows == 0:
            return []
        cells = Launch(
            kernel=self._cells.name,
            grid=(rows, GRID_CELLS, 1),
            block=(self._threads, 1, 1),
            arguments=(images, scratch_at, *sizes),
        )
        given = images, scratch_at, constants_at, out, Whole(self._components)
        return [cells, *over_rows(self._values, rows, GRID_CELLS, *given, *sizes)]


class ScorePart(VectorPart):
    """Values of class scores: a block a row."""

    def __init__(
        self,
        part: ScoreValues,
        source: TensorSpec,
        at: int,
        *,
        batch_axis: bool,
        threads: int = THREADS,
    ) -> None:
        """`threads` of a block that work on one row: a power of two."""
        super().__init__(part, source, at, batch_axis=batch_axis)
        self._sizes: tuple[Argument, ...] = Whole(part.classes), Whole(part.probabilities)
        self._threads = threads
        self._source = source_of(
            kernels.score_values,
            (pointer_to(source), "float32*", "int32", "int32"),
            {"LOGITS": int(part.logits), "THREADS": threads},
        )

    def launches(
        self,
        shapes: Mapping[str, Shape],
        places: Mapping[str, Place],
        constants_at: Place,  # noqa: ARG002
        scratch_at: Place,  # noqa: ARG002
    ) -> list[Launch]:
        """One block a row."""
        read, made = places[self.reads[0]], places[self.makes[0]]
        return over_rows(self._source, self.rows(shapes), self._threads, read, made, *self._sizes)


class ColumnPart(VectorPart):
    """The first columns of a tensor."""

    def __init__(
        self,
        part: TableValues | OutputValues,
        source: TensorSpec,
        at: int,
        *,
        batch_axis: bool,
    ) -> None:
        super().__init__(part, source, at, batch_axis=batch_axis)
        self._source = source_of(
            kernels.columns, (pointer_to(source), "float32*", "int32", "int32", "int64")
        )

    def launches(
        self,
        shapes: Mapping[str, Shape],
        places: Mapping[str, Place],
        constants_at: Place,  # noqa: ARG002
        scratch_at: Place,  # noqa: ARG002
    ) -> list[Launch]:
        """One thread a column."""
        rows = self.rows(shapes)
        length = math.prod(shapes[self.reads[0]]) // max(rows, 1)
        arguments = places[self.reads[0]], places[self.makes[0]], Whole(length), Whole(self._width)
        return over_values(self._source, rows * self._width, *arguments)


def vector_part(part: LayoutPart, source: TensorSpec, at: int, *, batch_axis: bool) -> Part:
    """The device's part for a layout's `part`, whose columns begin at `at`, reading `source`."""
    match part:
        case ImageValues():
            return CellPart(part, source, at, batch_axis=batch_axis)
        case ScoreValues():
            return ScorePart(part, source, at, batch_axis=batch_axis)
        case TableValues() | OutputValues():  # pragma: no branch
            return ColumnPart(part, source, at, batch_axis=batch_axis)
