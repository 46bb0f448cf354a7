"""The kernel of tables: what each table step computes, to the rounding.

Knows: tables in, tables out, one pass. Rules: plain Python in the part of it that numba compiles; FP32
arithmetic, each operation rounded to nearest even, unless a docstring says otherwise; nothing is
allocated; shapes are right when the kernel is called, nothing is checked in here. Leaves to others: which
operations a recipe's columns need (`table_programs`).
"""

# ruff: noqa: PLR0917  numba calls take positions only
import math

import numpy as np

from appliance.tensors import Array
from runtime.kernels.compiled import inlined

FILL, STANDARDISE, EQUALS, ATLEAST, ATMOST, LOG1P, SEEK, MATCH, KEEP, DEMAND = range(10)


def run_table(
    raw: Array,
    out: Array,
    source: Array,
    first: Array,
    operation: Array,
    left: Array,
    right: Array,
    unknown: Array,
) -> None:
    """Make each output column by its own short program.

    raw: (rows, raw columns) FP32. out: (rows, columns) FP32. Program j starts with x = raw[:, source[j]], goes
    through operations first[j] .. first[j + 1] - 1 and gives column j; what programs beyond the last column
    give is dropped, they only demand. All is FP32 and operands are rounded to FP32 beforehand:

    FILL: x = left if x is NaN. STANDARDISE: x = (x - left) / right. EQUALS: x = 1 if x == left else 0 (NaN
    equals nothing). ATLEAST, ATMOST: x = left where x is less, greater. LOG1P: x = ln(1 + x), in FP64 and
    rounded. SEEK: found = left. MATCH: found = right if x == left. KEEP: x = found. DEMAND: where x is
    NaN, row and j are written to `unknown`, INT64 (2,), if nothing is there yet (-1).
    """
    for r in range(raw.shape[0]):
        for j in range(source.size):
            value = raw[r, source[j]]
            found = np.float32(math.nan)
            for at in range(first[j], first[j + 1]):
                kind = operation[at]
                if kind <= EQUALS:
                    value = arithmetic(kind, value, left[at], right[at])
                elif kind <= LOG1P:
                    value = bounded(kind, value, left[at])
                elif kind == SEEK:
                    found = left[at]
                elif kind == MATCH:
                    found = right[at] if value == left[at] else found
                elif kind == KEEP:
                    value = found
                elif math.isnan(value) and unknown[0] < 0:
                    unknown[0], unknown[1] = r, j
            if j < out.shape[1]:
                out[r, j] = value


@inlined
def arithmetic(kind: int, value: float, left: float, right: float) -> float | np.float32:
    """FILL, STANDARDISE or EQUALS."""
    if kind == FILL:
        return left if math.isnan(value) else value
    if kind == STANDARDISE:
        return (value - left) / right
    return np.float32(1.0) if value == left else np.float32(0.0)


@inlined
def bounded(kind: int, value: float, left: float) -> float | np.float32:
    """ATLEAST, ATMOST or LOG1P; NaN stays NaN, which max and min do not say."""
    if kind == ATLEAST:
        return left if value < left else value  # noqa: FURB136
    if kind == ATMOST:
        return left if value > left else value  # noqa: FURB136
    return np.float32(np.log1p(np.float64(value)))
