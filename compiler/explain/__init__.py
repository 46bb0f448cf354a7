"""What becomes of one row on its way to the engine, step by step.

Knows: the tensor between any two steps. Rules: each is computed by the kernels that serve, as the recipe cut off
behind that step; the last is what the engine gets. Leaves to others: where rows come from (`sources`), how they
are told (`words`) and drawn (`pictures`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from appliance.errors import ConfigError
from appliance.fitting import Prepared, sent_specs, trace
from appliance.recipe import Accepts, InputRecipe, Recipe
from appliance.tensors import Array, DataType, Interface, TensorSpec
from runtime.kernels.chain import Chain

SENT = "sent"

Rows = Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One tensor of one row: `array` as the step `step` left it ("sent": before the first).

    `prepared` says what its axes and columns are; the array's shape has no axis of rows. Columns sent as
    inputs of their own are an object array, one value a column. `parameters` are the step's.
    """

    step: str
    array: Array
    prepared: Prepared
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def datatype(self) -> DataType:
        """The datatype between the steps."""
        return self.prepared.spec.datatype

    @property
    def numbers(self) -> Array | None:
        """All values but NaN as FP64, None for texts and for a tensor without any."""
        if self.array.dtype == np.object_:
            return None
        values = self.array.astype(np.float64).ravel()
        values = values[~np.isnan(values)]
        return values if values.size else None

    @property
    def nan_share(self) -> float:
        """The share of values that are NaN."""
        if self.array.dtype.kind != "f" or not self.array.size:
            return 0.0
        return float(np.isnan(self.array).mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedInput:
    """The way to the engine input `feeds`: its last stage is what the engine gets."""

    feeds: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All inputs of row `row`."""

    row: int
    inputs: tuple[ExplainedInput, ...]


def explain(recipe: Recipe, engine: Interface, rows: Rows, row: int) -> Explanation:
    """What becomes of row `row` of `rows`, which are as clients send them to a model of `recipe`.

    rows: by served input name, each (rows, ...), that of an unbatched model too. Raises ConfigError when
    there is no such row, RequestError when nothing can be made of it.
    """
    count = len(next(iter(rows.values()), ()))
    if not 0 <= row < count:
        raise ConfigError(f"there is no row {row}", remedy=f"give --row 0 to {count - 1}")
    return Explanation(
        row=row,
        inputs=tuple(
            ExplainedInput(
                feeds=spec.name, stages=tuple(_stages(recipe.input_for(spec.name), spec, rows, row))
            )
            for spec in engine.inputs
        ),
    )


def engine_stage(recipe: Recipe, spec: TensorSpec, rows: Rows, row: int) -> Stage:
    """What the engine gets of row `row` as its input `spec`: the last stage alone."""
    item = recipe.input_for(spec.name)
    if item is None or item.accepts is Accepts.PREPARED or not item.steps:
        return next(_stages(item, spec, rows, row))
    return _stage(item, len(item.steps), rows, row)


def _stages(item: InputRecipe | None, spec: TensorSpec, rows: Rows, row: int) -> Iterator[Stage]:
    sent = [rows[each.name][row, ...] for each in sent_specs(item, spec)]
    if item is None or item.accepts is Accepts.PREPARED:
        made = trace(item)[-1] if item else Prepared(spec=spec, columns=())
        yield Stage(step=SENT, array=sent[0], prepared=made)
        return
    stages = trace(item)
    array = sent[0] if len(sent) == 1 and item.accepts is Accepts.RAW else _columns(sent)
    yield Stage(step=SENT, array=array, prepared=stages[0])
    for at, prepared in enumerate(stages[1:], 1):
        if prepared.texts and prepared.spec.datatype is not DataType.BYTES:
            continue  # half texts, half numbers: no tensor yet
        yield _stage(item, at, rows, row)


def _columns(sent: list[Array]) -> Array:
    """One value a column, whatever its type."""
    values = np.empty(len(sent), np.object_)
    values[:] = [array.reshape(-1)[0] for array in sent]
    return values


def _stage(item: InputRecipe, steps: int, rows: Rows, row: int) -> Stage:
    """The tensor after the first `steps` of `item`."""
    cut = msgspec.structs.replace(item, steps=item.steps[:steps])
    prepared = trace(cut)[-1]
    made = msgspec.structs.replace(prepared.spec, name=item.feeds)
    recipe, engine = Recipe(inputs=(cut,)), Interface(inputs=(made,), outputs=(), batch_max=1)
    chain = Chain(recipe, engine=engine)
    sent = {spec.name: rows[spec.name][row : row + 1] for spec in sent_specs(cut, made)}
    into = np.empty(chain.prepared_shape(sent)[item.feeds], made.datatype.numpy)
    chain.before(sent, {item.feeds: into})
    parameters = msgspec.to_builtins(cut.steps[-1])
    step = parameters.pop("step")
    return Stage(step=step, array=into[0, ...], prepared=prepared, parameters=parameters)
