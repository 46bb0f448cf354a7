"""Box steps as kernels: what each needs to run, its constants and its scratch.

Knows: how boxes of any axes become rows for a kernel. Rules: axes before the last two are rows; nothing is
allocated in a request but what is added, as candidates are ranked in memory that each thread keeps.
Leaves to others: the arithmetic (`box_steps`).
"""

import math
import threading
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from appliance.errors import EngineError
from appliance.recipe import (
    AnchorBoxes,
    AnchorGrid,
    BoxForm,
    BoxStep,
    RescaleBoxes,
    SuppressBoxes,
    YoloBoxes,
)
from appliance.tensors import Array, TensorSpec
from runtime.kernels.box_steps import (
    CXCYWH,
    XYWH,
    XYXY,
    YXYX,
    move_anchors,
    reform,
    rescale,
    split_head,
    suppress,
)
from runtime.kernels.compiled import (
    DOUBLE,
    FLAG,
    INTEGER,
    SINGLE,
    NumbaType,
    compiled,
    integers,
    reads,
    writes,
)
from runtime.kernels.scratch import floats_of

Outputs: TypeAlias = Mapping[str, Array]
EDGES = 4
FORMS = {"xyxy": XYXY, "cxcywh": CXCYWH, "xywh": XYWH, "yxyx": YXYX}
READ, MADE = reads(np.float32, 3), writes(np.float32, 3)


class SplitHead:
    """A YOLO head as boxes and scores."""

    def __init__(self, step: YoloBoxes, source: TensorSpec) -> None:
        self._step = step
        self._values_first = step.order == "values_first"
        self._values = source.shape[-2 if self._values_first else -1]
        self._kernel = compiled(
            split_head, reads(np.float32, 2), MADE, MADE, integers(2), FLAG, INTEGER
        )

    def run(self, outputs: Outputs, placed: Outputs) -> dict[str, Array]:  # noqa: ARG002
        """The outputs, boxes and scores."""
        step, head = self._step, floats_of(outputs[self._step.tensor])
        *lead, first, second = head.shape
        values, anchors = (first, second) if self._values_first else (second, first)
        assert values == self._values, f"'{step.tensor}' has {head.shape}"
        boxes = np.empty((*lead, anchors, EDGES), np.float32)
        scores = np.empty((*lead, anchors, values - EDGES - step.objectness), np.float32)
        strides = (anchors, 1) if self._values_first else (1, values)
        self._kernel(
            head.reshape(math.prod(lead), values * anchors),
            as_rows(boxes),
            as_rows(scores),
            strides,
            step.objectness,
            FORMS[step.form],
        )
        return {**outputs, step.boxes: boxes, step.scores: scores}


class Reformed:
    """Boxes of another form as edges."""

    def __init__(self, step: BoxForm) -> None:
        self._step = step
        self._scale = np.float32(step.width), np.float32(step.height)
        self._kernel = compiled(reform, READ, MADE, INTEGER, SINGLE, SINGLE)

    def run(self, outputs: Outputs, placed: Outputs) -> dict[str, Array]:  # noqa: ARG002
        """The outputs and the boxes."""
        given = boxes_of(outputs, self._step.tensor)
        made = np.empty_like(given)
        self._kernel(as_rows(given), as_rows(made), FORMS[self._step.form], *self._scale)
        return {**outputs, self._step.output: made}


class MovedAnchors:
    """Boxes of an SSD head."""

    def __init__(self, step: AnchorBoxes) -> None:
        self._step = step
        self._anchors = np.concatenate([anchors_of(grid) for grid in step.grids])
        self._kernel = compiled(move_anchors, READ, reads(np.float64, 2), DOUBLE, DOUBLE, MADE)

    def run(self, outputs: Outputs, placed: Outputs) -> dict[str, Array]:  # noqa: ARG002
        """The outputs and the boxes."""
        step, given = self._step, boxes_of(outputs, self._step.tensor)
        assert given.shape[-2] == len(self._anchors), f"'{step.tensor}' has {given.shape}"
        made = np.empty_like(given)
        self._kernel(
            as_rows(given), self._anchors, step.centre_variance, step.size_variance, as_rows(made)
        )
        return {**outputs, step.output: made}


class Suppressed:
    """The best of overlapping boxes."""

    def __init__(self, step: SuppressBoxes, *, with_classes: bool) -> None:
        self._step, self._with_classes = step, with_classes
        self._candidates = Candidates(step.candidates_max)
        scratch: tuple[NumbaType, NumbaType] = writes(np.float32, 1), writes(np.int64, 1)
        kept = MADE, writes(np.float32, 2), writes(np.int64, 2), writes(np.int64, 2)
        options = SINGLE, DOUBLE, INTEGER, FLAG, FLAG
        self._kernel = compiled(suppress, READ, READ, *options, *scratch, *kept)

    def run(self, outputs: Outputs, placed: Outputs) -> dict[str, Array]:  # noqa: ARG002
        """The outputs and the boxes that are kept, with their scores, classes and count."""
        step, boxes = self._step, boxes_of(outputs, self._step.boxes)
        scores = floats_of(outputs[step.scores])
        scores = scores if self._with_classes else scores[..., None]
        lead = boxes.shape[:-2]
        if scores.shape[:-1] != boxes.shape[:-1]:  # of an open number of boxes
            raise EngineError(
                f"the model gave boxes of shape {list(boxes.shape)} in '{step.boxes}' and scores of "
                f"shape {list(scores.shape)} in '{step.scores}'",
                remedy="correct the model: both outputs must tell of the same boxes",
            )
        kept_boxes = np.empty((*lead, step.boxes_max, EDGES), np.float32)
        kept_scores = np.empty((*lead, step.boxes_max), np.float32)
        kept_classes = np.empty((*lead, step.boxes_max), np.int64)
        count = np.empty((*lead, 1), np.int64)
        rows = math.prod(lead)
        self._kernel(
            as_rows(boxes),
            as_rows(scores),
            np.float32(step.score_min),
            step.iou_max,
            -1 if step.background is None else step.background,
            step.every_class,
            step.agnostic,
            self._candidates.scores,
            self._candidates.indices,
            as_rows(kept_boxes),
            kept_scores.reshape(rows, step.boxes_max),
            kept_classes.reshape(rows, step.boxes_max),
            count.reshape(rows, 1),
        )
        return {
            **outputs,
            step.output: kept_boxes,
            step.output_scores: kept_scores,
            step.output_classes: kept_classes,
            step.output_count: count,
        }


class Candidates(threading.local):
    """Where one thread ranks candidates."""

    def __init__(self, length: int) -> None:
        self.scores = np.empty(length, np.float32)
        self.indices = np.empty(length, np.int64)


class Rescaled:
    """Boxes in the sent image."""

    def __init__(self, step: RescaleBoxes) -> None:
        self._step = step
        self._kernel = compiled(rescale, READ, reads(np.float64, 2), MADE)

    def run(self, outputs: Outputs, placed: Outputs) -> dict[str, Array]:
        """The outputs and the boxes."""
        given, places = boxes_of(outputs, self._step.tensor), placed[self._step.image]
        made = np.empty_like(given)
        # Without a batch axis all boxes are of the one image; with one, all of a row are of its image.
        shape = (len(places), given.size // (EDGES * len(places)), EDGES)
        self._kernel(given.reshape(shape), places, made.reshape(shape))
        return {**outputs, self._step.output: made}


BoxMaker: TypeAlias = SplitHead | Reformed | MovedAnchors | Suppressed | Rescaled


def box_maker(step: BoxStep, specs: Mapping[str, TensorSpec]) -> BoxMaker:
    """Compile what `step` needs; `specs` are the outputs before it, by name."""
    match step:
        case YoloBoxes():
            return SplitHead(step, specs[step.tensor])
        case BoxForm():
            return Reformed(step)
        case AnchorBoxes():
            return MovedAnchors(step)
        case SuppressBoxes():
            of_class = len(specs[step.scores].shape) == len(specs[step.boxes].shape)
            return Suppressed(step, with_classes=of_class)
        case RescaleBoxes():  # pragma: no branch
            return Rescaled(step)


def boxes_of(outputs: Outputs, name: str) -> Array:
    """The boxes called `name`, FP32 (..., boxes, 4)."""
    boxes = floats_of(outputs[name])
    assert boxes.shape[-1] == EDGES, f"'{name}' has {boxes.shape}"
    return boxes


def as_rows(array: Array) -> Array:
    """A view (rows, n, m) of an array (..., n, m)."""
    *lead, n, m = array.shape
    return array.reshape((math.prod(lead), n, m), copy=False)


def anchors_of(grid: AnchorGrid) -> Array:
    """Centre x, centre y, width and height of each anchor of `grid` in its order, FP64 (anchors, 4)."""
    y, x = np.mgrid[: grid.rows, : grid.columns].reshape(2, -1, 1)
    sizes = np.array(grid.sizes)
    anchors = np.empty((grid.rows * grid.columns, len(sizes), EDGES))
    anchors[..., 0] = (x + grid.offset) * grid.stride
    anchors[..., 1] = (y + grid.offset) * grid.stride
    anchors[..., 2:] = sizes
    return anchors.reshape(-1, EDGES)
