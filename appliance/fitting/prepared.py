"""A tensor between two steps.

Knows: what is known of it before anything runs. Rules: plain data. Leaves to others: what each step makes
of it (`images`, `tables`, `signals`).
"""

from typing import Literal, TypeAlias

import msgspec
import numpy as np

from appliance.errors import RecipeError
from appliance.recipe import Step
from appliance.tensors import DataType, TensorSpec

# What the axes are: of images; of signals from their first step on ("levels" is a logarithmic spectrum).
Order: TypeAlias = Literal[
    "HWC", "CHW", "HW", "samples", "frames", "spectrum", "mels", "levels", "transposed"
]


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor between two steps: its spec, column names when a table, axes when an image or a signal.

    `texts` are the columns that are still texts, while spec.datatype is that of the others.
    """

    spec: TensorSpec
    columns: tuple[str, ...]
    texts: tuple[str, ...] = ()
    order: Order = "HWC"


def replaced(
    before: Prepared,
    *,
    datatype: DataType | None = None,
    shape: tuple[int, ...] | None = None,
    columns: tuple[str, ...] | None = None,
    texts: tuple[str, ...] | None = None,
    order: Order | None = None,
) -> Prepared:
    """`before` with another datatype, shape, columns, texts or order."""
    spec = TensorSpec(
        name=before.spec.name,
        datatype=before.spec.datatype if datatype is None else datatype,
        shape=before.spec.shape if shape is None else shape,
    )
    return Prepared(
        spec=spec,
        columns=before.columns if columns is None else columns,
        texts=before.texts if texts is None else texts,
        order=before.order if order is None else order,
    )


def vanishes(values: tuple[float, ...]) -> bool:
    """True when one of `values` is 0 in FP32."""
    return any(np.float32(value) == 0.0 for value in values)


def check(step: Step, before: Prepared, fits: bool, why: str) -> None:  # noqa: FBT001 - the condition itself
    """Raise the error of `step` on `before`, with what it needs, unless it `fits`."""
    if not fits:
        raise misfit(step, before, why)


def misfit(step: Step, before: Prepared, why: str) -> RecipeError:
    """The error of `step` on a tensor that it cannot take, and why."""
    tag = step.__struct_config__.tag
    return RecipeError(
        f"step '{tag}' on '{before.spec.name}' "
        f"({before.spec.datatype} {list(before.spec.shape)}): {why}",
        remedy="correct the step or the order of steps",
    )
