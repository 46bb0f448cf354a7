"""Resizing inside a pass on a GPU: a method's kernels with its tables.

Knows: which kernels serve which method. Rules: few taps are summed where the pixel is made, which reads each old value
once a new one from the cache; a filter, whose taps grow with the picture, first sums one way into scratch and then the
other, in the order of the CPU's kernels. Leaves to others: what is around a resize (`image_passes`).
"""

from typing import NamedTuple, Protocol

import numpy as np

from appliance.tensors import Array, DataType
from runtime.kernels.cuda import KernelSource
from runtime.kernels.cuda import image_sums as sums
from runtime.kernels.cuda.image_calls import At, Call, Form, Given, wholes
from runtime.kernels.cuda.image_kernels import blend_image
from runtime.kernels.cuda.image_tables import (
    UNROLLED,
    BlendTables,
    PairTables,
    Tables,
    WeighTables,
    padded,
)
from runtime.kernels.image_plan import Plan
from runtime.kernels.image_taps import CUBIC, SUPPORT, TAPS_FIXED, method_of
from runtime.kernels.lanes import LANES
from runtime.kernels.placement import Placement


class Canvas(NamedTuple):
    """What the kernels that write a pass's result take in front: see `image_kernels`."""

    size: tuple[int, int]  # threads, across and down
    arguments: tuple[Given, ...]  # from `picks` to `high`

    def call(self, kernel: KernelSource, reads: At, *rest: Given) -> Call:
        """Of a kernel that takes the canvas's arguments behind what it reads and `out`."""
        return Call(kernel.name, self.size, (reads, At("out"), *self.arguments, *rest))


class Sent(NamedTuple):
    """The pictures that are read: values of each, and of a row."""

    size: int
    pitch: int


class Work(NamedTuple):
    """Calls in order; of each picture: bytes that lie between them, and values of it that are read at all."""

    calls: tuple[Call, ...]
    between: int
    read: int


class Resizing(Protocol):
    """What fills a box with resized pixels."""

    def kernels(self) -> tuple[KernelSource, ...]:
        """All that it may call."""

    def work(self, sent: Sent, placed: Placement, canvas: Canvas, tables: Tables) -> Work:
        """For pictures that lie so; adds to `tables`."""


def resizing(plan: Plan, form: Form) -> Resizing:
    """What resizes in the pass that `plan` says. Its resize must not be None."""
    assert plan.resize is not None
    method = method_of(plan.resize)
    if method is None:
        return Blending(form)
    if plan.resizes_bytes and method in SUPPORT:
        return Convolving(method, form)
    if method in TAPS_FIXED:
        paired = method == CUBIC and plan.takes is DataType.UINT8 and plan.channels <= LANES
        return Weighing(method, form, paired=paired)
    return Filtering(method, form)


class Blending:
    """Two taps a side."""

    def __init__(self, form: Form) -> None:
        self._channels = form.channels
        self._tables = BlendTables()
        self._kernel = form.source(blend_image)

    def kernels(self) -> tuple[KernelSource, ...]:
        """See `Resizing`."""
        return (self._kernel,)

    def work(self, sent: Sent, placed: Placement, canvas: Canvas, tables: Tables) -> Work:
        """See `Resizing`."""
        y_index, y_weight = self._tables.of(placed, 0, 1)
        x_index, x_weight = self._tables.of(placed, 1, self._channels)
        made = (y_index, y_weight, x_index.T, x_weight)
        where = [At("tables", tables.add(each)) for each in made]
        call = canvas.call(self._kernel, At("raw"), *wholes(*sent), *where)
        return Work((call,), 0, _read(y_index, x_index, self._channels))


class Weighing:
    """One or four taps a side in FP32; bytes of four channels at most in pairs, as on the CPU."""

    def __init__(self, method: int, form: Form, *, paired: bool) -> None:
        self._channels = form.channels
        self._tables = WeighTables(method)
        self._pairs = PairTables(method) if paired else None
        self._kernel = form.source(sums.weigh_image, TAPS=TAPS_FIXED[method], PAIRED=int(paired))

    def kernels(self) -> tuple[KernelSource, ...]:
        """See `Resizing`."""
        return (self._kernel,)

    def work(self, sent: Sent, placed: Placement, canvas: Canvas, tables: Tables) -> Work:
        """See `Resizing`."""
        y_index, y_weight = self._tables.of(placed, 0, 1)
        if self._pairs is None:
            x_index, x_weight = self._tables.of(placed, 1, self._channels)
        else:
            x_index, x_weight = self._pairs.across(placed, self._channels)
        made = (y_index, y_weight, x_index.T, x_weight.T)
        where = [At("tables", tables.add(each)) for each in made]
        call = canvas.call(self._kernel, At("raw"), *wholes(*sent), *where)
        return Work((call,), 0, _read(y_index, x_index, self._channels))


class Filtering:
    """Any number of taps a side in FP32: down into scratch, then across."""

    def __init__(self, method: int, form: Form) -> None:
        self._channels = form.channels
        self._tables = WeighTables(method)
        self._down = form.source(sums.weigh_down)
        self._across = form.source(sums.weigh_across)

    def kernels(self) -> tuple[KernelSource, ...]:
        """See `Resizing`."""
        return (self._down, self._across)

    def work(self, sent: Sent, placed: Placement, canvas: Canvas, tables: Tables) -> Work:
        """See `Resizing`."""
        y_index, y_weight = padded(*self._tables.of(placed, 0, 1))
        x_index, x_weight = self._tables.of(placed, 1, self._channels)
        first = int(x_index.min())
        span, tall = int(x_index.max()) + self._channels - first, len(y_index)
        down = Call(
            self._down.name,
            (span, tall),
            (
                At("raw"),
                At("between"),
                *wholes(*sent, first, span, tall, y_index.shape[1]),
                At("tables", tables.add(y_index)),
                At("tables", tables.add(y_weight)),
            ),
        )
        across = canvas.call(
            self._across,
            At("between"),
            *wholes(span, x_index.shape[1]),
            At("tables", tables.add((x_index - first).T)),
            At("tables", tables.add(x_weight.T)),
        )
        between = tall * span * np.dtype(np.float32).itemsize
        return Work((down, across), between, _read(y_index, x_index, self._channels))


class Convolving:
    """Any number of taps a side in Pillow's fixed point: across into scratch, then down."""

    def __init__(self, method: int, form: Form) -> None:
        self._channels = form.channels
        self._tables = WeighTables(method)
        self._by_words = form.channels == 3
        across = sums.convolve_words if self._by_words else sums.convolve_across
        self._across = form.source(across, {"x_weight": "int32*"})
        self._down = form.source(sums.convolve_down, {"y_weight": "int32*"})

    def kernels(self) -> tuple[KernelSource, ...]:
        """See `Resizing`."""
        return (self._across, self._down)

    def work(self, sent: Sent, placed: Placement, canvas: Canvas, tables: Tables) -> Work:
        """See `Resizing`."""
        y_index, y_weight = self._tables.of(placed, 0, 1, fixed=True)
        x_index, x_weight = self._tables.of(placed, 1, self._channels, fixed=True)
        first, wide = int(y_index.min()), len(x_index)
        rows = int(y_index.max()) + 1 - first
        begin, taps, turns = x_index.T, x_weight, x_index.shape[1]
        if self._by_words:
            begin, taps = self._tables.side_by_side(placed, self._channels)
            turns = taps.shape[1] // UNROLLED
        across = Call(
            self._across.name,
            (wide, rows),
            (
                At("raw"),
                At("between"),
                *wholes(*sent, first, rows, wide, turns),
                At("tables", tables.add(begin)),
                At("tables", tables.add(taps.T)),
            ),
        )
        down = canvas.call(
            self._down,
            At("between"),
            *wholes(rows, y_index.shape[1]),
            At("tables", tables.add(y_index - first)),
            At("tables", tables.add(y_weight)),
        )
        between = self._channels * rows * wide
        return Work((across, down), between, _read(y_index, x_index, self._channels))


def _read(y_index: Array, x_index: Array, channels: int) -> int:
    """Values of a picture that taps point to: of all rows that are read, from the first column to the last."""
    span = int(x_index.max()) + channels - int(x_index.min())
    return len(np.unique(y_index)) * span
