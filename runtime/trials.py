"""Rows to try a servable with, made of its golden ones.

Knows: which rows warming and proving run. Rules: only rows that the model takes: golden ones, or blanks
of shapes within its ranges. Leaves to others: running them (`runtime.servable`).
"""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from appliance.golden import Golden
from appliance.tensors import Array, Interface, blank

Rows: TypeAlias = Mapping[str, Array]


def over_again(golden: Golden, rows: int) -> Golden:
    """The golden rows in turn until there are `rows` of them."""
    chosen = np.arange(rows) % golden.rows
    return Golden(
        inputs={name: array[chosen] for name, array in golden.inputs.items()},
        outputs={name: array[chosen] for name, array in golden.outputs.items()},
    )


def of_lengths(served: Interface, shapes: Mapping[str, tuple[int, ...]], golden: Golden) -> Rows:
    """One row of zeros of `shapes`; inputs without a range are those of the first golden row."""
    rows = (1,) if served.batch_max else ()
    blanks = {
        spec.name: blank((*rows, *shapes[spec.name]), spec.datatype)
        for spec in served.inputs
        if spec.ranges
    }
    return {**repeated(golden.inputs, 1, served.batch_max), **blanks}


def repeated(rows: Rows, count: int, batch_max: int) -> Rows:
    """The first golden row `count` times; without a batch axis, the row alone."""
    if not batch_max:
        return {name: array[0, ...] for name, array in rows.items()}
    return {name: np.repeat(array[:1], count, axis=0) for name, array in rows.items()}
