"""What a section of `make gpu-check` says.

Knows: figures, goals and the three ends of a section. Rules: a section ran, failed, or was not run for a reason that is said; a goal
that was missed is told as missed, and what was not measured has no figure. Leaves to others: the sections, the report.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

State: TypeAlias = Literal["run", "failed", "not run"]


class NotRun(Exception):
    """The section cannot be run here; the text says why."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was measured; `goal` in words, and whether it was `met`, None without a goal."""

    name: str
    value: float
    unit: str
    goal: str = ""
    met: bool | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one section."""

    section: str
    about: str
    state: State
    why: str = ""
    seconds: float = 0.0
    figures: tuple[Figure, ...] = ()


class Told:
    """What a section found so far."""

    def __init__(self, *, goals: bool) -> None:
        """`goals` is whether figures are held against them: over a fake of a GPU they mean nothing."""
        self._goals = goals
        self.figures: list[Figure] = []
        self.notes: list[str] = []

    def figure(self, name: str, value: float, unit: str) -> None:
        """A figure without a goal."""
        self.figures.append(Figure(name=name, value=round(value, 4), unit=unit))

    def goal(
        self, name: str, value: float, unit: str, goal: str, met: Callable[[float], bool]
    ) -> None:
        """A figure that has one."""
        fine = met(value) if self._goals else None
        rounded = round(value, 4)
        self.figures.append(Figure(name=name, value=rounded, unit=unit, goal=goal, met=fine))

    def note(self, text: str) -> None:
        """Something that was left out, and why."""
        self.notes.append(text)
