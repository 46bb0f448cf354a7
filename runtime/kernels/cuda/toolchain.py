"""The toolchain: recipe kernels to machine code, on the box that builds an engine; no GPU is needed.

Knows: numba-cuda, its NVVM, and nvJitLink. Rules: a kernel's parameters are plain C types; multiplications and additions are
never fused, divisions and roots are rounded right, subnormal numbers are kept; all kernels of an engine are one text of PTX, which
is linked into one cubin, so that what is shipped as PTX has been read by the assembler. Nothing of this runs while a model is served. Leaves
to others: the kernels (their rooms), what they see (`binding`), launching them (`runtime.gpu`), keeping the module (`runtime.gpu.engine_file`).

Sources: numba-cuda's compile_cuda, which the public numba.cuda.compile wraps without a way to switch fusing off; PTX ISA 9.0,
chapters 5 (state spaces) and 9.7 (rounding); nvJitLink's reference.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from appliance.errors import GpuUnusable
from runtime.kernels.cuda import KernelSource, Module, Parameter
from runtime.kernels.cuda.binding import Callees, bound

PTX_NEWEST: Final = (9, 0)  # what the oldest supported driver, of CUDA 13.0, reads
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
HEADER = re.compile(r"^\.version (\d+)\.(\d+)\n\.target \w+\n\.address_size 64$", re.MULTILINE)
DEFINED = re.compile(
    r"^(?:\.visible |\.common |\.weak )?\.(?:global|shared|const|func)\b[^;{]*?"
    r"([A-Za-z_$][\w$]*)(?=\[|\(|;| =)",
    re.MULTILINE,
)
ENVIRONMENT = re.compile(r"^\.common \.global [^\n]*NumbaEnv[^\n]*;\n", re.MULTILINE)
USED = re.compile(
    r"Function properties for '(\w+)':\n"
    r"[^\n]*used (\d+) registers[^\n]*?(\d+) stack, [^\n]*?(\d+) bytes lmem"
)


class Use(NamedTuple):
    """What a thread of a kernel takes of the GPU: registers, and bytes of stack and local memory."""

    registers: int
    local: int


def compile_kernels(sources: Sequence[KernelSource], *, capability: tuple[int, int]) -> Module:
    """Compile `sources` for GPUs of `capability`, such as (9, 0) for sm_90.

    Sources that are given twice are compiled once. Raises GpuUnusable when numba-cuda or its libraries are missing or write
    PTX that the oldest supported driver cannot read, or when they do not know such GPUs.
    """
    named = _by_name(sources)
    header, bodies = "", []
    callees: Callees = {}
    for source in named.values():
        header, body = _split_header(ptx_of(source, capability, callees))
        bodies.append(body)
    ptx = header + "".join(bodies)
    cubin, log = link(ptx, capability)
    used = {name: Use(int(r), int(s) + int(o)) for name, r, s, o in USED.findall(log)}
    assert set(used) >= set(named), f"the linker's log names {set(used)}"
    return Module(
        capability=capability,
        cubin=cubin,
        ptx=ptx.encode() + b"\0",
        names=tuple(named),
        registers={name: used[name].registers for name in named},
        local_bytes={name: used[name].local for name in named},
    )


@cache
def edition() -> str:
    """A digest of the sources of all kernels and of what launches them, 16 hexadecimal digits."""
    files = sorted(Path(__file__).parent.parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def ptx_of(
    source: KernelSource, capability: tuple[int, int], callees: Callees | None = None
) -> str:
    """One kernel as PTX, its entry called as the source; `callees` are kept between kernels. Raises GpuUnusable."""
    try:
        text, mangled = _lowered(source, capability, callees)
    except (
        ImportError,
        OSError,
        RuntimeError,
    ) as cause:  # NVVM or NVRTC is missing, or knows no such GPU
        raise GpuUnusable(
            f"the kernels cannot be compiled for sm_{capability[0]}{capability[1]}: {_first_line(cause)}",
            remedy="install nvidia-nvvm 13.0 and nvidia-cuda-nvrtc 13.0, as the extra 'gpu' asks for; GPUs before sm_75 are too old",
        ) from cause
    if version_of(text) > PTX_NEWEST:
        raise GpuUnusable(
            f"the installed NVVM writes PTX {version_of(text)}, newer than {PTX_NEWEST}",
            remedy="install nvidia-nvvm 13.0, as the extra 'gpu' asks for",
        )
    text = ENVIRONMENT.sub("", text).replace(mangled, source.name)
    # Kernels of one module share its names; numba numbers shared arrays anew for each.
    for name in sorted(set(DEFINED.findall(text)) - {source.name}, key=len, reverse=True):
        text = re.sub(
            rf"(?<![\w$]){re.escape(name)}(?![\w$])", f"{source.name}_{_short(name)}", text
        )
    return text


def version_of(ptx: str) -> tuple[int, int]:
    """The version of the PTX ISA that a text is written in."""
    found = HEADER.search(ptx)
    assert found is not None, "PTX without a header"
    return int(found[1]), int(found[2])


def _lowered(
    source: KernelSource, capability: tuple[int, int], callees: Callees | None
) -> tuple[str, str]:
    """The PTX as numba-cuda writes it, and what it calls the kernel. Raises GpuUnusable, ImportError, RuntimeError."""
    numba_cuda, types, compiler = _libraries()
    with _pretended(capability):
        compiled = compiler.compile_cuda(
            bound(source, numba_cuda, numba_cuda.jit(device=True), callees),
            types.void,
            tuple(_type_of(parameter, types) for parameter in source.parameters),
            nvvm_options={"opt": 3, "fma": 0, "fastmath": False},
            cc=capability,
            abi="numba",
        )
        library, mangled = compiled.library, compiled.fndesc.llvm_func_name
        library._entry_name = mangled  # noqa: SLF001  as numba.cuda.compile does
        compiler.kernel_fixup(library.get_function(mangled), debug=False)
        from cuda.bindings.nvvm import nvvmError  # noqa: PLC0415

        try:
            return library.get_asm_str(cc=capability), mangled
        except nvvmError as cause:  # no RuntimeError: an NVVM older than NVRTC knows fewer GPUs
            raise RuntimeError(f"NVVM refused them ({cause})") from cause


def _by_name(sources: Sequence[KernelSource]) -> dict[str, KernelSource]:
    named: dict[str, KernelSource] = {}
    for source in sources:
        assert NAME.fullmatch(source.name), f"'{source.name}' is no symbol"
        first = named.setdefault(source.name, source)
        is_same = (
            first.function.__code__ is source.function.__code__
            and first.parameters == source.parameters
            and first.constants == source.constants
        )
        assert is_same, f"two kernels are called '{source.name}'"
    return named


def _type_of(parameter: Parameter, types: Any) -> Any:
    pointed = parameter.removesuffix("*")
    # A bool is a byte in memory; numba's own boolean is one bit wide in LLVM.
    value = getattr(types, "uint8" if pointed == "bool" else pointed)
    return types.CPointer(value) if parameter.endswith("*") else value


def _split_header(ptx: str) -> tuple[str, str]:
    found = HEADER.search(ptx)
    assert found is not None, "PTX without a header"
    return found[0] + "\n", ptx[found.end() :]


def _short(name: str) -> str:
    """What a symbol of ours is called behind its kernel's name."""
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _libraries() -> tuple[Any, Any, Any]:
    """numba.cuda, numba's types and numba-cuda's compiler. Raises GpuUnusable."""
    try:
        # Else numba finds a numba.cuda of its own: numba-cuda's .pth file, which does this, is not read in a folder of PYTHONPATH.
        import_module("_numba_cuda_redirector")
        from numba import cuda, types  # noqa: PLC0415  only a build on a box with a GPU pays for it
        from numba.cuda import compiler  # noqa: PLC0415
    except (ImportError, AttributeError) as cause:  # or it asks numpy for what a newer one lacks
        raise _missing("numba-cuda", cause) from cause
    return cuda, types, compiler


@contextmanager
def _pretended(capability: tuple[int, int]) -> Iterator[None]:
    """Answer numba-cuda's question for the GPU at hand, whose driver it would load, with the one compiled for.

    It is asked for each device function, although they are compiled as part of their kernel.
    """
    from numba.cuda import dispatcher as real_dispatcher  # noqa: PLC0415

    dispatcher: Any = real_dispatcher
    real = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: _Pretended(capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = real


class _Pretended(NamedTuple):
    compute_capability: tuple[int, int]


def link(ptx: str, capability: tuple[int, int]) -> tuple[bytes, str]:
    """A text of PTX as a cubin, and the linker's log. Raises GpuUnusable."""
    try:
        from cuda.bindings import nvjitlink  # noqa: PLC0415

        data = ptx.encode()
        options = [f"-arch=sm_{capability[0]}{capability[1]}", "-verbose", "-fma=0"]
        handle = nvjitlink.create(len(options), options)
    except (ImportError, RuntimeError) as cause:
        raise _missing("nvJitLink", cause) from cause
    except nvjitlink.nvJitLinkError as cause:
        raise GpuUnusable(
            f"nvJitLink compiles nothing for sm_{capability[0]}{capability[1]}: {cause}",
            remedy="install nvidia-nvjitlink of a release that knows this GPU",
        ) from None  # as a chained cause it would say that kernels of ours were refused
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, data, len(data), "kernels")
        nvjitlink.complete(handle)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
        cubin = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, cubin)
    except nvjitlink.nvJitLinkError as cause:
        text = bytearray(nvjitlink.get_error_log_size(handle))
        nvjitlink.get_error_log(handle, text)
        raise GpuUnusable(
            f"nvJitLink refused the kernels for sm_{capability[0]}{capability[1]}: "
            f"{text.decode(errors='replace').strip() or cause}",
            remedy="install nvidia-nvjitlink of a release that knows this GPU",
        ) from cause
    finally:
        nvjitlink.destroy(handle)
    return bytes(cubin), log.decode(errors="replace")


def _missing(what: str, cause: BaseException) -> GpuUnusable:
    return GpuUnusable(
        f"the kernels cannot be compiled: {what} is not usable ({_first_line(cause)})",
        remedy="install holdfast with the extra 'gpu'",
    )


def _first_line(cause: BaseException) -> str:
    """What a library says, without the list of all directories where it looked."""
    return str(cause).partition("\n")[0]
