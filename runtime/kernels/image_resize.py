"""Resizing inside a pass: a method's kernel with its taps.

Knows: which kernel serves which method. Rules: the taps of the last picture's size are kept, so
that pictures of one size cost no tap and no memory. Leaves to others: what is done to the pixels
(`image_steps`), which pixels and weights (`image_taps`).
"""

from typing import Any, Protocol

import numpy as np

from appliance.recipe import Resize
from appliance.tensors import Array
from runtime.kernels.compiled import (
    INTEGER,
    NONE,
    Kernel,
    NumbaType,
    compiled,
    integers,
    reads,
    writes,
)
from runtime.kernels.image_steps import blend_image, convolve_image, weigh_image
from runtime.kernels.image_taps import (
    CUBIC,
    SUPPORT,
    TAPS,
    TAPS_FIXED,
    Axis,
    blend_taps,
    method_of,
    pair_taps,
    taps_most,
)
from runtime.kernels.lanes import LANES, WIDE
from runtime.kernels.placement import Placement
from runtime.kernels.scratch import Workspace

F, BYTE, WORD, INDEX = np.float32, np.uint8, np.int32, np.uint64


class Resizing(Protocol):
    """What fills a box with resized pixels."""

    def run(self, shared: tuple[Any, ...], raw: Array, channels: int, placed: Placement) -> None:
        """Run the kernel; `shared` are raw, out and what else all kernels of `image_steps` take.

        raw: (rows, height, width * channels).
        """


def resizing(
    step: Resize,
    *,
    of_bytes: bool,
    takes_bytes: bool,
    channels: int,
    types: tuple[NumbaType, ...],
) -> Resizing:
    """Compile what `step` needs; `types` are those of `Resizing.run`'s `shared`.

    takes_bytes: whether raw is UINT8; of_bytes: whether what is resized is UINT8 again.
    """
    method = method_of(step)
    if method is None:
        return Blending(types)
    if of_bytes and method in SUPPORT:
        return Convolving(method, types)
    paired = method == CUBIC and takes_bytes and channels <= LANES
    return Weighing(method, types, pair=channels if paired else None)


def line_floats(wide: int) -> int:
    """Values of a row of `wide` pixels, four lanes a pixel, padded to whole blocks."""
    return -(-wide // LANES) * LANES * LANES


class Blending:
    """Two taps a side."""

    def __init__(self, types: tuple[NumbaType, ...]) -> None:
        taps = (writes(INDEX, 1), writes(INDEX, 1), writes(F, 1))
        self._taps = compiled(blend_taps, integers(5), *taps)
        self._kernel = compiled(
            blend_image,
            *types,
            *[writes(F, 1)] * 2,
            *[reads(INDEX, 1), reads(INDEX, 1), reads(F, 1)] * 2,
        )
        self._work = Workspace()

    def run(self, shared: tuple[Any, ...], raw: Array, channels: int, placed: Placement) -> None:
        """See `Resizing`."""
        work = self._work
        key = (raw.shape[1], raw.shape[2], channels)
        if work.key != key:
            work.kept = (
                work.take("line", F, line_floats(placed.box[3])),
                work.take("row", F, raw.shape[2] + LANES),
                *self._axis(placed, 0, 1),
                *self._axis(placed, 1, channels),
            )
            work.key = key
        self._kernel(*shared, *work.kept)

    def _axis(self, placed: Placement, axis: int, stride: int) -> tuple[Array, Array, Array]:
        count = placed.box[2 + axis]
        low = self._work.take(f"low {axis}", INDEX, count)
        high = self._work.take(f"high {axis}", INDEX, count)
        weight = self._work.take(f"weight {axis}", F, count)
        self._taps(axis_of(placed, axis, stride), low, high, weight)
        return low, high, weight


class Weighing:
    """Any number of taps a side, in FP32; bytes with four taps a side and four channels at most in pairs."""

    def __init__(self, method: int, types: tuple[NumbaType, ...], *, pair: int | None) -> None:
        self._taps, fixed = Taps(method), TAPS_FIXED.get(method)
        self._fixed = tuple(range(fixed)) if fixed else None
        self._pair = tuple(range(pair)) if pair else None
        taps = (reads(INDEX, 2), reads(F, 2))
        made = (writes(INDEX, 2), writes(F, 2))
        self._pair_taps = compiled(pair_taps, integers(5), *taps, *made) if pair else None
        self._kernel = compiled(
            weigh_image,
            *types,
            *[writes(F, 1)] * 2,
            *taps * 2,
            integers(2),
            integers(fixed) if fixed else NONE,
            integers(pair) if pair else NONE,
        )
        self._work = Workspace()

    def run(self, shared: tuple[Any, ...], raw: Array, channels: int, placed: Placement) -> None:
        """See `Resizing`."""
        work = self._work
        key = (raw.shape[1], raw.shape[2], channels)
        if work.key != key:
            y_index, y_weight, _ = self._taps.make(work, placed, 0, 1)
            x_index, x_weight, _ = self._taps.make(work, placed, 1, channels)
            row = work.take("row", F, raw.shape[2] + 2 * WIDE)
            row[:] = 0.0
            span = (int(x_index.min()), int(x_index.max()) + channels)
            if self._pair_taps is not None:
                low = work.take("low", INDEX, len(x_index), 1)
                pairs = work.take("pairs", F, len(x_index), 2 * WIDE)
                self._pair_taps(axis_of(placed, 1, channels), x_index, x_weight, low, pairs)
                x_index, x_weight = low, pairs
            line = work.take("line", F, line_floats(placed.box[3]))
            work.kept = (line, row, y_index, y_weight, x_index, x_weight, span)
            work.key = key
        self._kernel(*shared, *work.kept, self._fixed, self._pair)


class Convolving:
    """Any number of taps a side, in Pillow's fixed point."""

    def __init__(self, method: int, types: tuple[NumbaType, ...]) -> None:
        self._taps = Taps(method)
        taps = [reads(INDEX, 2), reads(WORD, 2)] * 2
        buffers = (writes(BYTE, 1), writes(WORD, 1))
        self._kernel = compiled(
            convolve_image, *types, writes(F, 1), writes(BYTE, 1), *taps, integers(2), *buffers
        )
        self._work = Workspace()

    def run(self, shared: tuple[Any, ...], raw: Array, channels: int, placed: Placement) -> None:
        """See `Resizing`."""
        work = self._work
        key = (raw.shape[1], raw.shape[2], channels)
        if work.key != key:
            y_index, _, y_weight = self._taps.make(work, placed, 0, 1)
            x_index, _, x_weight = self._taps.make(work, placed, 1, channels)
            span, size = (int(y_index.min()), int(y_index.max()) + 1), placed.box[3] * LANES
            groups = -(-channels // LANES)
            work.kept = (
                work.take("line", F, line_floats(placed.box[3])),
                work.take("row", BYTE, raw.shape[2] + LANES),
                *(y_index, y_weight, x_index, x_weight, span),
                work.take("across", BYTE, groups * (span[1] - span[0]) * size),
                work.take("sums", WORD, size),
            )
            work.key = key
        self._kernel(*shared, *work.kept)


class Taps:
    """The taps of one method."""

    def __init__(self, method: int) -> None:
        self._method = method
        made = (writes(INDEX, 2), writes(F, 2), writes(WORD, 2), writes(np.float64, 1))
        self._kernel: Kernel = compiled(TAPS[method], INTEGER, integers(5), *made)

    def make(
        self, work: Workspace, placed: Placement, axis: int, stride: int
    ) -> tuple[Array, Array, Array]:
        """Indices, FP32 weights and fixed-point weights of one axis."""
        count, most = (
            placed.box[2 + axis],
            taps_most(self._method, placed.part[axis], placed.size[axis]),
        )
        index = work.take(f"index {axis}", INDEX, count, most)
        weight = work.take(f"weight {axis}", F, count, most)
        fixed = work.take(f"fixed {axis}", WORD, count, most)
        exact = work.take("exact", np.float64, most)
        self._kernel(self._method, axis_of(placed, axis, stride), index, weight, fixed, exact)
        return index, weight, fixed


def axis_of(placed: Placement, axis: int, stride: int) -> Axis:
    """What `image_taps` takes: axis 0 is the vertical one; `stride` is between two pixels on it."""
    return (placed.corner[axis], placed.part[axis], placed.size[axis], placed.first[axis], stride)
