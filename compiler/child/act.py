"""What an act is, and the plain way to do it.

Knows: the Act and Doer protocols. Rules: an act is data, so that it can be sent to a child; its result is
data too. Leaves to others: doing it in a child (`parent`).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from appliance.files import make_directory
from compiler.progress import Progress

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Act(Protocol[R_co]):
    """A msgspec struct of a module that can be imported; `result` is the type that `perform` returns."""

    @classmethod
    def result(cls) -> type[R_co]:
        """The struct that the act ends with."""

    def perform(self, progress: Progress) -> R_co:
        """Do it, raising ApplianceError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What an act may read, files or directories, and the directories it may write.

    `scratch` is a directory for what libraries put aside; it is the first that may be written. Of a
    directory in `listable` the names are seen. `devices` are those of a GPU, when the act uses one.
    """

    scratch: Path
    listable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    devices: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Generic[R]):
    """What an act ended with, and the fences that this machine could not raise, a sentence each."""

    result: R
    missing: tuple[str, ...] = ()


def kernel_cache() -> tuple[Path, ...]:
    """The directory where Numba keeps compiled kernels, if one is named; it may be written."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    return (make_directory(Path(named)),) if named else ()


class Doer(Protocol):
    """Does an act."""

    def do(self, act: Act[R], places: Places, progress: Progress) -> Ended[R]:
        """Do `act` and return its result. Raises its error, or BuildError when it was cut short."""


class Here:
    """Does an act in this very process, without fences: for tests, and models of one's own."""

    def do(self, act: Act[R], places: Places, progress: Progress) -> Ended[R]:  # noqa: ARG002
        """See Doer; it may reach everything, whatever `places` says."""
        return Ended(result=act.perform(progress))
