"""What the steps of a signal come to: one frame, spectrum, mel and log step, and scales between them.

Knows: how each signal step joins the plan. Rules: neighbouring scales fold into one, in FP64; every
logarithm is a natural one times a constant. Leaves to others: running the plan (`signals`).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from appliance.recipe import (
    BeforeStep,
    Frame,
    Log,
    Mel,
    Range,
    Scale,
    Spectrum,
    Transpose,
)

BASES = {"natural": 1.0, "log10": 1.0 / math.log(10.0), "decibel": 10.0 / math.log(10.0)}


@dataclass(slots=True)
class SignalPlan:
    """A signal's steps. A scale is a factor and a shift.

    The scales are those of what the steps before made: `samples`, `frames`, `bins`, `mels`, `levels`, where
    levels are what the log step gives, or the last of the others. A range is how far below the largest
    value, and the scale of what it gives.
    """

    frame: Frame | None = None
    spectrum: Spectrum | None = None
    mel: Mel | None = None
    log: Log | None = None
    transposed: bool = False
    samples: list[float] = field(default_factory=lambda: [1.0, 0.0])
    frames: list[float] = field(default_factory=lambda: [1.0, 0.0])
    bins: list[float] = field(default_factory=lambda: [1.0, 0.0])
    mels: list[float] = field(default_factory=lambda: [1.0, 0.0])
    levels: list[float] = field(default_factory=lambda: [1.0, 0.0])
    ranges: list[list[float]] = field(default_factory=list)

    @property
    def is_power(self) -> bool:
        """Whether the spectrum is one of power."""
        return self.spectrum is not None and self.spectrum.kind == "power"


def plan_of(steps: Iterable[BeforeStep]) -> SignalPlan:
    """The plan of a signal's steps; a cast changes nothing of it."""
    plan = SignalPlan()
    scale = plan.samples  # of what the steps so far made, its last two numbers
    for step in steps:
        match step:
            case Scale():
                scale[-2:] = [scale[-2] * step.factor, scale[-1] * step.factor + step.shift]
            case Frame():
                plan.frame, scale = step, plan.frames
            case Spectrum():
                plan.spectrum, scale = step, plan.bins
            case Mel():
                plan.mel, scale = step, plan.mels
            case Log():
                plan.log, scale = step, plan.levels
                scale[0] = BASES[step.base]
            case Range():
                scale = [step.below, 1.0, 0.0]
                plan.ranges.append(scale)
            case Transpose():
                plan.transposed = True
    return plan
