"""The kernels of boxes: from a detector's heads to the best boxes, and back to the sent image.

Knows: arrays with rows in front in, the same out, one pass each. Rules: as `output_steps`: plain Python for
numba, nothing allocated, nothing checked; formulas are those of `appliance.recipe.boxes`. Leaves to
others: which kernel a step needs and its scratch (`boxes`) and compiling (`compiled`).
"""

# ruff: noqa: PLR0917, FBT001  numba calls take positions only
import math
from typing import TypeAlias

import numpy as np

from appliance.tensors import Array
from runtime.kernels.compiled import inlined
from runtime.kernels.ranking import best_first, offer

Single: TypeAlias = np.float32
XYXY, CXCYWH, XYWH, YXYX = 0, 1, 2, 3
ANCHORS_AT_ONCE = 16  # turned together, so that what is read and written stays in cache


@inlined
def edges(a: Single, b: Single, c: Single, d: Single, form: int) -> tuple[Single, ...]:
    """Left, upper, right, lower of the box a, b, c, d in `form`; FP32, each operation rounded."""
    if form == CXCYWH:
        wide, tall = c * np.float32(0.5), d * np.float32(0.5)
        return a - wide, b - tall, a + wide, b + tall
    if form == XYWH:
        return a, b, a + c, b + d
    if form == YXYX:
        return b, a, d, c
    return a, b, c, d


@inlined
def take_scores(head: Array, scores: Array, first: int, value: int, anchor: int) -> None:
    """Copy the values from `first` on of each anchor to `scores`; one of the strides is 1.

    The strides are those of a value and an anchor. Slices start at 0, which spares their loops a test for
    negative positions.
    """
    anchors, classes = scores.shape
    if value == 1:
        for i in range(anchors):
            for c in range(classes):
                scores[i, c] = head[i * anchor + first + c]
        return
    for start in range(0, anchors, ANCHORS_AT_ONCE):
        turned = scores[start : start + ANCHORS_AT_ONCE]
        for c in range(classes):
            of_class = head[(first + c) * value + start :]
            for i in range(len(turned)):
                turned[i, c] = of_class[i]


def split_head(
    head: Array,
    boxes: Array,
    scores: Array,
    strides: tuple[int, int],
    objectness: bool,
    form: int,
) -> None:
    """Boxes and scores of a YOLO head.

    head: (rows, values * anchors) FP32, value v of anchor a at v * strides[0] + a * strides[1]. boxes:
    (rows, anchors, 4), scores: (rows, anchors, classes), FP32.
    """
    rows, anchors, classes = scores.shape
    value, anchor = strides
    first = 4 + int(objectness)
    for r in range(rows):
        for i in range(anchors):
            at = i * anchor
            box = edges(
                head[r, at],
                head[r, at + value],
                head[r, at + 2 * value],
                head[r, at + 3 * value],
                form,
            )
            for side in range(4):
                boxes[r, i, side] = box[side]
        take_scores(head[r], scores[r], first, value, anchor)
        if objectness:
            for i in range(anchors):
                present = head[r, i * anchor + 4 * value]
                for c in range(classes):
                    scores[r, i, c] *= present


def reform(given: Array, out: Array, form: int, width: float, height: float) -> None:
    """Boxes of `form` as edges, x times `width` and y times `height`; given, out: (rows, boxes, 4) FP32."""
    for r in range(given.shape[0]):
        for i in range(given.shape[1]):
            left, upper, right, lower = edges(
                given[r, i, 0], given[r, i, 1], given[r, i, 2], given[r, i, 3], form
            )
            out[r, i, 0], out[r, i, 1] = left * width, upper * height
            out[r, i, 2], out[r, i, 3] = right * width, lower * height


def move_anchors(
    offsets: Array, anchors: Array, centre_variance: float, size_variance: float, out: Array
) -> None:
    """Boxes of an SSD head, FP64 rounded once.

    offsets, out: (rows, anchors, 4) FP32; anchors: (anchors, 4) FP64, centre x, y, width, height.
    """
    for r in range(offsets.shape[0]):
        for i in range(offsets.shape[1]):
            for axis in range(2):
                size = anchors[i, 2 + axis]
                shift = np.float64(offsets[r, i, axis]) * centre_variance
                growth = np.float64(offsets[r, i, 2 + axis]) * size_variance
                centre = anchors[i, axis] + shift * size
                half = size * np.exp(growth) * 0.5
                out[r, i, axis] = np.float32(centre - half)
                out[r, i, 2 + axis] = np.float32(centre + half)


@inlined
def overlap(box: Array, other: Array, iou_max: float) -> bool:
    """True when the IoU of two boxes is over `iou_max`; FP64, without a division."""
    x1, y1 = np.float64(box[0]), np.float64(box[1])
    x2, y2 = np.float64(box[2]), np.float64(box[3])
    u1, v1 = np.float64(other[0]), np.float64(other[1])
    u2, v2 = np.float64(other[2]), np.float64(other[3])
    common = max(min(x2, u2) - max(x1, u1), 0.0) * max(min(y2, v2) - max(y1, v1), 0.0)
    area = max(x2 - x1, 0.0) * max(y2 - y1, 0.0)
    other_area = max(u2 - u1, 0.0) * max(v2 - v1, 0.0)
    return common > iou_max * (area + other_area - common)


@inlined
def is_finite(box: Array) -> bool:
    """True when no edge is NaN or infinite."""
    return (
        math.isfinite(box[0])
        and math.isfinite(box[1])
        and math.isfinite(box[2])
        and math.isfinite(box[3])
    )


@inlined
def rank_candidates(
    boxes: Array,
    scores: Array,
    score_min: float,
    background: int,
    every_class: bool,
    best: Array,
    which: Array,
) -> int:
    """Fill `best` and `which` (anchor * classes + class) with one row's candidates, best first; how many.

    boxes: (anchors, 4), scores: (anchors, classes), FP32; best FP32 and which INT64 are equally long.
    """
    anchors, classes = scores.shape
    count = 0
    for i in range(anchors):
        chosen = -1
        for c in range(classes):
            score = scores[i, c]
            if score >= score_min and c != background:
                if every_class:
                    if is_finite(boxes[i]):
                        count = offer(best, which, count, score, i * classes + c)
                elif chosen < 0 or score > scores[i, chosen]:
                    chosen = c
        if chosen >= 0 and is_finite(boxes[i]):
            count = offer(best, which, count, scores[i, chosen], i * classes + chosen)
    best_first(best, which, count)
    return count


def suppress(
    boxes: Array,
    scores: Array,
    score_min: float,
    iou_max: float,
    background: int,
    every_class: bool,
    agnostic: bool,
    best: Array,
    which: Array,
    kept_boxes: Array,
    kept_scores: Array,
    kept_classes: Array,
    kept_count: Array,
) -> None:
    """Non-maximum suppression as `appliance.recipe.SuppressBoxes` says; background -1 is no class.

    boxes: (rows, anchors, 4), scores: (rows, anchors, classes), FP32. best FP32, which INT64:
    (candidates_max,) scratch. Kept: (rows, boxes_max, 4) and (rows, boxes_max) FP32, (rows, boxes_max)
    INT64, (rows, 1) INT64.
    """
    classes = scores.shape[2]
    for r in range(scores.shape[0]):
        count = rank_candidates(
            boxes[r], scores[r], score_min, background, every_class, best, which
        )
        kept = 0
        for at in range(count):
            if kept == kept_scores.shape[1]:
                break
            box, c = boxes[r, which[at] // classes], which[at] % classes
            covered = False
            for k in range(kept):
                rival = agnostic or kept_classes[r, k] == c
                if rival and overlap(box, kept_boxes[r, k], iou_max):
                    covered = True
                    break
            if not covered:
                kept_boxes[r, kept] = box
                kept_scores[r, kept] = best[at]
                kept_classes[r, kept] = c
                kept += 1
        kept_boxes[r, kept:] = 0.0
        kept_scores[r, kept:] = 0.0
        kept_classes[r, kept:] = -1
        kept_count[r, 0] = kept


def rescale(given: Array, placed: Array, out: Array) -> None:
    """Boxes in pixels of the sent image, clipped to it; four zeros stay zeros.

    given, out: (rows, boxes, 4) FP32; placed: (rows, 6) FP64, see `runtime.kernels.chain.Chain.before`.
    """
    for r in range(given.shape[0]):
        for i in range(given.shape[1]):
            padding = True
            for side in range(4):
                padding = padding and given[r, i, side] == 0.0
            for side in range(4):
                axis = side % 2
                value = np.float64(given[r, i, side])
                at = value * placed[r, 2 * axis] + placed[r, 2 * axis + 1]
                at = 0.0 if padding or at < 0.0 else at  # as written, NaN stays NaN
                out[r, i, side] = np.float32(min(at, placed[r, 4 + axis]))
