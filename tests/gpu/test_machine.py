"""Every kernel of scores, boxes and the drift vector as machine code: clean, and the compiler's PTX the same to the bit."""

from functools import cache, partial

import pytest

from runtime.kernels.cuda import Module
from runtime.kernels.cuda.toolchain import compile_kernels
from tests.gpu.catalogue import parts, tensors_of
from tests.gpu.lint import lint
from tests.gpu.ptx import run_ptx
from tests.gpu.threads import run_part

PARTS = parts(threads=4)
OLDEST = (7, 5)


@cache
def compiled() -> Module:
    return compile_kernels([each for part in PARTS for each in part.kernels()], capability=OLDEST)


def test_every_kernel_is_clean() -> None:
    assert lint(compiled()) == []


@pytest.mark.parametrize("number", range(len(PARTS)))
def test_what_the_compiler_made_computes_the_same(number: int) -> None:
    part = PARTS[number]
    given = tensors_of(part)
    made = run_part(part, given, partial(run_ptx, compiled().ptx.decode()))
    for name, array in run_part(part, given).items():
        assert made[name].tobytes() == array.tobytes(), name
