"""Recipes: preprocessing and postprocessing as data.

Knows: the steps there are and their parameters. Rules: a step is plain data with its formula in its
docstring. Leaves to others: whether a recipe fits a model (`appliance.fitting`), running the steps
(`runtime.kernels`).

Before the engine, per input: images are height x width x channels (HWC), tables are one row of named
columns. After the engine: steps add outputs made from the engine's outputs.
"""

from enum import StrEnum
from typing import Annotated, Literal, TypeAlias

import msgspec
import numpy as np

from appliance.tensors import TensorName, TensorSpec

FP32_MAX = float(np.finfo(np.float32).max)
Finite = Annotated[float, msgspec.Meta(ge=-FP32_MAX, le=FP32_MAX)]
PositiveInt = Annotated[int, msgspec.Meta(ge=1, le=65536)]
TopCount = Annotated[int, msgspec.Meta(ge=1, le=1024)]


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="step"):
    """One entry of a recipe; TOML names it by its `step` key."""


class Cast(Step, frozen=True, kw_only=True, tag="cast"):
    """Convert values to `datatype`: y = datatype(x), rounded to nearest even, exact from UINT8.

    Larger than FP32 becomes infinite; NaN stays NaN; BYTES cannot be cast.
    """

    datatype: Literal["FP32"] = "FP32"


class Resize(Step, frozen=True, kw_only=True, tag="resize"):
    """Resize HWC to `height` x `width` by bilinear interpolation, half-pixel centres, no antialias.

    `stretch` ignores the aspect ratio; `letterbox` keeps it and fills the border with `fill`, the
    image centred (odd pixels go right and below). Its longer side fits exactly, the other is rounded
    half up to whole pixels, at least 1.
    """

    height: PositiveInt
    width: PositiveInt
    method: Literal["bilinear"] = "bilinear"
    fit: Literal["stretch", "letterbox"] = "stretch"
    fill: Finite = 0.0


class Normalise(Step, frozen=True, kw_only=True, tag="normalise"):
    """Per channel y = (x * scale - mean) / std; one value serves all channels."""

    mean: tuple[Finite, ...]
    std: tuple[Finite, ...]
    scale: Finite = 1.0


class Layout(Step, frozen=True, kw_only=True, tag="layout"):
    """Reorder the axes of an image: HWC to CHW. The last of the image steps."""

    order: Literal["CHW"] = "CHW"


class Select(Step, frozen=True, kw_only=True, tag="select"):
    """Keep `columns`, by name and in this order."""

    columns: tuple[str, ...]


class Impute(Step, frozen=True, kw_only=True, tag="impute"):
    """Replace NaN by the value given for its column."""

    values: dict[str, Finite]


class Standardise(Step, frozen=True, kw_only=True, tag="standardise"):
    """Per named column y = (x - mean) / std in FP32; the three lists run in parallel."""

    columns: tuple[str, ...]
    mean: tuple[Finite, ...]
    std: tuple[Finite, ...]


class OneHot(Step, frozen=True, kw_only=True, tag="one_hot"):
    """Replace `column` by one 0/1 column a category, in place; an unknown value gives all zeros.

    Values and categories are compared as FP32; NaN is no category. The new columns are called
    `column=category`, the category in up to 9 digits.
    """

    column: str
    categories: tuple[Finite, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The new columns, one a category."""
        return tuple(f"{self.column}={category:.9g}" for category in self.categories)


BeforeStep: TypeAlias = Cast | Resize | Normalise | Layout | Select | Impute | Standardise | OneHot
IMAGE_STEPS = (Resize, Normalise, Layout)
TABLE_STEPS = (Select, Impute, Standardise, OneHot)


class Softmax(Step, frozen=True, kw_only=True, tag="softmax"):
    """Add output `output` = exp(x - max x) / sum over the last axis of `tensor`, FP32."""

    tensor: TensorName
    output: TensorName


class ArgMax(Step, frozen=True, kw_only=True, tag="argmax"):
    """Add output `output` = index of the largest value on the last axis (first wins), INT64 [1]."""

    tensor: TensorName
    output: TensorName


class TopK(Step, frozen=True, kw_only=True, tag="top_k"):
    """Add the `k` best classes of `tensor`, best first: `output` INT64 [k], `labels` BYTES [k].

    `labels` names the output with label texts; it needs labels in the model spec.
    """

    tensor: TensorName
    k: TopCount
    output: TensorName
    labels: TensorName | None = None


AfterStep: TypeAlias = Softmax | ArgMax | TopK


class Accepts(StrEnum):
    """What clients send: the raw data or the tensor that the engine takes."""

    RAW = "raw"
    PREPARED = "prepared"


class InputRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one engine input is made: `raw` through `steps` gives the engine's input `feeds`.

    `columns` names the raw columns of a table, in the order clients send them.
    """

    feeds: TensorName
    raw: TensorSpec
    columns: tuple[str, ...] = ()
    accepts: Accepts = Accepts.RAW
    steps: tuple[BeforeStep, ...]


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All steps of a model; inputs without an InputRecipe are passed on as they are sent."""

    inputs: tuple[InputRecipe, ...] = ()
    after: tuple[AfterStep, ...] = ()
    labels: tuple[str, ...] = ()

    def input_for(self, feeds: str) -> InputRecipe | None:
        """The InputRecipe that makes engine input `feeds`, None when it has none."""
        return next((item for item in self.inputs if item.feeds == feeds), None)
