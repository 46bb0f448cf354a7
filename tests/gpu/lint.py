"""What no compiled kernel may hold."""

import re

from runtime.kernels.cuda import Module
from runtime.kernels.cuda.toolchain import PTX_NEWEST, version_of

REGISTERS_MOST = 80  # then three blocks of 256 threads fit on every multiprocessor since sm_75


def lint(module: Module) -> list[str]:
    """What is wrong with compiled kernels, in words; empty when nothing is.

    Looked for: numbers of 64 bits with a fraction (a slip: numba makes them of an integer and an FP32 number, and most GPUs
    have few units for them), operations that are fused, that the assembler may fuse or that are not rounded right, more registers than REGISTERS_MOST, local memory, functions of another
    module, a newer PTX than PTX_NEWEST.
    """
    text = module.ptx.decode()
    found = []
    for what, pattern in (
        ("FP64", r"\.f64\b"),
        ("a fused operation", r"\b(?:fma|mad)\.(?:r[nzmp]|f\d\d)"),
        ("an operation that may be fused", r"\b(?:add|sub|mul)\.(?:ftz\.|sat\.)?f32"),
        ("an operation that is not exact", r"\.(?:approx|full|ftz)\b"),
        ("local memory", r"^\s*\.local\b"),
        ("a function of another module", r"^\.extern\b"),
    ):
        places = [_kernel_at(text, hit.start()) for hit in re.finditer(pattern, text, re.MULTILINE)]
        found += [f"{what} in {name}" for name in dict.fromkeys(places)]
    for name in module.names:
        if module.registers[name] > REGISTERS_MOST:
            found.append(f"{module.registers[name]} registers in {name}")
        if module.local_bytes[name]:
            found.append(f"{module.local_bytes[name]} bytes of local memory in {name}")
    if version_of(text) > PTX_NEWEST:
        found.append(f"PTX {version_of(text)}")
    return found


def _kernel_at(text: str, at: int) -> str:
    """The kernel whose text holds position `at`: the last entry before it, or the module itself."""
    entries = re.findall(r"\.entry (\w+)\(", text[:at])
    return entries[-1] if entries else "the module"
