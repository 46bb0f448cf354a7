"""Kernels of the fake of a GPU: Python functions, and modules that name them.

Knows: what a launch hands to its function. Rules: every array is checked against its allocation. Leaves to others: when a
kernel runs (`tests.gpu.fakes`).
"""

import base64
import importlib
import json
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from runtime.gpu.device import Address, Float32, Int32, Int64, Scalar
from tests.gpu.fake_memory import Bytes, IllegalAccess

MAGIC = b"HOLDFAST FAKE MODULE\n"
SOURCE = "source:"


class Memory(Protocol):
    """What a launch needs of the device."""

    def memory(self, pointer: int, size: int) -> Bytes: ...
    def extent(self, pointer: int) -> int: ...


def module_image(kernels: Mapping[str, str]) -> bytes:
    """A module for the fake: its kernels by symbol, each "module:attribute"."""
    return MAGIC + json.dumps(dict(kernels)).encode()


def sources_image(sources: Iterable[Any]) -> bytes:
    """A module for the fake of recipe kernels: its KernelSources, run thread by thread in Python."""
    return module_image(
        {
            source.name: SOURCE + base64.b64encode(pickle.dumps(source)).decode()
            for source in sources
        }
    )


def call_of(place: str) -> Callable[["Launched"], None]:
    """What a module's entry names."""
    if place.startswith(SOURCE):
        source = pickle.loads(base64.b64decode(place[len(SOURCE) :]))
        return lambda launched: run_source(source, launched)
    room, _, attribute = place.partition(":")
    call: Callable[[Launched], None] = getattr(importlib.import_module(room), attribute)
    return call


def run_source(source: Any, launched: "Launched") -> None:
    """Run a KernelSource over the fake's memory."""
    from tests.gpu.threads import run

    arguments = [
        launched.rest(at, parameter.removesuffix("*"))
        if parameter.endswith("*")
        else launched.number(at)
        for at, parameter in enumerate(source.parameters)
    ]
    try:
        run(source, launched.grid, launched.block, arguments)
    except IndexError as error:
        raise IllegalAccess(f"an illegal memory access in {source.name}") from error


@dataclass(frozen=True)
class Launched:
    """One launch, as its Python function sees it."""

    device: Memory
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: tuple[Scalar, ...]

    def number(self, at: int) -> int | float:
        """The argument at `at`, a number."""
        assert not isinstance(self.arguments[at], Address), f"argument {at} is a pointer"
        return self.arguments[at].value

    def array(self, at: int, dtype: Any, shape: int | tuple[int, ...]) -> Bytes:
        """The memory that the argument at `at` points to, to be read and written; bounds are checked."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.device.memory(self._pointer(at), size).view(dtype).reshape(shape)

    def rest(self, at: int, dtype: Any) -> Bytes:
        """All from where the argument at `at` points to the end of its allocation, as whole items."""
        left = self.device.extent(self._pointer(at))
        return self.array(at, dtype, left // np.dtype(dtype).itemsize)

    def _pointer(self, at: int) -> int:
        assert isinstance(self.arguments[at], Address), f"argument {at} is no pointer"
        return int(self.arguments[at].value)


def illegal(launched: Launched) -> None:
    """A kernel that reads what is nobody's."""
    launched.device.memory(16, 4)


def check_scalar(argument: Scalar) -> None:
    if isinstance(argument, Int32):
        assert -(2**31) <= argument.value < 2**32, argument
    elif isinstance(argument, Int64 | Address):
        assert -(2**63) <= argument.value < 2**64, argument
    else:
        assert isinstance(argument, Float32), argument
