"""The programs of one lane, by what they are for.

Knows: which were used lately. Rules: a program is written and installed once for each key, and the one that was used
longest ago makes room: sizes of pictures come and go, and each program holds constants and a graph on the
GPU. Leaves to others: writing programs, running them.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from runtime.gpu.opened import Lane
from runtime.gpu.program import Program

PROGRAMS_MAX = 64  # of a lane

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Written(NamedTuple, Generic[T]):
    """A program, and what its writer must know of it to use it, such as where results will lie."""

    program: Program
    sheet: T


class Installed(NamedTuple, Generic[T]):
    """A program that the lane has, by its number."""

    number: int
    sheet: T


class Kept(Generic[K, T]):
    """Programs of `lane`, each made by `write`; used by the thread that uses the lane."""

    def __init__(
        self, lane: Lane, write: Callable[[K], Written[T]], programs_max: int = PROGRAMS_MAX
    ) -> None:
        self._lane, self._write, self._programs_max = lane, write, programs_max
        self._installed: OrderedDict[K, Installed[T]] = OrderedDict()

    def take(self, key: K) -> Installed[T]:
        """The program for `key`, written and installed if it is not there. Raises what `write` and GpuError."""
        found = self._installed.get(key)
        if found is not None:
            self._installed.move_to_end(key)
            return found
        written = self._write(key)
        while len(self._installed) >= self._programs_max:
            _, oldest = self._installed.popitem(last=False)
            self._lane.forget(oldest.number)
        made = Installed(self._lane.install(written.program), written.sheet)
        self._installed[key] = made
        return made
