"""Image recipes as passes: each pass resizes, normalises and lays out in one kernel call.

Knows: which kernel a run of steps needs and its constants. Rules: normalising is linear and resizing
averages, so every normalise of a pass, before its resize or after, folds into one scale and shift a
channel (computed in FP64, rounded to FP32 once); a second resize starts a second pass over an FP32
image between them. Leaves to others: the arithmetic (`steps`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from appliance.errors import RecipeError, RequestError
from appliance.recipe import BeforeStep, Layout, Normalise, Resize
from appliance.tensors import Array, TensorSpec
from runtime.kernels.compiled import FLAG, INTEGER, Kernel, compiled, integers, reads, writes
from runtime.kernels.letterbox import box_of
from runtime.kernels.scratch import Scratch, cast_into
from runtime.kernels.steps import normalise_image, resize_image


class ImagePasses:
    """The passes of one image input; making them compiles their kernels.

    UINT8 and FP32 images go into the first kernel as they are, others are cast first, one at a time.
    """

    def __init__(self, raw: TensorSpec, steps: Iterable[BeforeStep]) -> None:
        self._name = raw.name
        self._plans = _plans(steps)
        first = np.uint8 if raw.datatype.numpy == np.uint8 else np.float32
        takes = [np.dtype(first), *[np.dtype(np.float32)] * (len(self._plans) - 1)]
        self._passes = [_Pass(plan, dtype) for plan, dtype in zip(self._plans, takes, strict=True)]
        self._scratch = [Scratch() for _ in self._passes]

    def shape(self, sent: Sequence[Array]) -> tuple[int, ...]:
        """The shape made of images (rows, height, width, channels).

        Raises RequestError when an image has no pixel.
        """
        raw = sent[0].shape
        if 0 in raw[1:]:
            raise RequestError(
                f"input '{self._name}' is an image without pixels: {list(raw)}",
                remedy="send an image of at least one pixel",
            )
        for plan in self._plans:
            raw = (raw[0], *plan.shape(raw[1:]))
        return raw

    def run(self, sent: Sequence[Array], into: Array, placed: Array | None) -> None:
        """Make the FP32 images `into`, C-contiguous, of those sent, both with rows in front."""
        raw = sent[0]
        if len(self._passes) == 1 and raw.dtype == self._passes[0].takes:
            self._passes[0].run(raw, into)
            return
        for row in range(len(raw)):
            self._run_one(raw[row : row + 1], into[row : row + 1])

    def _run_one(self, image: Array, into: Array) -> None:
        if image.dtype != self._passes[0].takes:
            image = cast_into(image, self._scratch[0].take(image.shape))
        for at, step in enumerate(self._passes[:-1]):
            made = self._scratch[at + 1].take((1, *self._plans[at].shape(image.shape[1:])))
            step.run(image, made)
            image = made
        self._passes[-1].run(image, into)


@dataclass(slots=True)
class _Plan:
    """The steps of one pass: out = resized(x) * scale + shift, border where no image lies; FP64."""

    resize: Resize | None = None
    scale: Array = field(default_factory=lambda: np.ones(1))
    shift: Array = field(default_factory=lambda: np.zeros(1))
    border: Array = field(default_factory=lambda: np.zeros(1))
    chw: bool = False

    def normalise(self, step: Normalise) -> None:
        """Let `step` follow: y -> (y * scale - mean) / std."""
        mean, std = np.array(step.mean), np.array(step.std)
        self.scale = self.scale * step.scale / std
        self.shift = (self.shift * step.scale - mean) / std
        self.border = (self.border * step.scale - mean) / std

    def shape(self, image: tuple[int, ...]) -> tuple[int, ...]:
        """What becomes of an image of shape (height, width, channels)."""
        height, width, channels = image
        if self.resize is not None:
            height, width = self.resize.height, self.resize.width
        return (channels, height, width) if self.chw else (height, width, channels)


def _plans(steps: Iterable[BeforeStep]) -> list[_Plan]:
    plans = [_Plan()]
    for step in steps:
        match step:
            case Resize():
                if plans[-1].resize is not None:
                    plans.append(_Plan())
                plans[-1].resize = step
                plans[-1].border = np.array([step.fill])
            case Normalise():
                plans[-1].normalise(step)
            case Layout():
                plans[-1].chw = True
    return plans


class _Pass:
    """One kernel and its constants."""

    def __init__(self, plan: _Plan, takes: np.dtype[Any]) -> None:
        self.takes = takes
        self._resize, self._chw = plan.resize, plan.chw
        self._scale, self._shift, self._border = (
            _rounded(each) for each in (plan.scale, plan.shift, plan.border)
        )
        self._kernel = _kernel(plan, takes)

    def run(self, raw: Array, into: Array) -> None:
        """Images `raw` (rows, height, width, channels) to `into`, HWC or CHW, C-contiguous."""
        raw = np.require(raw, requirements=("C", "A"))
        rows, height, width, channels = raw.shape
        scale = _per_channel(self._scale, channels)
        shift = _per_channel(self._shift, channels)
        out = into.reshape((rows, -1), copy=False)
        if self._resize is None:
            pixels = raw.reshape(rows, height * width, channels)
            self._kernel(pixels, out, scale, shift, self._chw)
            return
        size = (self._resize.height, self._resize.width)
        box = box_of(self._resize, height, width)
        if box != (0, 0, *size):
            self._fill_border(into)
        lines = raw.reshape(rows, height, width * channels)
        self._kernel(lines, out, channels, size, box, scale, shift, self._chw)

    def _fill_border(self, into: Array) -> None:
        """Fill all of `into`; the kernel then writes the box over it."""
        into[...] = self._border[:, None, None] if self._chw else self._border


def _rounded(constants: Array) -> Array:
    """Constants as FP32. Raises RecipeError when the steps together leave its range."""
    with np.errstate(over="ignore"):
        rounded = constants.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise RecipeError(
            f"the image steps together give the constants {constants.tolist()}, which do not fit FP32",
            remedy="correct mean, std, scale and fill",
        )
    return rounded


def _per_channel(constants: Array, channels: int) -> Array:
    return constants if constants.size == channels else np.full(channels, constants[0])


def _kernel(plan: _Plan, takes: np.dtype[Any]) -> Kernel:
    image, out, constants = reads(takes, 3), writes(np.float32, 2), reads(np.float32, 1)
    if plan.resize is None:
        return compiled(normalise_image, image, out, constants, constants, FLAG)
    sides = (integers(2), integers(4))
    return compiled(resize_image, image, out, INTEGER, *sides, constants, constants, FLAG)
