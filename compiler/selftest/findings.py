"""What a selftest finds, as data.

Knows: steps, figures and their goals. Rules: a step was run, has failed with its reason, or was not run with
its reason, never anything between; a figure with a goal says whether it was met. Leaves to others: finding it, telling it.
"""

from typing import Literal

import msgspec

from appliance.manifest import Precision
from appliance.proof import Inspected

State = Literal["run", "failed", "not run"]
STEPS = ("rewrite", "build", "load", "prove", "measure", "swap")  # of a precision, in this order


class Finding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a report."""


class Figure(Finding, frozen=True, kw_only=True):
    """A number that was measured; `met` is None without a goal."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    met: bool | None = None


class Step(Finding, frozen=True, kw_only=True):
    """One step of a precision: what became of it, in words where it failed or was not run."""

    name: str
    state: State
    why: str = ""
    seconds: float = 0.0
    figures: tuple[Figure, ...] = ()


class Tried(Finding, frozen=True, kw_only=True):
    """What became of one precision."""

    precision: Precision
    steps: tuple[Step, ...]
    inspected: Inspected | None = None

    @property
    def right(self) -> bool:
        """True when every step was run."""
        return all(step.state == "run" for step in self.steps)


class Findings(Finding, frozen=True, kw_only=True):
    """The whole: the box in words, by name, and each precision. `trouble` is why nothing could be tried."""

    format: Literal[1] = 1
    release: str
    box: dict[str, str]
    trouble: str = ""
    remedy: str = ""
    missing_fences: tuple[str, ...] = ()
    tried: tuple[Tried, ...] = ()

    @property
    def right(self) -> bool:
        """True when everything was run and right."""
        return bool(self.tried) and not self.trouble and all(item.right for item in self.tried)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All figures, each named after its precision too."""
        return tuple(
            msgspec.structs.replace(figure, name=f"{item.precision}: {figure.name}")
            for item in self.tried
            for step in item.steps
            for figure in step.figures
        )


def untried(precision: Precision, why: str, *, failed: bool, at: str = STEPS[0]) -> Tried:
    """A precision of which no more is known than `why`: the child that tried it ended in step `at`, or none was begun."""
    reached = STEPS.index(at)
    steps = [
        Step(name=name, state="run", why="what it found was lost with its child")
        for name in STEPS[:reached]
    ]
    steps.append(Step(name=at, state="failed" if failed else "not run", why=why))
    steps += [
        Step(name=name, state="not run", why="a step before it was not done")
        for name in STEPS[reached + 1 :]
    ]
    return Tried(precision=precision, steps=tuple(steps))
