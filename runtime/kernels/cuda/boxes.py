"""Parts of boxes on the device.

Knows: which kernels a box step needs, over what grids and with what constants. Rules: axes before the last two are rows, as in
`runtime.kernels.boxes`; boxes and scores made are FP32. Leaves to others: the arithmetic (`box_kernels`), which
steps run on the device (`splitting`).

Equal to the CPU's steps: heads and forms to the bit; anchor boxes within a unit in the last place of the largest number on the
way; rescaled boxes within one of the larger of what is scaled and what is shifted; suppression as it says (`suppression`).
"""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.errors import EngineError
from appliance.recipe import (
    AnchorBoxes,
    BoxForm,
    BoxStep,
    RescaleBoxes,
    SuppressBoxes,
    YoloBoxes,
)
from appliance.tensors import Array, TensorSpec
from runtime.gpu.program import Launch, Place, Single, Whole
from runtime.kernels.boxes import EDGES, FORMS, anchors_of
from runtime.kernels.cuda import KernelSource, Parameter, Part, Shape, behind, blocks_for
from runtime.kernels.cuda import box_kernels as kernels
from runtime.kernels.cuda.launching import (
    Plain,
    over_values,
    pointer_to,
    source_of,
)
from runtime.kernels.cuda.pairs import pairs_of
from runtime.kernels.cuda.suppression import SuppressPart

TILE_ROWS: Final = 8  # threads in y that turn a tile over
PLACED: Final = (
    "placed:"  # in front of an engine input's name: where its images lie in what was sent
)


class HeadPart(Plain):
    """A YOLO head as boxes and scores."""

    def __init__(self, step: YoloBoxes, source: TensorSpec) -> None:
        super().__init__((step.tensor,), (step.boxes, step.scores))
        self._values_first = step.order == "values_first"
        self._values = source.shape[-2 if self._values_first else -1]
        self._first = EDGES + step.objectness
        constants = {
            "FORM": FORMS[step.form],
            "VALUE": int(self._values_first),
            "OBJECTNESS": int(step.objectness),
        }
        pointer = pointer_to(source)
        sizes: tuple[Parameter, ...] = ("int32", "int32")
        self._boxes = source_of(
            kernels.head_boxes, (pointer, "float32*", *sizes, "int64"), constants
        )
        self._scores = source_of(kernels.head_scores, (pointer, "float32*", *sizes), constants)

    def kernels(self) -> tuple[KernelSource, ...]:
        """For the boxes and for the scores."""
        return self._boxes, self._scores

    def made(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[Shape, str]]:
        """Boxes (..., anchors, 4) and scores (..., anchors, classes), FP32. Raises EngineError as `Part.made`."""
        lead, values, anchors = self._sizes(shapes)
        boxes, scores = (*lead, anchors, EDGES), (*lead, anchors, values - self._first)
        return {self.makes[0]: (boxes, "float32"), self.makes[1]: (scores, "float32")}

    def launches(
        self,
        shapes: Mapping[str, Shape],
        places: Mapping[str, Place],
        constants_at: Place,  # noqa: ARG002
        scratch_at: Place,  # noqa: ARG002
    ) -> list[Launch]:
        """One thread an anchor for the boxes, a block a tile for the scores."""
        lead, values, anchors = self._sizes(shapes)
        rows, classes = math.prod(lead), values - self._first
        sizes = Whole(anchors), Whole(values)
        head, boxes, scores = (places[name] for name in (*self.reads, *self.makes))
        launches = over_values(self._boxes, rows * anchors, head, boxes, *sizes)
        if launches and classes:
            tiles = rows * blocks_for(anchors, kernels.TILE), blocks_for(classes, kernels.TILE)
            block = kernels.TILE, TILE_ROWS, 1
            arguments = head, scores, *sizes
            launches.append(
                Launch(
                    kernel=self._scores.name,
                    grid=(*tiles, 1),
                    block=block,
                    arguments=arguments,
                )
            )
        return launches

    def _sizes(self, shapes: Mapping[str, Shape]) -> tuple[Shape, int, int]:
        *lead, first, second = shapes[self.reads[0]]
        values, anchors = (first, second) if self._values_first else (second, first)
        if values != self._values:
            raise _other_shape(self.reads[0], shapes[self.reads[0]])
        return tuple(lead), values, anchors


class FormPart(Plain):
    """Boxes of another form as edges."""

    def __init__(self, step: BoxForm, source: TensorSpec) -> None:
        super().__init__((step.tensor,), (step.output,))
        pointer = pointer_to(source)
        scales: tuple[Parameter, ...] = ("float32", "float32")
        self._source = source_of(
            kernels.reform, (pointer, "float32*", "int64", *scales), {"FORM": FORMS[step.form]}
        )
        self._scales = tuple(Single(float(np.float32(x))) for x in (step.width, step.height))

    def made(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[Shape, str]]:
        """The shape read, FP32. Raises EngineError as `Part.made`."""
        return {self.makes[0]: (_boxes_shape(self.reads[0], shapes), "float32")}

    def launches(
        self,
        shapes: Mapping[str, Shape],
        places: Mapping[str, Place],
        constants_at: Place,  # noqa: ARG002
        scratch_at: Place,  # noqa: ARG002
    ) -> list[Launch]:
        """One thread a box."""
        count = math.prod(_boxes_shape(self.reads[0], shapes)[:-1])
        read, made = places[self.reads[0]], places[self.makes[0]]
        return over_values(self._source, count, read, made, numbers=self._scales)


class AnchorPart(Plain):
    """Boxes of an SSD head; anchors and variances are constants."""

    def __init__(self, step: AnchorBoxes, source: TensorSpec) -> None:
        super().__init__((step.tensor,), (step.output,))
        self._anchors = np.concatenate([anchors_of(grid) for grid in step.grids])
        self._variances = np.array([step.centre_variance, step.size_variance])
        pointer = pointer_to(source)
        floats: tuple[Parameter, ...] = ("float32*",) * 3
        self._source = source_of(kernels.move_anchors, (pointer, *floats, "int32", "int64"))

    def constants(self, shapes: Mapping[str, Shape]) -> bytes:  # noqa: ARG002
        """The variances, then the anchors, as pairs."""
        return pairs_of(self._variances).tobytes() + pairs_of(self._anchors).tobytes()

    def made(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[Shape, str]]:
        """The shape read, FP32. Raises EngineError as `Part.made`."""
        shape = _boxes_shape(self.reads[0], shapes)
        if shape[-2] != len(self._anchors):
            raise _other_shape(self.reads[0], shape)
        return {self.makes[0]: (shape, "float32")}

    def launches(
        self,
        shapes: Mapping[str, Shape],
        places: Mapping[str, Place],
        constants_at: Place,
        scratch_at: Place,  # noqa: ARG002
    ) -> list[Launch]:
        """One thread a box. Raises EngineError as `Part.made`."""
        shape, _ = self.made(shapes)[self.makes[0]]
        anchors = behind(constants_at, self._variances.nbytes)
        arguments = places[self.reads[0]], anchors, constants_at, places[self.makes[0]]
        return over_values(
            self._source, math.prod(shape[:-1]), *arguments, Whole(len(self._anchors))
        )


class RescalePart(Plain):
    """Boxes in pixels of the sent image; reads where the images lie: FP32 (rows, 12), see `placed_pairs`."""

    def __init__(self, step: RescaleBoxes, source: TensorSpec) -> None:
        super().__init__((step.tensor, PLACED + step.image), (step.output,))
        pointer = pointer_to(source)
        floats: tuple[Parameter, ...] = ("float32*",) * 2
        self._source = source_of(kernels.rescale, (pointer, *floats, "int32", "int64"))

    def made(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[Shape, str]]:
        """The shape read, FP32. Raises EngineError as `Part.made`."""
        return {self.makes[0]: (_boxes_shape(self.reads[0], shapes), "float32")}

    def launches(
        self,
        shapes: Mapping[str, Shape],
        places: Mapping[str, Place],
        constants_at: Place,  # noqa: ARG002
        scratch_at: Place,  # noqa: ARG002
    ) -> list[Launch]:
        """One thread a box."""
        count = math.prod(_boxes_shape(self.reads[0], shapes)[:-1])
        # Without a batch axis all boxes are of the one image; with one, all of a row are of its image.
        per_row = count // max(shapes[self.reads[1]][0], 1)
        arguments = (places[name] for name in (*self.reads, *self.makes))
        return over_values(self._source, count, *arguments, Whole(per_row))


def box_part(step: BoxStep, specs: Mapping[str, TensorSpec]) -> Part:
    """The part of `step`; `specs` are the outputs before it, by name."""
    match step:
        case YoloBoxes():
            return HeadPart(step, specs[step.tensor])
        case BoxForm():
            return FormPart(step, specs[step.tensor])
        case AnchorBoxes():
            return AnchorPart(step, specs[step.tensor])
        case RescaleBoxes():
            return RescalePart(step, specs[step.tensor])
        case SuppressBoxes():  # pragma: no branch
            return SuppressPart(step, specs[step.boxes], specs[step.scores])


def placed_pairs(placed: Array) -> NDArray[np.float32]:
    """What RescalePart reads, FP32 (rows, 12), from what `Chain.before` writes, FP64 (rows, 6)."""
    return pairs_of(placed).reshape(len(placed), -1)


def _boxes_shape(name: str, shapes: Mapping[str, Shape]) -> Shape:
    """The shape of the boxes called `name`. Raises EngineError when they have not four edges."""
    if shapes[name][-1] != EDGES:
        raise _other_shape(name, shapes[name])
    return shapes[name]


def _other_shape(name: str, shape: Shape) -> EngineError:
    return EngineError(
        f"the engine returned another shape than its interface says in '{name}': {list(shape)}",
        remedy="build the version again from its bundle",
    )
