"""What a lane of the GPU does for one batch, as data.

Knows: the steps and where their bytes lie. Rules: a program is complete: shapes, grids, addresses relative to the
lane's own memory; so it can be checked without a GPU, sent to the process that owns one, captured as a CUDA graph and
repeated for every batch of the same shapes. Three places hold bytes: the slot, host memory that runtime and owner
share; the arena, device memory of the lane; the constants, device memory filled once when the program is installed.
Leaves to others: making programs (`serving`, `runtime.kernels.cuda`), running them (`lane`).
"""

from typing import Literal, TypeAlias

import msgspec

from runtime.gpu.device import Float32, Int32, Int64

ALIGNMENT = 256  # of every tensor in slot, arena and constants, in bytes; what cudaMalloc aligns to


class Place(msgspec.Struct, frozen=True, kw_only=True, tag="place"):
    """So many bytes behind the beginning of the lane's arena or of the program's constants, on the device."""

    space: Literal["arena", "constants"]
    offset: int


class Whole(msgspec.Struct, frozen=True, tag="whole"):
    """A kernel's argument: an integer of 32 bits."""

    value: int


class Long(msgspec.Struct, frozen=True, tag="long"):
    """A kernel's argument: an integer of 64 bits."""

    value: int


class Single(msgspec.Struct, frozen=True, tag="single"):
    """A kernel's argument: an FP32 number."""

    value: float


Argument: TypeAlias = Place | Whole | Long | Single
Size3: TypeAlias = tuple[int, int, int]


class CopyIn(msgspec.Struct, frozen=True, kw_only=True, tag="copy_in"):
    """`size` bytes from `slot` bytes into the slot to the device."""

    slot: int
    to: Place
    size: int


class CopyOut(msgspec.Struct, frozen=True, kw_only=True, tag="copy_out"):
    """`size` bytes from the device to `slot` bytes into the slot."""

    source: Place
    slot: int
    size: int


class Launch(msgspec.Struct, frozen=True, kw_only=True, tag="launch"):
    """A kernel of the engine file's module, by name; x, y, z of grid (in blocks) and block (in threads)."""

    kernel: str
    grid: Size3
    block: Size3
    arguments: tuple[Argument, ...]


class Execute(msgspec.Struct, frozen=True, kw_only=True, tag="execute"):
    """The engine itself: shapes of its inputs with rows in front, and where inputs and outputs lie, by name."""

    shapes: dict[str, tuple[int, ...]]
    inputs: dict[str, Place]
    outputs: dict[str, Place]


Step: TypeAlias = CopyIn | CopyOut | Launch | Execute


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """Steps in order, and the memory that they need, in bytes.

    A program that is `repeatable` does the same on the same addresses each time, so it may become a CUDA graph.
    """

    steps: tuple[Step, ...]
    slot_bytes: int
    arena_bytes: int
    constants: bytes = b""
    repeatable: bool = True


def aligned(size: int) -> int:
    """`size` rounded up to the next address where a tensor may begin."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class Layout:
    """Hands out room in one space, each piece aligned; `size` is what was given so far, in bytes."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, size: int) -> int:
        """The offset of a fresh piece of `size` bytes."""
        at = self.size
        self.size = aligned(at + size)
        return at


def scalar_of(argument: Whole | Long | Single) -> Int32 | Int64 | Float32:
    """A number among a launch's arguments, as the device takes it."""
    match argument:
        case Whole(value):
            return Int32(value)
        case Long(value):
            return Int64(value)
        case Single(number):  # pragma: no branch
            return Float32(number)
