"""The runner of PTX refuses what a GPU would punish, and what it does not know."""

import numpy as np
import pytest

from runtime.gpu.program import Launch, Place, Whole
from tests.gpu.ptx import run_ptx

HEAD = """.version 9.0
.target sm_75
.address_size 64

.visible .entry k(
\t.param .u64 k_param_0,
\t.param .u32 k_param_1
)
{
\t.reg .b32 %r<4>;
\tld.param.u64 \t%rd1, [k_param_0];
\tld.param.u32 \t%r1, [k_param_1];
"""
TAIL = "\tret;\n\n}\n"


def run(body: str, number: int = 0, offset: int = 0, *, blocks: int = 1, threads: int = 1) -> bytes:
    """What 16 bytes of 0xCD became."""
    arena = np.full(16, 0xCD, np.uint8)
    place = Place(space="arena", offset=offset)
    arguments = (place, Whole(number))
    launch = Launch(kernel="k", grid=(blocks, 1, 1), block=(threads, 1, 1), arguments=arguments)
    run_ptx(HEAD + body + TAIL, [launch], arena, b"")
    return arena.tobytes()


def test_what_is_computed() -> None:
    body = """\tmov.u32 %r2, 0;
$L__BB0_1:
\tadd.s32 %r2, %r2, %r1;
\tadd.s32 %r1, %r1, -1;
\tsetp.gt.s32 %p1, %r1, 0;
\t@%p1 bra $L__BB0_1;
\tst.global.u32 [%rd1+4], %r2;
"""
    assert run(body, 10)[:8] == b"\xcd" * 4 + (55).to_bytes(4, "little")


def test_an_integer_overflows_as_on_the_device() -> None:
    body = "\tmul.lo.s32 %r2, %r1, %r1;\n\tst.global.u32 [%rd1], %r2;\n"
    assert run(body, -3)[:4] == (9).to_bytes(4, "little")
    assert run(body, 1 << 17)[:4] == bytes(4)


def test_singles_are_rounded_each_by_itself() -> None:
    body = """\tmul.rn.f32 %f1, 0f3F8CCCCD, 0f3F8CCCCD;
\tst.global.f32 [%rd1], %f1;
"""
    wanted = np.float32(1.1) * np.float32(1.1)
    assert run(body)[:4] == wanted.tobytes()


@pytest.mark.parametrize(
    ("body", "offset", "told"),
    [
        ("\tst.global.u32 [%rd1+16], %r1;\n", 0, "nobody's"),
        ("\tst.global.u32 [%rd1], %r1;\n", 2, "not aligned"),
        ("\tst.global.u8 [%rd1+-1], %r1;\n", 0, "nobody's"),
        ("\tmul.f32 %f1, 0f3F800000, 0f3F800000;\n", 0, "may be fused"),
        ("\tshfl.sync 0;\n", 0, "not known"),
    ],
)
def test_what_is_refused(body: str, offset: int, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        run(body, 1, offset)


TO_OWN = """\tmov.u32 %r2, %tid.x;
\tmul.wide.s32 %rd2, %r2, 4;
\tadd.s64 %rd3, %rd1, %rd2;
\tst.global.u32 [%rd3], %r2;
"""
READ_FIRST = "\tld.global.u32 %r3, [%rd1];\n"


def test_threads_that_wait_for_each_other_do_not_race() -> None:
    assert run(f"{TO_OWN}\tbar.sync 0;\n{READ_FIRST}", threads=2)[:8] == b"\0\0\0\0\1\0\0\0"
    run(READ_FIRST, blocks=2, threads=2)


@pytest.mark.parametrize(
    ("body", "blocks", "threads"),
    [
        (TO_OWN + READ_FIRST, 1, 2),
        (READ_FIRST + TO_OWN, 1, 2),
        ("\tst.global.u32 [%rd1], %r1;\n", 1, 2),
        (f"{TO_OWN}\tbar.sync 0;\n{READ_FIRST}", 2, 1),
    ],
)
def test_races_are_found(body: str, blocks: int, threads: int) -> None:
    with pytest.raises(AssertionError, match="a race"):
        run(body, blocks=blocks, threads=threads)


def test_all_threads_must_reach_the_same_barrier() -> None:
    body = """\tmov.u32 %r2, %tid.x;
\tsetp.gt.s32 %p1, %r2, 0;
\t@%p1 bra $L__BB0_2;
\tbar.sync 0;
\tbra.uni $L__BB0_3;
$L__BB0_2:
\tbar.sync 0;
$L__BB0_3:
"""
    with pytest.raises(AssertionError, match="not all threads"):
        run(body, threads=2)
