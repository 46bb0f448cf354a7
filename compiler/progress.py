"""How far a long act is, told while it runs.

Knows: the Progress protocol. Rules: compiling rooms tell stages and steps and never print. Leaves to
others: showing it (`compiler.bars`).
"""

from typing import Protocol


class Progress(Protocol):
    """Told of stages, one after another, each of a known number of steps."""

    def stage(self, name: str, steps: int = 1) -> None:
        """Begin a stage; the one before it is over."""

    def step(self, steps: int = 1) -> None:
        """So many more steps of the stage are done."""


class Silent:
    """Tells nobody."""

    def stage(self, name: str, steps: int = 1) -> None:
        """Nothing."""

    def step(self, steps: int = 1) -> None:
        """Nothing."""
