"""What a GPU takes on: engines that fit beside what is there, programs that stay within their bounds. Pure.

Knows: the memory rule and the shape of a right program. Rules: refused before anything is touched, with both numbers and what
to do; room is made only by engines that nobody serves, the one that rested longest first. Leaves to others: asking
for memory and closing engines (`holding`).
"""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from appliance.errors import EngineError, GpuMemory
from runtime.gpu.device import Room
from runtime.gpu.program import CopyIn, CopyOut, Execute, Launch, Place, Program

REMEDY = (
    "retire a version, give the model fewer lanes or smaller batches, raise [gpu] memory_share, or use a GPU with "
    "more memory"
)
# CUDA C++ Programming Guide, technical specifications by compute capability: the same since 3.0.
GRID_MOST = (2**31 - 1, 65535, 65535)
BLOCK_MOST = (1024, 1024, 64)
THREADS_MOST = 1024


def spare_bytes(room: Room, share: float) -> int:
    """What may still be taken of a device that may be filled up to `share`."""
    return max(room.free - int(room.total * (1 - share)), 0)


def shortage(needed: int, room: Room, share: float, doing: str) -> GpuMemory | None:
    """The error when `needed` bytes do not fit for `doing`; None when they do."""
    spare = spare_bytes(room, share)
    if needed <= spare:
        return None
    return GpuMemory(
        f"{doing} needs {needed} bytes of the GPU's memory and {spare} may be taken: {room.free} of {room.total} are "
        f"free and {share:.0%} may be filled",
        remedy=REMEDY,
    )


def admit(
    needed: int,
    room: Callable[[], Room],
    share: float,
    evict: Callable[[], bool],
    doing: str,
) -> None:
    """Evict until `needed` bytes fit. Raises GpuMemory when `evict` has nothing left."""
    while (short := shortage(needed, room(), share, doing)) is not None:
        if not evict():
            raise short


def check_program(program: Program, kernels: AbstractSet[str]) -> None:
    """Raise EngineError unless every step stays within the program's memory and names one of `kernels`."""
    for number, step in enumerate(program.steps):
        trouble = _trouble(program, step, kernels)
        if trouble:
            raise EngineError(
                f"step {number} of a program for the GPU is wrong: {trouble}",
                remedy="report this with the version's manifest: programs are written by this release",
            )


def _trouble(
    program: Program, step: CopyIn | CopyOut | Launch | Execute, kernels: AbstractSet[str]
) -> str:
    match step:
        case CopyIn(slot=slot, to=place, size=size) | CopyOut(slot=slot, source=place, size=size):
            if size <= 0 or slot < 0 or slot + size > program.slot_bytes:
                return f"bytes {slot} to {slot + size} of a slot of {program.slot_bytes}"
            return _outside(program, [place], size)
        case Launch(kernel=kernel, grid=grid, block=block, arguments=arguments):
            if kernel not in kernels:
                return f"the engine has no kernel '{kernel}'"
            sizes = (*zip(grid, GRID_MOST, strict=True), *zip(block, BLOCK_MOST, strict=True))
            if not all(0 < size <= most for size, most in sizes):
                return f"a grid of {grid} blocks of {block}"
            if block[0] * block[1] * block[2] > THREADS_MOST:
                return f"a block of {block} threads"
            return _outside(program, [each for each in arguments if isinstance(each, Place)], 0)
        case Execute(inputs=inputs, outputs=outputs):  # pragma: no branch
            return _outside(program, [*inputs.values(), *outputs.values()], 0)


def _outside(program: Program, places: Sequence[Place], size: int) -> str:
    for place in places:
        most = program.arena_bytes if place.space == "arena" else len(program.constants)
        if place.offset < 0 or place.offset + size > most:
            return f"{size} bytes at {place.offset} of {place.space} of {most} bytes"
    return ""
