"""Recipe kernels on CUDA: what a kernel and a part of a program are.

Read `__init__` first (the words), then `images`, `scores`, `boxes` and `vector` (the parts), `splitting` (which parts of a
recipe run on the device), `toolchain` (machine code of them).

Knows: KernelSource, Part and what a kernel may use. Rules: a kernel is a plain Python function that takes pointers and
plain numbers and returns nothing. What it asks of the device it asks of `gpu`; it may call other plain functions of
`runtime.kernels`, which become device functions. The toolchain binds `gpu` to numba.cuda, tests bind it to a stand-in: so no
kernel's module imports numba, and nothing here costs a box without a GPU. A kernel is known by its name in the module as in
`Launch.kernel`; the same name always means the same function, signature and constants. Arithmetic is FP32 and
integers, each operation rounded by itself (the toolchain fuses no multiply and add), so what is computed from + - * / and
square roots alone is the same to the bit on the CPU, in the simulator and on every GPU. Leaves to others: memory
and running (`runtime.gpu`).
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from runtime.gpu.program import Launch, Place

Kernel: TypeAlias = Callable[..., None]
Shape: TypeAlias = tuple[int, ...]

# A kernel's parameter: a plain number as `Whole`, `Long` and `Single` give it, or a pointer to values of a dtype.
Parameter: TypeAlias = Literal[
    "int32",
    "int64",
    "float32",
    "bool*",
    "uint8*",
    "int8*",
    "uint16*",
    "int16*",
    "uint32*",
    "int32*",
    "uint64*",
    "int64*",
    "float16*",
    "float32*",
]


class OutsideKernel:
    """Stands for the device until the toolchain, or a test, binds the real one."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"gpu.{name} is asked outside a kernel")


# As numba.cuda: threadIdx, blockIdx, blockDim, gridDim, grid, syncthreads(), atomic and shared.array(length, dtype). The
# simulator knows a shared array by its line of source: never two on one line.
gpu: Any = OutsideKernel()


class KernelSource(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel before it is compiled.

    `name` is its symbol: letters, digits and underscores. `function` takes one argument each of `parameters`.
    `constants` are bound in place of the function's globals of these names, also in the functions that it calls: so
    that one function makes a kernel for three channels and one for four, each under its own name.
    """

    name: str
    function: Kernel
    parameters: tuple[Parameter, ...]
    constants: Mapping[str, int | float] = {}


class Module(msgspec.Struct, frozen=True, kw_only=True):
    """Kernels compiled: machine code for one compute capability, such as (9, 0), and PTX of it for later ones."""

    capability: tuple[int, int]
    cubin: bytes
    ptx: bytes  # ends with the zero byte that the driver wants
    names: tuple[str, ...]
    registers: Mapping[str, int]  # of a thread, by kernel
    local_bytes: Mapping[str, int]  # of a thread, stack included, by kernel


class Part(Protocol):
    """Something that kernels do to tensors on the device: one step, or several in one pass.

    Before the engine it reads what is sent and makes the engine's input. Shapes have rows in front.
    """

    @property
    def reads(self) -> tuple[str, ...]:
        """The tensors that it reads."""

    @property
    def makes(self) -> tuple[str, ...]:
        """The tensors that it makes."""

    def kernels(self) -> tuple[KernelSource, ...]:
        """All that `launches` may name."""

    def constants(self, shapes: Mapping[str, Shape]) -> bytes:
        """What the kernels read besides tensors, to be laid at a place of its own; may be empty."""

    def made(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[Shape, str]]:
        """Shape and numpy dtype of each tensor of `makes`, from the shapes of `reads`; rows are in front.

        Raises EngineError when the engine returned another shape than its interface says, and RequestError when
        nothing can be made of what was sent.
        """

    def scratch(self, shapes: Mapping[str, Shape]) -> int:
        """Bytes of the arena that the kernels need between them, at `scratch_at` of `launches`."""

    def launches(
        self,
        shapes: Mapping[str, Shape],
        places: Mapping[str, Place],
        constants_at: Place,
        scratch_at: Place,
    ) -> list[Launch]:
        """The work, in order; `shapes` are those of `reads`, `places` those of `reads` and `makes`."""


def symbol(*words: object) -> str:
    """A kernel's name made of `words`; different words give different names."""
    text = "_".join(str(word) for word in words)
    clean = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    digest = hashlib.sha256("\0".join(str(word) for word in words).encode()).hexdigest()[:8]
    return f"k_{clean[:80]}_{digest}"


def behind(place: Place, size: int) -> Place:
    """The place `size` bytes further."""
    return Place(space=place.space, offset=place.offset + size)


def blocks_for(threads: int, block: int) -> int:
    """Blocks of `block` threads that hold `threads`, at least one."""
    return max(-(-threads // block), 1)
