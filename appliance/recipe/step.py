"""What every step of a recipe is.

Knows: the base of all steps and the bounds of their numbers. Rules: a step is plain data with its formula
in its docstring. Leaves to others: the steps themselves (`images`, `tables`, `signals`, `outputs`).
"""

from typing import Annotated, Literal

import msgspec
import numpy as np

FP32_MAX = float(np.finfo(np.float32).max)
Finite = Annotated[float, msgspec.Meta(ge=-FP32_MAX, le=FP32_MAX)]
PositiveInt = Annotated[int, msgspec.Meta(ge=1, le=65536)]


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="step"):
    """One entry of a recipe; TOML names it by its `step` key."""


class Cast(Step, frozen=True, kw_only=True, tag="cast"):
    """Convert all numbers to FP32, rounded to nearest even; exact from integers up to 2**24.

    Of images, tables and signals alike. What is too large becomes infinite, NaN stays NaN, false and true
    become 0 and 1. Columns of texts beside the numbers stay texts; a tensor of texts alone is refused.
    """

    datatype: Literal["FP32"] = "FP32"
