"""Steps after the engine that work on boxes: from a detector's heads to boxes in the sent image.

Knows: these after-steps and their parameters. Rules: see `step`; a box is left, upper, right and lower edge
in pixels of the prepared image until `rescale_boxes`; axes before the last two are rows; values are FP32,
FP16 and FP64 rounded to it first. Leaves to others: scores (`outputs`), computing them (`runtime.kernels`).
"""

from typing import Annotated, Literal, TypeAlias

import msgspec

from appliance.recipe.step import Finite, PositiveInt, Step
from appliance.tensors import TensorName

Positive = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Index = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Form = Literal["xyxy", "cxcywh", "xywh", "yxyx"]


class YoloBoxes(Step, frozen=True, kw_only=True, tag="yolo_boxes"):
    """Add outputs `boxes` FP32 [anchors, 4] and `scores` FP32 [anchors, classes], from a YOLO head.

    `tensor` is [values, anchors] when `order` is `values_first` (v8 and later), [anchors, values] when
    `anchors_first` (v5, v7). The values of an anchor are the four of a box in `form`, as `box_form` reads
    them, then with `objectness` that one, then a score a class, times the objectness, FP32.
    """

    tensor: TensorName
    order: Literal["values_first", "anchors_first"] = "values_first"
    objectness: bool = False
    form: Form = "cxcywh"
    boxes: TensorName
    scores: TensorName


class BoxForm(Step, frozen=True, kw_only=True, tag="box_form"):
    """Add output `output`: the boxes `tensor` [boxes, 4] of another form as edges, FP32 [boxes, 4].

    `xyxy` are the edges left, upper, right, lower; `yxyx` the same as upper, left, lower, right; `cxcywh`
    centre and size: left = cx - w / 2, right = cx + w / 2; `xywh` left upper corner and size: right = x + w.
    Then x is multiplied by `width` and y by `height`: the prepared image's where boxes are fractions of
    it. Each operation is rounded to FP32. NaN stays NaN.
    """

    tensor: TensorName
    form: Form
    width: Positive = 1.0
    height: Positive = 1.0
    output: TensorName


class AnchorGrid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The anchors of one feature map; see `AnchorBoxes`."""

    rows: Annotated[int, msgspec.Meta(ge=1, le=2048)]
    columns: Annotated[int, msgspec.Meta(ge=1, le=2048)]
    stride: Positive
    offset: Share = 0.5
    sizes: Annotated[
        tuple[tuple[Positive, Positive], ...], msgspec.Meta(min_length=1, max_length=64)
    ]


class AnchorBoxes(Step, frozen=True, kw_only=True, tag="anchor_boxes"):
    """Add output `output`: boxes of an SSD head, FP32 [anchors, 4], from `tensor` [anchors, 4].

    `tensor` holds tx, ty, tw, th for the anchors of `grids`, one grid after another. With an anchor's
    centre ax, ay and size aw, ah: centre x = ax + tx * centre_variance * aw, width = aw * exp(tw *
    size_variance), the same for y and height, then the edges. Computed in FP64, rounded to FP32 once;
    NaN stays NaN, what is too large becomes infinite.

    A grid is a feature map: `rows`, `columns`, `stride` (pixels of the prepared image from cell to cell),
    `offset` (0 to 1, of a cell, 0.5 when left out) and `sizes`, a list of [width, height] in pixels. Its
    anchors go row by row, in each cell one of each size; the centre of the cell in row i and column j is
    ((j + offset) * stride, (i + offset) * stride). For example { rows = 19, columns = 19, stride = 16, sizes
    = [[60, 60], [85, 42]] } has 722 anchors; together the grids have as many as `tensor`.
    """

    tensor: TensorName
    grids: Annotated[tuple[AnchorGrid, ...], msgspec.Meta(min_length=1, max_length=64)]
    centre_variance: Positive = 0.1
    size_variance: Positive = 0.2
    output: TensorName


class SuppressBoxes(Step, frozen=True, kw_only=True, tag="nms"):
    """Non-maximum suppression: the best of the boxes that overlap, at most `boxes_max` of them.

    From `boxes` [anchors, 4] and `scores` [anchors, classes] (or [anchors]: all of class 0). An anchor is a
    candidate for its best class (the first of equal ones), or with `every_class` for each class, never for
    class `background`, when its score is at least `score_min` (rounded to FP32) and its edges are
    finite; NaN is no score. The best `candidates_max` are taken by score, equal ones by anchor, then by
    class. One is kept unless it overlaps a kept one of its class (of any class when `agnostic`) by an
    IoU over `iou_max`. IoU = I / (A + B - I), with I the common area and A, B the areas, each side at
    least 0; 0 where both areas are 0; FP64.

    Adds, best first: `output` FP32 [boxes_max, 4], `output_scores` FP32 [boxes_max], `output_classes`
    INT64 [boxes_max], `output_count` INT64 [1]; behind the count boxes and scores are 0 and classes -1.
    """

    boxes: TensorName
    scores: TensorName
    score_min: Finite
    iou_max: Share
    boxes_max: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 100
    candidates_max: PositiveInt = 4096
    every_class: bool = False
    agnostic: bool = False
    background: Index | None = None
    output: TensorName
    output_scores: TensorName
    output_classes: TensorName
    output_count: TensorName


class RescaleBoxes(Step, frozen=True, kw_only=True, tag="rescale_boxes"):
    """Add output `output`: the boxes `tensor` [boxes, 4] in pixels of the image that the client sent.

    `image` names the engine input that was made of it; resize, letterbox, pad and crop are undone and the edges
    clipped to the image: x = min(max(x * scale + shift, 0), width), FP64, rounded to FP32 once. Four zeros,
    the padding of `nms`, stay zeros; NaN stays NaN.
    """

    tensor: TensorName
    image: TensorName
    output: TensorName


BoxStep: TypeAlias = YoloBoxes | BoxForm | AnchorBoxes | SuppressBoxes | RescaleBoxes
