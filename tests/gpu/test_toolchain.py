"""The toolchain: machine code for every GPU that is supported, from plain Python functions, and the lint over all kernels."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from appliance.errors import GpuUnusable
from runtime.kernels.cuda import KernelSource, gpu, symbol, toolchain
from runtime.kernels.cuda.pairs import two_product
from tests.gpu.catalogue import sources
from tests.gpu.lint import lint
from tests.gpu.threads import run

CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
TIMES = 2
HOLDS = 32


def scaled(value: Any) -> Any:
    return value * np.float32(TIMES)


scaled.__module__ = "runtime.kernels.test"


def doubled(given: Any, out: Any, count: int) -> None:
    i = gpu.grid(1)
    if i < count:
        out[i] = scaled(given[i])


def shared(given: Any, out: Any) -> None:
    held = gpu.shared.array(HOLDS, np.float32)
    held[gpu.threadIdx.x] = given[gpu.threadIdx.x]
    gpu.syncthreads()
    out[gpu.threadIdx.x] = held[HOLDS - 1 - gpu.threadIdx.x]


def slipped(given: Any, out: Any, count: int) -> None:
    out[0] = given[0] * count  # of an integer and an FP32 number numba makes FP64


def hungry(given: Any, out: Any, count: int) -> None:
    held = gpu.local.array(64, np.float32)
    for i in range(count):
        held[i % 64] += given[i]
    out[0] = held[count % 64]


def fused(given: Any, out: Any) -> None:
    out[0] = gpu.fma(given[0], given[1], given[2])


def source(function: Any, *parameters: Any, name: str = "", **constants: int) -> KernelSource:
    return KernelSource(
        name=name or function.__name__,
        function=function,
        parameters=parameters,
        constants=constants,
    )


DOUBLED = source(doubled, "float32*", "float32*", "int64")
SHARED = source(shared, "float32*", "float32*")


def test_kernels_of_one_module_keep_their_names_and_their_own_memory():
    again = source(doubled, "float16*", "float32*", "int64", name="tripled", TIMES=3)
    more = source(shared, "float32*", "float32*", name="more", HOLDS=16)
    module = toolchain.compile_kernels([DOUBLED, again, SHARED, more, DOUBLED], capability=(9, 0))
    text = module.ptx.decode()
    assert module.names == ("doubled", "tripled", "shared", "more")
    assert re.findall(r"\.entry (\w+)\(", text) == list(module.names)
    assert len(re.findall(r"^\.visible \.shared", text, re.MULTILINE)) == 2
    assert "0f40400000" in text  # 3.0: the constant, seen by the function that the kernel calls
    assert text.startswith(".version 9.0\n.target sm_90\n")
    assert text.endswith("\0")
    assert module.cubin[:4] == b"\x7fELF"
    assert lint(module) == []


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda c: f"sm_{c[0]}{c[1]}")
def test_kernels_for_every_gpu(capability):
    module = toolchain.compile_kernels([DOUBLED, SHARED, sources()[0]], capability=capability)
    assert module.capability == capability
    assert f".target sm_{capability[0]}{capability[1]}" in module.ptx.decode()
    assert lint(module) == []


def test_lint_finds_what_is_slow_or_rounds_otherwise():
    floats = "float32*", "float32*"
    planted = [
        source(slipped, *floats, "int32"),
        source(hungry, *floats, "int32"),
        source(fused, *floats),
    ]
    module = toolchain.compile_kernels([*planted, DOUBLED], capability=(9, 0))
    found = lint(module)
    assert "FP64 in slipped" in found
    assert "a fused operation in fused" in found
    assert any(re.fullmatch(r"256 bytes of local memory in hungry", each) for each in found)
    assert not any("doubled" in each for each in found)


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        ("mul.f32", "an operation that may be fused"),
        ("add.ftz.f32", "an operation that may be fused"),
        ("sqrt.approx.f32", "an operation that is not exact"),
        ("div.full.f32", "an operation that is not exact"),
    ],
)
def test_lint_finds_what_the_assembler_may_change(planted, told):
    module = toolchain.compile_kernels([DOUBLED], capability=(9, 0))
    changed = msgspec.structs.replace(
        module, ptx=module.ptx.replace(b"add.rn.f32", planted.encode())
    )
    assert f"{told} in doubled" in lint(changed)


def test_products_are_not_fused_with_sums():
    def product(given: Any, out: Any) -> None:
        high, low = two_product(given[0], given[1])
        out[0] = high
        out[1] = low

    text = toolchain.ptx_of(source(product, "float32*", "float32*"), (9, 0))
    assert "mul.rn.f32" in text
    assert "fma" not in text
    assert "mad" not in re.sub(r"mad\.lo\.s\d\d", "", text)


def test_a_newer_ptx_than_drivers_read_is_refused(monkeypatch):
    monkeypatch.setattr(toolchain, "PTX_NEWEST", (8, 5))
    with pytest.raises(GpuUnusable, match="PTX") as refused:
        toolchain.compile_kernels([DOUBLED], capability=(9, 0))
    assert "nvidia-nvvm" in refused.value.remedy


def test_a_gpu_that_nobody_knows_is_refused():
    with pytest.raises(GpuUnusable, match="3"):
        toolchain.compile_kernels([DOUBLED], capability=(3, 3))


def test_a_gpu_that_only_some_of_the_libraries_know_is_refused(monkeypatch):
    """Neither nvJitLink's nor NVVM's own error is a RuntimeError."""
    with pytest.raises(GpuUnusable, match="nvJitLink compiles nothing for sm_990") as refused:
        toolchain.link(toolchain.ptx_of(DOUBLED, (9, 0)), (99, 0))
    assert refused.value.__cause__ is None
    from cuda.bindings.nvvm import nvvmError
    from numba.cuda.cudadrv import nvvm

    def older(*_: Any, **__: Any) -> bytes:
        raise nvvmError(8)

    monkeypatch.setattr(nvvm, "compile_ir", older)
    with pytest.raises(GpuUnusable, match=r"cannot be compiled for sm_90: NVVM refused them"):
        toolchain.ptx_of(DOUBLED, (9, 0))


def test_without_nvrtc_the_remedy_names_it_and_no_directories(monkeypatch):
    """numba-cuda asks NVRTC which GPUs there are."""
    from cuda.pathfinder import DynamicLibNotFoundError
    from numba.cuda.cudadrv import nvrtc

    def gone(*_: Any) -> str:
        raise DynamicLibNotFoundError('Failure finding "libnvrtc.so.13"\n  listdir("/a/folder")')

    monkeypatch.setattr(nvrtc, "get_arch_option", gone)
    with pytest.raises(GpuUnusable, match=r'"libnvrtc\.so\.13"$') as refused:
        toolchain.ptx_of(DOUBLED, (9, 0))
    assert "nvidia-cuda-nvrtc 13.0" in refused.value.remedy


@pytest.mark.parametrize("missing", ["numba.cuda", "cuda.bindings"])
def test_without_the_libraries_the_remedy_is_said(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "cuda.bindings":
        with pytest.raises(GpuUnusable, match="nvJitLink") as refused:
            toolchain.link("", (9, 0))
    else:
        import numba

        monkeypatch.delattr(numba, "cuda", raising=False)
        with pytest.raises(GpuUnusable, match="numba-cuda") as refused:
            toolchain.ptx_of(DOUBLED, (9, 0))
    assert "extra 'gpu'" in refused.value.remedy


def test_numba_cuda_is_taken_where_no_pth_file_is_read():
    """As in a folder that PYTHONPATH names: numba's own numba.cuda knows no `abi`."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from runtime.kernels.cuda.toolchain import _libraries\n"
        "print(_libraries()[2].__file__)\n"
    )
    folders = [str(Path(toolchain.__file__).parents[3]), str(Path(np.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *folders], capture_output=True, text=True, check=False
    )
    assert "numba_cuda" in done.stdout, done.stderr


def test_two_kernels_of_one_name_are_a_mistake():
    other = source(shared, "float32*", "float32*", name="doubled")
    with pytest.raises(AssertionError, match="two kernels are called 'doubled'"):
        toolchain.compile_kernels([DOUBLED, other], capability=(9, 0))


def test_names_of_different_words_differ():
    assert symbol("a.b", 1) != symbol("a_b", 1)
    assert re.fullmatch(r"k_a_b_1_[0-9a-f]{8}", symbol("a.b", 1))


def test_outside_a_kernel_there_is_no_device():
    with pytest.raises(AssertionError, match=r"gpu\.grid"):
        doubled(np.zeros(1), np.zeros(1), 1)
    assert isinstance(toolchain.edition(), str)
    assert len(toolchain.edition()) == 16


def test_the_numbers_are_the_plain_functions():
    out = np.zeros(32, np.float32)
    given = np.arange(32, dtype=np.float32)
    run(SHARED, (1, 1, 1), (32, 1, 1), [given, out])
    assert np.array_equal(out, given[::-1])
    run(DOUBLED, (2, 1, 1), (32, 1, 1), [given, out, 20])
    assert np.array_equal(out, np.where(np.arange(32) < 20, 2 * given, given[::-1]))
