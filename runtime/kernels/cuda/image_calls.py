"""Calls of image kernels, before it is known where anything lies.

Knows: what a pass over pictures of one size asks of the device. Rules: a kernel's parameters have their types by their names, so
that a kernel's signature is written once; blocks are 32 pixels wide, a warp's writes side by side, and 8 high, so that
rows which share old pixels are in the same cache at the same time. Leaves to others: which calls (`image_resizes`,
`image_passes`), places (`images`).
"""

import inspect
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias, cast

from runtime.gpu.program import Launch, Place, Single, Whole
from runtime.kernels.cuda import Kernel, KernelSource, Parameter, behind, blocks_for, symbol

WIDE, TALL = 32, 8  # threads of a block

WHOLE: Parameter = "int32"
POINTERS: Mapping[str, Parameter] = {
    "words": "uint32*",
    "picks": "int32*",
    "colours": "float32*",
    "x_index": "int32*",
    "y_index": "int32*",
    "x_weight": "float32*",
    "y_weight": "float32*",
    "sums": "float32*",
    "made": "uint8*",
    "step": "float32",
    "zero": "float32",
    "low": "float32",
    "high": "float32",
}


class At(NamedTuple):
    """So many bytes behind the beginning of one of a pass's places.

    raw and out: what it reads and writes; between: its scratch; tables: its constants.
    """

    of: Literal["raw", "out", "between", "tables"]
    offset: int = 0


Given: TypeAlias = "At | Whole | Single"


class Call(NamedTuple):
    """A launch but for places and rows; `size`: threads across and down, for each picture."""

    kernel: str
    size: tuple[int, int]
    arguments: tuple[Given, ...]

    def launch(self, rows: int, places: Mapping[str, Place]) -> Launch:
        """Over `rows` pictures; `places` by the names of `At`."""
        wide, tall = self.size
        return Launch(
            kernel=self.kernel,
            grid=(blocks_for(wide, WIDE), blocks_for(tall, TALL), rows),
            block=(WIDE, TALL, 1),
            arguments=tuple(
                behind(places[each.of], each.offset) if isinstance(each, At) else each
                for each in self.arguments
            ),
        )


class Form(NamedTuple):
    """What the kernels of one pass are compiled for; dtypes are numpy's names, the rest as in `image_kernels`."""

    takes: str
    gives: str
    channels: int
    made: int
    chw: bool
    rounds: bool
    levels: bool

    def source(
        self, kernel: Kernel, types: Mapping[str, Parameter] | None = None, **more: int
    ) -> KernelSource:
        """The source of `kernel`; types: of parameters that differ from POINTERS; more: further constants."""
        constants = {
            "CHANNELS": self.channels,
            "MADE": self.made,
            "CHW": int(self.chw),
            "ROUNDS": int(self.rounds),
            "LEVELS": int(self.levels),
            **more,
        }
        return source_of(kernel, self.takes, self.gives, constants, types)


def source_of(
    kernel: Kernel,
    takes: str,
    gives: str,
    constants: Mapping[str, int],
    types: Mapping[str, Parameter] | None = None,
) -> KernelSource:
    """A kernel for pixels of these dtypes, under a name that says so."""
    raw, out = cast("Parameter", f"{takes}*"), cast("Parameter", f"{gives}*")
    named: dict[str, Parameter] = {**POINTERS, "raw": raw, "out": out, **(types or {})}
    words = [f"{name.lower()}{value}" for name, value in constants.items()]
    return KernelSource(
        name=symbol("image", kernel.__name__, takes, gives, *words),
        function=kernel,
        parameters=tuple(named.get(name, WHOLE) for name in inspect.signature(kernel).parameters),
        constants=dict(constants),
    )


def wholes(*values: int) -> tuple[Whole, ...]:
    """Arguments of 32 bits."""
    return tuple(Whole(int(value)) for value in values)
