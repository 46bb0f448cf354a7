"""One pass over pictures: its kernels and its constants.

Knows: how a plan becomes one kernel call. Rules: only the kernels that a plan needs are compiled; a
picture that keeps its size is placed, not resized. Leaves to others: what a pass does (`image_plan`),
resizing (`image_resize`), the arithmetic (`image_steps`).
"""

from typing import Any, Protocol

import numpy as np

from appliance.errors import RecipeError
from appliance.recipe import Colour, Quantise
from appliance.tensors import Array, DataType
from runtime.kernels.compiled import INTEGER, compiled, integers, reads, singles, writes
from runtime.kernels.image_plan import Plan
from runtime.kernels.image_resize import resizing
from runtime.kernels.image_steps import Finish, grey_bytes, grey_floats, place_image
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


class PicturePass:
    """Resize or place, normalise, quantise and lay out."""

    def __init__(self, plan: Plan) -> None:
        self._chw, self._picks = plan.chw, plan.picks
        self._scale, self._shift = _rounded(plan.scale), _rounded(plan.shift)
        self._finish = _finish(plan.quantise, rounds=plan.resizes_bytes)
        border = _rounded(plan.border)
        self._border = border if plan.quantise is None else _quantised(border, self._finish)
        raw, out = reads(plan.takes.numpy, 3), writes(plan.gives.numpy, 2)
        numbers = reads(F, 1)
        shared = (singles(6), reads(np.int64, 1), numbers, numbers, writes(F, 1))
        self._place = compiled(place_image, raw, out, integers(8), integers(2), *shared)
        types = (raw, out, integers(8), *shared)
        self._resizing = (
            None
            if plan.resize is None
            else resizing(plan.resize, of_bytes=plan.resizes_bytes, types=types)
        )
        self._constants: dict[int, tuple[Array, Array, Array]] = {}
        self._work = Workspace()

    def run(self, raw: Array, into: Array, placed: Placement) -> None:
        """See `Pass`."""
        raw = np.require(raw, requirements=("C", "A"))
        rows, height, width, channels = raw.shape
        top, left, tall, wide = placed.box
        if (tall, wide) != placed.canvas:
            self._fill_border(into if self._chw else np.moveaxis(into, 3, 1), placed)
        if tall == 0 or wide == 0:
            return
        lines, out = (
            raw.reshape(rows, height, width * channels),
            into.reshape((rows, -1), copy=False),
        )
        frame = (channels, *placed.canvas, top, left, tall, wide, int(self._chw))
        planes = self._work.take("planes", F, (channels + LANES) * (wide + LANES))
        constants = (self._finish, *self._per_channel(channels), planes)
        if placed.size != placed.part and self._resizing is not None:
            self._resizing.run(lines, out, frame, constants, placed)
            return
        corner = tuple(a + b for a, b in zip(placed.corner, placed.first, strict=True))
        self._place(lines, out, frame, corner, *constants)

    def _per_channel(self, channels: int) -> tuple[Array, Array, Array]:
        """Which channels are made of `channels`, their scale and their shift."""
        if channels not in self._constants:
            picks = np.array(self._picks or range(channels), np.int64)
            self._constants[channels] = (
                picks,
                np.ascontiguousarray(np.broadcast_to(self._scale, picks.shape)),
                np.ascontiguousarray(np.broadcast_to(self._shift, picks.shape)),
            )
        return self._constants[channels]

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


class GreyPass:
    """Colour to grey."""

    def __init__(self, step: Colour, datatype: DataType) -> None:
        raw, out = reads(datatype.numpy, 1), writes(datatype.numpy, 1)
        turn = -1 if step.order == "BGR" else 1
        if datatype is DataType.UINT8:
            weights, bits = GREY_BYTES[step.like]
            self._constants: tuple[Any, ...] = (weights[::turn], bits)
            self._kernel = compiled(grey_bytes, raw, out, INTEGER, integers(3), INTEGER)
        else:
            self._constants = (tuple(F(weight) for weight in GREY_FLOATS[::turn]),)
            self._kernel = compiled(grey_floats, raw, out, INTEGER, singles(3))

    def run(self, raw: Array, into: Array, placed: Placement) -> None:  # noqa: ARG002
        """See `Pass`."""
        raw = np.require(raw, requirements=("C", "A"))
        out = into.reshape(-1, copy=False)
        self._kernel(raw.reshape(-1), out, raw.shape[3], *self._constants)


def _finish(step: Quantise | None, *, rounds: bool) -> Finish:
    """What `image_steps.finish_line` takes."""
    if step is None:
        return (F(rounds), F(0), F(1), F(0), F(0), F(0))
    low, high = BOUNDS[step.datatype]
    return (F(rounds), F(1), F(step.scale), F(step.zero_point), F(low), F(high))


def _quantised(values: Array, finish: Finish) -> Array:
    _, _, step, zero, low, high = finish
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
