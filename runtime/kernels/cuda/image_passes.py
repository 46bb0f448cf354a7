"""One pass over pictures on a GPU: its kernels, its tables and its calls.

Knows: how a plan of `image_plan` becomes calls. Rules: constants, geometry and taps are those of the CPU's pass
(`image_pass`, `placement`, `image_tables`); a kernel's name says all that it was compiled for, so recipes share
kernels, and what differs between them lies in tables; a picture that keeps its size is placed, not resized. Leaves
to others: what is done in which pass (`image_plan`), the order of passes and where things lie (`images`).
"""

import math
from typing import NamedTuple, Protocol

import numpy as np

from runtime.gpu.program import Single, Whole
from runtime.kernels.cuda import KernelSource, Parameter, Shape
from runtime.kernels.cuda import image_kernels as kernels
from runtime.kernels.cuda.image_calls import At, Call, Form, Given, source_of, wholes
from runtime.kernels.cuda.image_resizes import Canvas, Sent, Work, resizing
from runtime.kernels.cuda.image_tables import Tables
from runtime.kernels.image_pass import byte_weights, float_weights, folded
from runtime.kernels.image_plan import Plan
from runtime.kernels.placement import Placement, whole

SINGLE: Parameter = "float32"
UNUSED_LEVELS = (1.0, 0.0, 0.0, 0.0)  # of kernels that do not quantise


class Fitted(NamedTuple):
    """A pass over pictures of one size.

    made: the shape of what becomes of one; between: scratch of each, in bytes; tables: constants that its calls read;
    read: values of each picture that are read at all.
    """

    calls: tuple[Call, ...]
    made: Shape
    between: int
    tables: bytes
    placed: Placement
    read: int


class Pass(Protocol):
    """What is done to pictures in one go."""

    gives: str  # the dtype of what it makes

    def kernels(self) -> tuple[KernelSource, ...]:
        """All that its calls may name."""

    def fit(self, image: Shape) -> Fitted:
        """For pictures of (height, width, channels). Raises RequestError when they do not fit a step."""


def pass_of(plan: Plan, takes: str, gives: str) -> Pass:
    """What `plan` says over pixels of dtype `takes`, its result as `gives`.

    Raises RecipeError when its constants leave FP32.
    """
    return PicturePass(plan, takes, gives) if plan.grey is None else GreyPass(plan, takes, gives)


class PicturePass:
    """Resize or place, normalise, quantise and lay out."""

    def __init__(self, plan: Plan, takes: str, gives: str) -> None:
        self.gives = gives
        self._plan, self._folded = plan, folded(plan)
        made, quantised = len(self._folded.picks), self._folded.levels is not None
        form = Form(takes, gives, plan.channels, made, plan.chw, plan.resizes_bytes, quantised)
        self._place = form._replace(rounds=False).source(kernels.place_image)
        self._resizing = None if plan.resize is None else resizing(plan, form)

    def kernels(self) -> tuple[KernelSource, ...]:
        """See `Pass`."""
        more = () if self._resizing is None else self._resizing.kernels()
        return (self._place, *more)

    def fit(self, image: Shape) -> Fitted:
        """See `Pass`."""
        height, width, channels = image
        placed, tables = self._plan.placement(height, width), Tables()
        canvas = self._canvas(placed, tables)
        sent = Sent(height * width * channels, width * channels)
        shown = placed.box[2] > 0 and placed.box[3] > 0
        if self._resizing is not None and placed.size != placed.part and shown:
            work = self._resizing.work(sent, placed, canvas, tables)
        else:
            down, across = (a + b for a, b in zip(placed.corner, placed.first, strict=True))
            call = canvas.call(self._place, At("raw"), *wholes(*sent, down, across))
            work = Work((call,), 0, placed.box[2] * placed.box[3] * channels)
        made, data = self._plan.shape(image), bytes(tables.data)
        return Fitted(work.calls, made, work.between, data, placed, work.read)

    def _canvas(self, placed: Placement, tables: Tables) -> Canvas:
        picks, scale, shift, border, levels = self._folded
        colours = np.stack([np.broadcast_to(each, picks.shape) for each in (scale, shift, border)])
        height, width = placed.canvas
        return Canvas(
            (width, height),
            (
                At("tables", tables.add(picks.astype(np.int32))),
                At("tables", tables.add(colours.astype(np.float32))),
                *wholes(height, width, *placed.box),
                *[Single(float(level)) for level in levels or UNUSED_LEVELS],
            ),
        )


class GreyPass:
    """Colour to grey."""

    def __init__(self, plan: Plan, takes: str, gives: str) -> None:
        assert plan.grey is not None
        self.gives = gives
        channels = {"CHANNELS": plan.channels}
        if takes == "uint8":
            self._kernel = source_of(kernels.grey_bytes, takes, gives, channels)
            weights, bits = byte_weights(plan.grey)
            self._weights: tuple[Whole | Single, ...] = wholes(*weights, bits)
        else:
            singles = {"first": SINGLE, "second": SINGLE, "third": SINGLE}
            self._kernel = source_of(kernels.grey_floats, takes, gives, channels, singles)
            self._weights = tuple(Single(float(each)) for each in float_weights(plan.grey))

    def kernels(self) -> tuple[KernelSource, ...]:
        """See `Pass`."""
        return (self._kernel,)

    def fit(self, image: Shape) -> Fitted:
        """See `Pass`."""
        height, width, _ = image
        front: tuple[Given, ...] = (At("raw"), At("out"), *wholes(height, width))
        call = Call(self._kernel.name, (width, height), (*front, *self._weights))
        placed, read = whole(height, width), math.prod(image)
        return Fitted((call,), (height, width, 1), 0, b"", placed, read)


class ReorderPass:
    """HWC to CHW, values of any datatype as they are."""

    def __init__(self, dtype: str, channels: int, *, chw: bool) -> None:
        self.gives, self._chw = dtype, chw
        words = f"uint{8 * np.dtype(dtype).itemsize}"
        self._kernel = source_of(
            kernels.reorder_image, words, words, {"MADE": channels, "CHW": int(chw)}
        )

    def kernels(self) -> tuple[KernelSource, ...]:
        """See `Pass`."""
        return (self._kernel,)

    def fit(self, image: Shape) -> Fitted:
        """See `Pass`."""
        height, width, channels = image
        arguments: tuple[Given, ...] = (At("raw"), At("out"), *wholes(height, width))
        made = (channels, height, width) if self._chw else image
        call = Call(self._kernel.name, (width, height), arguments)
        return Fitted((call,), made, 0, b"", whole(height, width), math.prod(image))
