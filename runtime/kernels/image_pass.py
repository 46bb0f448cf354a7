"""One pass over pictures: its kernels and its constants.

Knows: how a plan becomes one kernel call, and the constants of its kernels, on the CPU and on a GPU. Rules:
only the kernels that a plan needs are compiled; a picture that keeps its size is placed, not resized.
Leaves to others: what a pass does (`image_plan`), resizing (`image_resize`), the arithmetic (`image_steps`).
"""

from typing import Any, NamedTuple, Protocol

import numpy as np

from appliance.errors import RecipeError
from appliance.recipe import Colour, Quantise
from appliance.tensors import Array, DataType
from runtime.kernels.compiled import INTEGER, NONE, compiled, integers, reads, singles, writes
from runtime.kernels.grey_steps import grey_bytes, grey_floats
from runtime.kernels.image_plan import Plan
from runtime.kernels.image_resize import resizing
from runtime.kernels.image_steps import Levels, place_image
from runtime.kernels.lanes import LANES
from runtime.kernels.placement import Placement
from runtime.kernels.scratch import Workspace

F = np.float32
BOUNDS = {"UINT8": (0.0, 255.0), "INT8": (-128.0, 127.0)}
GREY_BYTES = {"pillow": ((19595, 38470, 7471), 16), "opencv": ((9798, 19235, 3735), 15)}
GREY_FLOATS = (0.299, 0.587, 0.114)


class Pass(Protocol):
    """What a plan does to pictures; calls from several threads are safe."""

    def run(self, raw: Array, into: Array, placed: Placement) -> None:
        """Images `raw` (rows, height, width, channels) to `into`, C-contiguous, as `Plan.shape` says."""


def pass_of(plan: Plan) -> Pass:
    """Compile what `plan` needs. Raises RecipeError when its constants leave FP32."""
    return GreyPass(plan.grey, plan.takes) if plan.grey is not None else PicturePass(plan)


class Folded(NamedTuple):
    """The constants of a plan's kernels: INT64 and FP32, (made,) each; `border` may be one value for all.

    picks, scale, shift, levels: as `image_steps` says; `border` is quantised where levels are.
    """

    picks: Array
    scale: Array
    shift: Array
    border: Array
    levels: Levels | None


def folded(plan: Plan) -> Folded:
    """Round what `plan` folded to FP32. Raises RecipeError when it leaves FP32."""
    picks = np.array(plan.picks or range(plan.channels), np.int64)
    scale, shift = (
        np.ascontiguousarray(np.broadcast_to(_rounded(constants), picks.shape))
        for constants in (plan.scale, plan.shift)
    )
    levels = None if plan.quantise is None else _levels(plan.quantise)
    border = _rounded(plan.border)
    border = border if levels is None else _quantised(border, levels)
    return Folded(picks, scale, shift, border, levels)


class PicturePass:
    """Resize or place, normalise, quantise and lay out."""

    def __init__(self, plan: Plan) -> None:
        self._chw = plan.chw
        self._picks, self._scale, self._shift, self._border, self._levels = folded(plan)
        self._rounds = 1 if plan.resizes_bytes else None
        types = (
            reads(plan.takes.numpy, 3),
            writes(plan.gives.numpy, 2),
            integers(plan.channels),
            integers(6),
            INTEGER if plan.chw else NONE,
            NONE if self._rounds is None else INTEGER,
            NONE if self._levels is None else singles(4),
            reads(np.int64, 1),
            *[reads(F, 1)] * 2,
            writes(F, 1),
        )
        self._place = compiled(place_image, *types, integers(2))
        self._resizing = (
            None
            if plan.resize is None
            else resizing(
                plan.resize,
                of_bytes=plan.resizes_bytes,
                takes_bytes=plan.takes is DataType.UINT8,
                channels=plan.channels,
                types=types,
            )
        )
        self._pixel = tuple(range(plan.channels))
        self._work = Workspace()

    def run(self, raw: Array, into: Array, placed: Placement) -> None:
        """See `Pass`."""
        raw = np.require(raw, requirements=("C", "A"))
        rows, height, width, channels = raw.shape
        box = placed.box
        _, _, tall, wide = box
        if (tall, wide) != placed.canvas:
            self._fill_border(into if self._chw else np.moveaxis(into, 3, 1), placed)
        if tall == 0 or wide == 0:
            return
        raw = raw.reshape(rows, height, width * channels)
        shared = (
            raw,
            into.reshape((rows, -1), copy=False),
            self._pixel,
            (*placed.canvas, *box),
            1 if self._chw else None,
            self._rounds,
            self._levels,
            self._picks,
            self._scale,
            self._shift,
            self._work.take("planes", F, (channels + LANES) * (wide + LANES)),
        )
        if placed.size != placed.part and self._resizing is not None:
            self._resizing.run(shared, raw, channels, placed)
            return
        corner = tuple(a + b for a, b in zip(placed.corner, placed.first, strict=True))
        self._place(*shared, corner)

    def _fill_border(self, canvas: Array, placed: Placement) -> None:
        """Fill what lies around the box of `canvas` (rows, channels, height, width)."""
        top, left, tall, wide = placed.box
        border = self._border[:, None, None]
        if tall == 0 or wide == 0:
            canvas[...] = border
            return
        canvas[:, :, :top] = border
        canvas[:, :, top + tall :] = border
        canvas[:, :, top : top + tall, :left] = border
        canvas[:, :, top : top + tall, left + wide :] = border


def byte_weights(step: Colour) -> tuple[tuple[int, int, int], int]:
    """The weights of the channels in their order for grey of UINT8, and how many bits are their fraction."""
    (red, green, blue), bits = GREY_BYTES[step.like]
    return ((blue, green, red) if step.order == "BGR" else (red, green, blue)), bits


def float_weights(step: Colour) -> tuple[np.float32, np.float32, np.float32]:
    """The weights of the channels in their order for grey of FP32."""
    red, green, blue = (F(weight) for weight in GREY_FLOATS)
    return (blue, green, red) if step.order == "BGR" else (red, green, blue)


class GreyPass:
    """Colour to grey."""

    def __init__(self, step: Colour, datatype: DataType) -> None:
        raw, out = reads(datatype.numpy, 1), writes(datatype.numpy, 1)
        if datatype is DataType.UINT8:
            self._constants: tuple[Any, ...] = byte_weights(step)
            self._kernel = compiled(grey_bytes, raw, out, INTEGER, integers(3), INTEGER)
        else:
            self._constants = (float_weights(step),)
            self._kernel = compiled(grey_floats, raw, out, INTEGER, singles(3))

    def run(self, raw: Array, into: Array, placed: Placement) -> None:  # noqa: ARG002
        """See `Pass`."""
        raw = np.require(raw, requirements=("C", "A"))
        out = into.reshape(-1, copy=False)
        self._kernel(raw.reshape(-1), out, raw.shape[3], *self._constants)


def _levels(step: Quantise) -> Levels:
    """What `image_steps.finish_line` takes."""
    low, high = BOUNDS[step.datatype]
    return (F(step.scale), F(step.zero_point), F(low), F(high))


def _quantised(values: Array, levels: Levels) -> Array:
    step, zero, low, high = levels
    quantised: Array = np.clip(np.rint(values / step) + zero, low, high)
    return quantised


def _rounded(constants: Array) -> Array:
    """Constants as FP32. Raises RecipeError when the steps together leave its range."""
    with np.errstate(over="ignore"):
        rounded = constants.astype(F)
    if not np.isfinite(rounded).all():
        raise RecipeError(
            f"the image steps together give the constants {constants.tolist()}, which do not fit FP32",
            remedy="correct mean, std, scale and fill",
        )
    return rounded
