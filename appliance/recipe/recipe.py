"""A model's whole recipe.

Knows: what is done to each input before the engine and to its outputs after. Rules: plain data. Leaves to
others: the steps; whether a recipe fits a model (`appliance.fitting`).
"""

from enum import StrEnum
from typing import TypeAlias

import msgspec

from appliance.recipe.boxes import BoxStep
from appliance.recipe.images import ImageStep
from appliance.recipe.outputs import Drop, ScoreStep
from appliance.recipe.signals import SignalStep
from appliance.recipe.step import Cast
from appliance.recipe.tables import TableStep
from appliance.tensors import TensorName, TensorSpec

BeforeStep: TypeAlias = Cast | ImageStep | TableStep | SignalStep
AfterStep: TypeAlias = ScoreStep | BoxStep | Drop


class Accepts(StrEnum):
    """What clients send: the raw data, each column by its name, or the tensor that the engine takes."""

    RAW = "raw"
    COLUMNS = "columns"
    PREPARED = "prepared"


class InputRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one engine input is made: `raw` through `steps` gives the engine's input `feeds`.

    `columns` names the raw columns of a table, in the order clients send them. With accepts = "columns"
    each is an input of its own, called as the column, [rows, 1], so that a column that is missing or has
    another name is refused by name. `texts` are those of them that hold texts: BYTES, where the others
    are numbers of raw.datatype. A table whose raw.datatype is BYTES holds nothing but texts.
    """

    feeds: TensorName
    raw: TensorSpec
    columns: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
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
