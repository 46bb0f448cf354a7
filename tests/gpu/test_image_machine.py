"""Image kernels as machine code: clean for every GPU that is supported, and right, instruction by instruction.

No GPU is needed: `tests.gpu.ptx` runs the compiler's text. sm_75 and sm_120 are made by unlike parts of the compiler.
"""

import numpy as np
import pytest

from appliance.tensors import Array
from runtime.gpu.program import Launch
from runtime.kernels.cuda import KernelSource, Module
from runtime.kernels.cuda.toolchain import compile_kernels
from tests.gpu.image_cases import SMALL, Small, on_device, part_for
from tests.gpu.lint import lint
from tests.gpu.ptx import run_ptx

OLDEST = (7, 5)
LATER = [(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]
COMMON = next(small for small in SMALL if small.gives)  # blended, with a border


def sources_of(small: Small) -> tuple[KernelSource, ...]:
    return part_for(small.raw(), small.steps, small.gives).kernels()


def assert_right(module: Module, small: Small) -> None:
    """What the module's text computes is what the CPU computes."""
    text = module.ptx[:-1].decode()

    def run(_: object, launches: list[Launch], arena: Array, constants: bytes) -> None:
        run_ptx(text, launches, arena, constants)

    raw = small.raw()
    made = on_device(part_for(raw, small.steps, small.gives), raw, run)
    np.testing.assert_array_equal(made, small.wanted())


@pytest.fixture(scope="module")
def oldest() -> Module:
    """Every kernel for the oldest GPUs."""
    sources = [source for small in SMALL for source in sources_of(small)]
    return compile_kernels(sources, capability=OLDEST)


def test_every_kernel_is_clean(oldest: Module) -> None:
    assert lint(oldest) == []
    assert oldest.cubin[:4] == b"\x7fELF"


@pytest.mark.parametrize("small", SMALL)
def test_every_kernel_is_right(oldest: Module, small: Small) -> None:
    assert_right(oldest, small)


@pytest.mark.parametrize("capability", LATER)
def test_a_common_kernel_for_all_others(capability: tuple[int, int]) -> None:
    module = compile_kernels(sources_of(COMMON), capability=capability)
    assert lint(module) == []
    assert (
        max(module.registers.values()) <= 64
    )  # so that the oldest GPUs hold all the threads they can
    assert_right(module, COMMON)
