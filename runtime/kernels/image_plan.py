"""Image recipes as passes: which steps one kernel call can do together.

Knows: what may be fused without changing what comes out beyond a stated rounding. Rules:
normalising is linear and weights add up to 1, so that every normalise of a pass, before its resize
or after, folds into one scale and shift a channel (computed in FP64, rounded to FP32 once); crops
and borders are a matter of where a picture lies; a second resize, a border of another value, what
follows a quantise and a grey start a new pass over an image in scratch. Leaves to others: kernels
(`image_pass`), sizes (`placement`).
"""

from dataclasses import dataclass, field

import numpy as np

from appliance.errors import RecipeError
from appliance.fitting import Prepared, trace
from appliance.recipe import (
    BeforeStep,
    Cast,
    Colour,
    Crop,
    Decode,
    InputRecipe,
    Layout,
    Normalise,
    Pad,
    Quantise,
    Resize,
)
from appliance.tensors import Array, DataType, TensorSpec
from runtime.kernels.placement import Placement, whole


@dataclass(slots=True, kw_only=True)
class Plan:
    """The steps of one pass: out = quantised(rounded(resized(x)) * scale + shift); constants in FP64.

    `takes` and `gives` are datatypes of pixels, `channels` those that it reads. `picks` says which
    of the channels before each channel made is. `border` is what lies where no image does, after
    scale and shift. What a pass `resizes_bytes` is UINT8 again before the rest. A pass to `grey`
    does nothing else.
    """

    takes: DataType
    gives: DataType
    channels: int
    geometry: list[Crop | Pad | Resize] = field(default_factory=list)
    picks: tuple[int, ...] | None = None
    scale: Array = field(default_factory=lambda: np.ones(1))
    shift: Array = field(default_factory=lambda: np.zeros(1))
    border: Array = field(default_factory=lambda: np.zeros(1))
    grey: Colour | None = None
    quantise: Quantise | None = None
    chw: bool = False
    bordered: bool = False
    resizes_bytes: bool = False
    begun: bool = False

    @property
    def resize(self) -> Resize | None:
        """The resize of this pass."""
        return next((step for step in self.geometry if isinstance(step, Resize)), None)

    def takes_more(self, step: BeforeStep) -> bool:
        """True when `step` can be part of this pass, after the steps that are."""
        if self.grey is not None:
            return False
        if self.quantise is not None and not isinstance(step, Layout | Cast):
            return False
        match step:
            case Resize():
                return self.resize is None and not self.bordered
            case Crop(small="refuse"):
                return True
            case Crop() | Pad():
                return not self.bordered or bool((self.border == step.fill).all())
            case Colour(to="grey"):
                return not self.begun
            case _:
                return True

    def add(self, step: BeforeStep, before: Prepared) -> None:
        """Make `step`, whose input is `before`, part of this pass."""
        self.begun = True
        match step:
            case Cast():
                self.gives = DataType(step.datatype)
            case Normalise():
                self._normalise(step)
            case Quantise():
                self.quantise, self.gives = step, DataType(step.datatype)
            case Layout():
                self.chw = step.order == "CHW"
            case Colour(to="grey"):
                self.grey = step
            case Colour():
                self._pick(step, before.spec.shape[2])
            case Crop() | Pad() | Resize():
                self._place(step)

    def placement(self, height: int, width: int) -> Placement:
        """Where a picture of this size lies. Raises RequestError when it does not fit a step."""
        placed = whole(height, width)
        for step in self.geometry:
            placed = placed.through(step)
        return placed

    def shape(self, image: tuple[int, ...]) -> tuple[int, ...]:
        """What becomes of an image of shape (height, width, channels). Raises RequestError as above."""
        height, width = self.placement(image[0], image[1]).canvas
        channels = 1 if self.grey else len(self.picks or range(self.channels))
        return (channels, height, width) if self.chw else (height, width, channels)

    def _normalise(self, step: Normalise) -> None:
        """Y -> (y * scale - mean) / std."""
        mean, std = np.array(step.mean), np.array(step.std)
        self.scale = self.scale * step.scale / std
        self.shift = (self.shift * step.scale - mean) / std
        self.border = (self.border * step.scale - mean) / std

    def _pick(self, step: Colour, channels: int) -> None:
        order = (0, 0, 0) if step.to == "colour" else (2, 1, 0, 3)[:channels]
        made = self.picks or tuple(range(channels))
        self.picks = tuple(made[at] for at in order)
        for name in ("scale", "shift", "border"):
            constants = getattr(self, name)
            if constants.size > 1:
                setattr(self, name, constants[list(order)])

    def _place(self, step: Crop | Pad | Resize) -> None:
        bordering = (
            isinstance(step, Pad)
            or (isinstance(step, Crop) and step.small == "pad")
            or (isinstance(step, Resize) and step.fit == "letterbox")
        )
        if bordering:
            self.border, self.bordered = np.array([step.fill]), True
        if isinstance(step, Resize):
            self.resizes_bytes = self.gives is DataType.UINT8
        self.geometry.append(step)


def plans_of(raw: TensorSpec, steps: tuple[BeforeStep, ...]) -> list[Plan]:
    """The passes of `steps` over images `raw`, behind a decode where there is one.

    Raises RecipeError when steps behind a layout need a pass of their own.
    """
    stages = trace(InputRecipe(feeds=raw.name, raw=raw, steps=steps))
    if steps and isinstance(steps[0], Decode):
        plans = [_of_file(steps[0])]
        steps, stages = steps[1:], stages[1:]
    else:
        plans = [_fresh(stages[0])]
    for step, before in zip(steps, stages, strict=False):
        if not plans[-1].takes_more(step):
            plans.append(_fresh(before))
        plans[-1].add(step, before)
    return plans


def _of_file(step: Decode) -> Plan:
    """A pass that reads what `decoding.decoded` gives: one channel, or red, green, blue and alpha."""
    turned = step.order == "BGR" and step.channels > 1
    return Plan(
        takes=DataType.UINT8,
        gives=DataType.UINT8,
        channels=step.channels,
        picks=(2, 1, 0, 3)[: step.channels] if turned else None,
        begun=turned,
    )


def _fresh(before: Prepared) -> Plan:
    """A pass that reads `before`: UINT8 as it is, all else as FP32. Raises RecipeError for planes."""
    if before.order != "HWC":
        raise RecipeError(
            f"a second quantise comes behind the layout to {before.order}",
            remedy="put the layout step last",
        )
    datatype = before.spec.datatype
    takes = DataType.UINT8 if datatype is DataType.UINT8 else DataType.FP32
    return Plan(takes=takes, gives=takes, channels=before.spec.shape[2])
