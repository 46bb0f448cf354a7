"""A build that stops for ever after some words. Imported by the child by this name."""

import signal

from compiler.acts import Compile
from compiler.found import Compiled
from compiler.progress import Progress


class Halting(Compile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Compiles, and stops as soon as it has told `words` words of its progress."""

    words: int

    def perform(self, progress: Progress) -> Compiled:
        return super().perform(Until(progress, self.words))


class Until:
    """A progress that whoever tells it so much does not come back from."""

    def __init__(self, progress: Progress, words: int):
        self._progress, self._words = progress, words

    def stage(self, name: str, steps: int = 1) -> None:
        self._progress.stage(name, steps)
        self._count()

    def step(self, steps: int = 1) -> None:
        self._progress.step(steps)
        self._count()

    def _count(self) -> None:
        self._words -= 1
        while self._words <= 0:
            signal.pause()
