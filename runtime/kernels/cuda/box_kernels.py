"""The kernels of boxes on the device: from a detector's heads to edges, and back to the sent image.

Knows: what one thread does to one box. Rules: see `runtime.kernels.cuda`; formulas and
orders are those of `box_steps`; what is FP64 there is a pair of FP32 numbers here (`pairs`). Leaves to others: which kernel a
step needs, grids and places (`boxes`), the best of them (`suppress_kernels`).
"""

# ruff: noqa: PLR0917  kernels take positions only

import numpy as np

from appliance.tensors import Array
from runtime.kernels.box_steps import edges
from runtime.kernels.cuda import gpu
from runtime.kernels.cuda.pairs import (
    HALF,
    ZERO,
    Single,
    exp_pair,
    product_of,
    sum_of,
)

FORM = 0  # of the boxes read; see `box_steps`
OBJECTNESS = 0  # 1 where a head has that value
VALUE, ANCHOR = 1, 1  # strides of a YOLO head are these times its anchors or its values
TILE = 32  # anchors and classes that a block turns over at once
TILE_CELLS = TILE * (TILE + 1)  # a line more than it holds: then no two threads ask one bank


def head_boxes(head: Array, boxes: Array, anchors: int, values: int, count: int) -> None:
    """One anchor a thread: the boxes of a YOLO head. head: rows of `values` * `anchors`, of FP16 or FP32.

    Value v of anchor a lies at v * anchors + a where VALUE is 1, else at a * values + v. boxes: FP32 (rows, anchors, 4);
    `count` = rows * anchors.
    """
    i = gpu.grid(1)
    if i < count:
        row, anchor = i // anchors, i % anchors
        value, each = (anchors, 1) if VALUE else (1, values)
        at = row * anchors * values + anchor * each
        a, b = np.float32(head[at]), np.float32(head[at + value])
        c, d = np.float32(head[at + 2 * value]), np.float32(head[at + 3 * value])
        left, upper, right, lower = edges(a, b, c, d, FORM)
        boxes[4 * i], boxes[4 * i + 1] = left, upper
        boxes[4 * i + 2], boxes[4 * i + 3] = right, lower


def head_scores(head: Array, scores: Array, anchors: int, values: int) -> None:
    """The scores of a YOLO head, times the objectness where there is one; see `head_boxes`.

    A block turns TILE anchors and TILE classes over in shared memory, so that reads and writes both run along lines. Blocks
    are TILE x 8 threads: along the first axis all tiles of a row's anchors and then the next row's, along the second
    the classes. scores: FP32 (rows, anchors, classes).
    """
    tile = gpu.shared.array(TILE_CELLS, np.float32)
    first = 4 + OBJECTNESS
    classes = values - first
    tiles = (anchors + TILE - 1) // TILE
    row = gpu.blockIdx.x // tiles
    anchor_at, class_at = (gpu.blockIdx.x - row * tiles) * TILE, gpu.blockIdx.y * TILE
    start = row * anchors * values
    x, y = gpu.threadIdx.x, gpu.threadIdx.y
    for k in range(y, TILE, 8):
        anchor, c = (anchor_at + x, class_at + k) if VALUE else (anchor_at + k, class_at + x)
        if anchor < anchors and c < classes:
            value, each = (anchors, 1) if VALUE else (1, values)
            score = np.float32(head[start + (first + c) * value + anchor * each])
            if OBJECTNESS:
                score *= np.float32(head[start + 4 * value + anchor * each])
            tile[(anchor - anchor_at) * (TILE + 1) + c - class_at] = score
    gpu.syncthreads()
    for k in range(y, TILE, 8):
        anchor, c = anchor_at + k, class_at + x
        if anchor < anchors and c < classes:
            scores[(row * anchors + anchor) * classes + c] = tile[k * (TILE + 1) + x]


def reform(given: Array, out: Array, count: int, width: Single, height: Single) -> None:
    """One box a thread: boxes of FORM as edges, x times `width` and y times `height`, as `box_steps.reform`."""
    i = gpu.grid(1)
    if i < count:
        a, b = np.float32(given[4 * i]), np.float32(given[4 * i + 1])
        c, d = np.float32(given[4 * i + 2]), np.float32(given[4 * i + 3])
        left, upper, right, lower = edges(a, b, c, d, FORM)
        out[4 * i], out[4 * i + 1] = left * width, upper * height
        out[4 * i + 2], out[4 * i + 3] = right * width, lower * height


def move_anchors(
    given: Array, anchors: Array, variances: Array, out: Array, per_row: int, count: int
) -> None:
    """One box a thread: boxes of an SSD head, as `box_steps.move_anchors`.

    Within a unit in the last place of the largest number on the way.
    anchors: (per_row, 4) pairs; variances: the pairs of centre and size.
    """
    i = gpu.grid(1)
    if i < count:
        anchor = i % per_row
        for axis in range(2):
            centre, centre_low = anchors[8 * anchor + 2 * axis], anchors[8 * anchor + 2 * axis + 1]
            size, size_low = anchors[8 * anchor + 4 + 2 * axis], anchors[8 * anchor + 5 + 2 * axis]
            shift, shift_low = product_of(
                np.float32(given[4 * i + axis]), ZERO, variances[0], variances[1]
            )
            shift, shift_low = product_of(shift, shift_low, size, size_low)
            centre, centre_low = sum_of(centre, centre_low, shift, shift_low)
            growth, growth_low = product_of(
                np.float32(given[4 * i + 2 + axis]), ZERO, variances[2], variances[3]
            )
            growth, growth_low = exp_pair(growth, growth_low)
            half, half_low = product_of(growth, growth_low, size * HALF, size_low * HALF)
            out[4 * i + axis] = sum_of(centre, centre_low, -half, -half_low)[0]
            out[4 * i + 2 + axis] = sum_of(centre, centre_low, half, half_low)[0]


def rescale(given: Array, placed: Array, out: Array, per_row: int, count: int) -> None:
    """One box a thread: boxes in pixels of the sent image, as `box_steps.rescale`; placed: (rows, 6) pairs."""
    i = gpu.grid(1)
    if i < count:
        at = 12 * (i // per_row)
        padding = True
        for side in range(4):
            padding = padding and np.float32(given[4 * i + side]) == ZERO
        for side in range(4):
            axis = side % 2
            scale, shift, end = at + 4 * axis, at + 4 * axis + 2, at + 8 + 2 * axis
            value, low = product_of(
                np.float32(given[4 * i + side]), ZERO, placed[scale], placed[scale + 1]
            )
            value, low = sum_of(value, low, placed[shift], placed[shift + 1])
            if padding or value < ZERO:
                value = ZERO
            # `min` would lose NaN on the device.
            out[4 * i + side] = placed[end] if placed[end] < value else value  # noqa: FURB136
