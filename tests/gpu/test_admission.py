"""What a GPU takes on: memory and programs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import EngineError, GpuMemory
from runtime.gpu.admission import admit, check_program, shortage, spare_bytes
from runtime.gpu.device import Room
from runtime.gpu.program import CopyIn, CopyOut, Execute, Launch, Place, Program, Step, Whole

sizes = st.integers(0, 1 << 40)


@given(sizes, sizes, sizes, st.floats(0.05, 1.0))
def test_what_is_admitted_fits_under_the_share(
    needed: int, free: int, used: int, share: float
) -> None:
    room = Room(free, free + used)
    if shortage(needed, room, share, "x") is None and needed:
        assert used + needed <= room.total * share + 1
        assert needed <= free
    assert 0 <= spare_bytes(room, share) <= free


@given(st.lists(st.integers(1, 100), max_size=6), st.integers(1, 700))
def test_no_more_is_evicted_than_needed(idle: list[int], needed: int) -> None:
    total = sum(idle) + 100
    left = list(idle)

    def evict() -> bool:
        return bool(left) and left.pop(0) > 0

    try:
        admit(needed, lambda: Room(total - sum(left), total), 1.0, evict, "it")
    except GpuMemory:
        assert needed > total - sum(left)
        assert not left
    else:
        assert needed <= total - sum(left)
        gone = idle[: len(idle) - len(left)]
        assert not gone or needed > total - sum(left) - gone[-1]


def place(offset: int = 0, space: str = "arena") -> Place:
    return Place(space=space, offset=offset)  # type: ignore[arg-type]


WRONG: list[Step] = [
    CopyIn(slot=60, to=place(), size=10),
    CopyIn(slot=0, to=place(30), size=10),
    CopyIn(slot=-1, to=place(), size=1),
    CopyOut(source=place(0, "constants"), slot=0, size=9),
    CopyOut(source=place(), slot=0, size=0),
    Launch(kernel="other", grid=(1, 1, 1), block=(1, 1, 1), arguments=()),
    Launch(kernel="k", grid=(0, 1, 1), block=(1, 1, 1), arguments=()),
    Launch(kernel="k", grid=(1, 65536, 1), block=(1, 1, 1), arguments=()),
    Launch(kernel="k", grid=(1, 1, 1), block=(1024, 2, 1), arguments=()),
    Launch(kernel="k", grid=(1, 1, 1), block=(1, 1, 65), arguments=()),
    Launch(kernel="k", grid=(1, 1, 1), block=(1, 1, 1), arguments=(Whole(1), place(33))),
    Execute(shapes={}, inputs={"x": place(-1)}, outputs={}),
    Execute(shapes={}, inputs={}, outputs={"y": place(9, "constants")}),
]
RIGHT: list[Step] = [
    CopyIn(slot=54, to=place(22), size=10),
    CopyOut(source=place(0, "constants"), slot=0, size=8),
    Launch(kernel="k", grid=(2**31 - 1, 1, 1), block=(16, 1, 64), arguments=(place(32),)),
    Execute(shapes={"x": (1,)}, inputs={"x": place(0)}, outputs={"y": place(32)}),
]


def program(*steps: Step) -> Program:
    return Program(steps=steps, slot_bytes=64, arena_bytes=32, constants=bytes(8))


@pytest.mark.parametrize("step", WRONG)
def test_a_program_that_leaves_its_bounds_is_refused(step: Step) -> None:
    with pytest.raises(EngineError, match="step 4 of a program"):
        check_program(program(*RIGHT, step), {"k"})


def test_one_that_stays_within_is_not() -> None:
    check_program(program(*RIGHT), {"k"})
