"""The model spec: what an engineer writes beside the ONNX file.

Knows: the TOML's tables, keys and defaults. Rules: unknown keys are refused; file names are relative to
the spec. Leaves to others: whether it fits the model (`opening`, `appliance.recipe`) and the data
(`rows`).
"""

from pathlib import Path
from typing import Annotated

import msgspec

from appliance.errors import SpecError
from appliance.manifest import (
    Acceptance,
    CalibrationMethod,
    Compatible,
    Disturbance,
    Edition,
    Limits,
    Precision,
    Provenance,
    Release,
    Tolerances,
)
from appliance.recipe import AfterStep, InputRecipe, Recipe
from appliance.states import State
from appliance.tables import read_toml
from appliance.tensors import AxisRange
from appliance.version import ModelName

BATCH_MAX = 32  # where the spec says nothing
BATCH_LIMIT = 65536


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the spec."""


class ModelTable(Table, frozen=True, kw_only=True):
    """[model]: its name, why this version exists, its labels.

    `batch_max` is the most rows in one engine call; left out it is 32 for a model with a batch axis and
    0 for one without; 0 serves requests one at a time, in the model's own shapes. `fallback` keeps
    a portable fp32 engine beside the fastest one, to serve, slower, after the processor or a library has
    changed and until that one is made anew.
    `edition` counts what you pack of this model: a box refuses one older than it has. `minimum_release` is the
    oldest release of this software that may build it. `compatible` names the kind of box that it is for,
    such as "tumours/x86": a box whose settings name others refuses it.
    `interface_changes` lets its interface or labels differ from the active version's, which is refused else.
    `open_batch` opens the first axis of a model that was exported for one row, and compares. `axes` limits
    the other open axes of the inputs, by their name in the graph, or by "TENSOR.NUMBER" counted from 0 with
    the batch axis: [model.axes.height] or [model.axes."image.2"] with min = 32, opt = 224, max = 512 and,
    where it takes multiples only, step = 32.
    `states`, each a [[model.states]], are what the model keeps between the requests of a sequence: what it gives
    as `output` it takes as `input` with the next one, zeros with the first. Clients and data files have neither.
    """

    name: ModelName
    release_notes: Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]
    labels: tuple[str, ...] = ()
    batch_max: Annotated[int, msgspec.Meta(ge=0, le=BATCH_LIMIT)] | None = None
    precision: Precision = Precision.FP32
    fallback: bool = True
    interface_changes: bool = False
    edition: Edition | None = None
    minimum_release: Release | None = None
    compatible: Compatible | None = None
    open_batch: bool = False
    axes: dict[str, AxisRange] = {}
    states: tuple[State, ...] = ()


class DataTable(Table, frozen=True, kw_only=True):
    """[data]: files of raw rows (.npz, one array an input, rows first).

    `sample` gives the golden rows, its first `golden_rows`; with a batch axis they must not be all alike,
    so that a model that mixes rows is found out. `held_out` was not trained on; it gives the
    reference profile and, with its array "label" (classes: int64 [rows]; values: float64 [rows, ...]),
    the acceptance metrics. An array "segment/NAME" of `held_out` (text or int64, one a row) is a column
    that thresholds may name.
    """

    sample: str
    held_out: str
    golden_rows: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16


class CalibrationTable(Table, frozen=True, kw_only=True):
    """[calibration], for int8: the first `rows` of the sample, and how ranges are found from them."""

    method: CalibrationMethod = CalibrationMethod.MINMAX
    rows: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 512


class RecipeTable(Table, frozen=True, kw_only=True):
    """[recipe]: steps before and after the engine."""

    inputs: tuple[InputRecipe, ...] = ()
    after: tuple[AfterStep, ...] = ()


class Spec(Table, frozen=True, kw_only=True):
    """The whole spec."""

    model: ModelTable
    data: DataTable
    acceptance: tuple[Acceptance, ...] = ()
    tolerance: Tolerances = Tolerances()
    calibration: CalibrationTable = CalibrationTable()
    limits: Limits = Limits()
    robustness: tuple[Disturbance, ...] = ()
    provenance: Provenance
    recipe: RecipeTable = RecipeTable()

    def full_recipe(self) -> Recipe:
        """The recipe as the bundle seals it, with the model's labels."""
        return Recipe(inputs=self.recipe.inputs, after=self.recipe.after, labels=self.model.labels)


def read_spec(path: Path) -> Spec:
    """Read the TOML file `path`. Raises SpecError naming the wrong key and the nearest right one."""
    return read_toml(path, Spec, SpecError)


def axis_table(name: str) -> str:
    """The table of a spec that gives the range of the axis `name`, quoted where TOML needs it."""
    bare = name.isascii() and name.replace("_", "a").replace("-", "a").isalnum()
    return f"[model.axes.{name}]" if bare else f'[model.axes."{name}"]'
