"""Compiling: a kernel is a plain Python function until `compiled` makes machine code of it.

Knows: numba and its cache. Rules: one declared signature a kernel, so that no request waits for a
compiler; serial, with the interpreter lock released, since parallelism is the server's; no fast-math, so
that a formula means what it says; machine code is kept only where NUMBA_CACHE_DIR says
(`appliance.config.use_kernel_cache`), else every process compiles anew, up to a second a kernel.
Leaves to others: the kernels (`*_steps`) and which of them a recipe needs.
"""

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numba
import numpy as np
from numba.core import config as numba_config
from numba.extending import register_jitable
from numpy.typing import DTypeLike

from appliance import journal

Kernel: TypeAlias = Callable[..., None]
NumbaType: TypeAlias = Any  # numba ships no types for its types

config: Any = numba_config  # its settings are made at run time

INTEGER: NumbaType = numba.types.int64
SINGLE: NumbaType = numba.types.float32
DOUBLE: NumbaType = numba.types.float64
FLAG: NumbaType = numba.types.boolean
NONE: NumbaType = numba.types.none


def reads(dtype: DTypeLike, axes: int) -> NumbaType:
    """The type of a C-contiguous array that a kernel only reads; read-only ones fit too."""
    return numba.types.Array(numba.from_dtype(np.dtype(dtype)), axes, "C", readonly=True)


def writes(dtype: DTypeLike, axes: int) -> NumbaType:
    """The type of a C-contiguous array that a kernel writes."""
    return numba.types.Array(numba.from_dtype(np.dtype(dtype)), axes, "C")


def integers(count: int) -> NumbaType:
    """The type of a tuple of `count` integers."""
    return numba.types.UniTuple(INTEGER, count)


def singles(count: int) -> NumbaType:
    """The type of a tuple of `count` FP32 numbers."""
    return numba.types.UniTuple(SINGLE, count)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function that kernels call; it stays plain Python to everyone else."""
    marked: Callable[..., Any] = register_jitable(function)
    return marked


@cache
def compiled(kernel: Kernel, *arguments: NumbaType) -> Kernel:
    """Compile `kernel` for exactly these argument types; asked again, the same machine code.

    A call with other types raises TypeError.
    """
    config.reload_config()  # the cache directory may have been named after numba was imported
    signature = numba.types.void(*arguments)
    directory = os.environ.get("NUMBA_CACHE_DIR")
    if not directory:
        return _compile(kernel, signature, keep=False)
    kept = Path(directory) / _edition()
    config.CACHE_DIR = str(kept)
    try:
        return _compile(kernel, signature, keep=True)
    except Exception as cause:  # noqa: BLE001  unpickling torn bytes can raise anything
        # A power cut may tear a kept file and a full disk may refuse one: neither may stop a boot.
        # What is wrong with the kernel itself is raised again below.
        journal.failure("kernels.cache", cause, kernel=kernel.__name__)
        _drop_kept(kernel, kept)
        return _compile(kernel, signature, keep=False)


@cache
def _edition() -> str:
    """A digest of this room's sources.

    numba asks only whether the file of a kernel changed, not those of the functions inlined into it: after an
    upgrade that touched one of them, machine code of the last release would run.
    """
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _compile(kernel: Kernel, signature: NumbaType, *, keep: bool) -> Kernel:
    made: Any = numba.njit(signature, nogil=True, error_model="numpy", cache=keep)(kernel)
    # numba numbers what it keeps of a kernel without a lock: of two processes that keep it for different
    # types at once, one may write the index and the other the code that it names.
    if signature.args not in made.overloads:
        raise LookupError("the kept machine code is for other types")
    machine_code: Kernel = made
    return machine_code


def _drop_kept(kernel: Kernel, directory: Path) -> None:
    """Remove what is kept of `kernel`, so that the next process writes it anew."""
    stem = Path(kernel.__code__.co_filename).stem
    for file in directory.glob(f"*/{stem}.{kernel.__name__}-*.nb[ic]"):
        file.unlink(missing_ok=True)
