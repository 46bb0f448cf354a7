"""Whether a recipe fits a model, and what clients then see. Pure.

Knows: what each step does to a tensor spec. Rules: a recipe is checked against the engine's interface
before anything runs; the served interface follows from both. Leaves to others: what the steps are
(`appliance.recipe`), running them (`runtime.kernels`).
"""

from typing import Literal

import msgspec
import numpy as np

from appliance.errors import RecipeError
from appliance.recipe import (
    FP32_MAX,
    IMAGE_STEPS,
    TABLE_STEPS,
    Accepts,
    AfterStep,
    ArgMax,
    BeforeStep,
    Cast,
    Impute,
    InputRecipe,
    Layout,
    Normalise,
    OneHot,
    Recipe,
    Resize,
    Select,
    Softmax,
    Standardise,
    Step,
    TopK,
)
from appliance.tensors import DataType, Interface, TensorSpec


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor between two steps: its spec, column names when a table, axes when an image."""

    spec: TensorSpec
    columns: tuple[str, ...]
    order: Literal["HWC", "CHW"] = "HWC"


def served_interface(recipe: Recipe, engine: Interface) -> Interface:
    """What clients see: raw inputs where the recipe takes raw data, engine outputs plus added ones.

    Raises RecipeError when the recipe does not fit the engine's interface.
    """
    fed = [item.feeds for item in recipe.inputs]
    if len(set(fed)) != len(fed):
        raise RecipeError(f"two recipes feed one input: {fed}", remedy="keep one of them")
    inputs = tuple(_served_input(recipe, spec) for spec in engine.inputs)
    unused = set(fed) - {spec.name for spec in engine.inputs}
    if unused:
        raise RecipeError(
            f"the recipe feeds {sorted(unused)}, which the model does not take",
            remedy=f"feed one of {[spec.name for spec in engine.inputs]}",
        )
    outputs = list(engine.outputs)
    for step in recipe.after:
        outputs += _added_outputs(step, outputs, recipe.labels)
    _check_unique([spec.name for spec in inputs], "input")
    _check_unique([spec.name for spec in outputs], "output")
    return Interface(inputs=inputs, outputs=tuple(outputs), batch_max=engine.batch_max)


def trace(item: InputRecipe) -> list[Prepared]:
    """The tensor before the first step and after each one. Raises RecipeError at a step that fails."""
    stages = [Prepared(spec=item.raw, columns=item.columns)]
    if item.columns and item.raw.shape != (len(item.columns),):
        raise RecipeError(
            f"input '{item.raw.name}' has shape {list(item.raw.shape)} "
            f"but names {len(item.columns)} columns",
            remedy="a table's raw shape is [number of columns]",
        )
    _check_unique(list(item.columns), "column")
    for step in item.steps:
        stages.append(_after_step(step, stages[-1]))
    return stages


def _served_input(recipe: Recipe, spec: TensorSpec) -> TensorSpec:
    item = recipe.input_for(spec.name)
    if item is None:
        return spec
    made = trace(item)[-1].spec
    if made.datatype != spec.datatype or not spec.fits(made.shape):
        raise RecipeError(
            f"the recipe makes {made.datatype} {list(made.shape)} for '{spec.name}', "
            f"the model takes {spec.datatype} {list(spec.shape)}",
            remedy="correct the steps or their order",
        )
    return item.raw if item.accepts is Accepts.RAW else spec


def _after_step(step: BeforeStep, before: Prepared) -> Prepared:
    _check_kind(step, before)
    spec, columns = before.spec, before.columns
    match step:
        case Cast():
            return _with(before, datatype=DataType(step.datatype))
        case Resize():
            return _with(before, shape=(step.height, step.width, spec.shape[2]))
        case Normalise():
            _check_channels(step, before)
            return before
        case Layout():
            chw = (spec.shape[2], spec.shape[0], spec.shape[1])
            return msgspec.structs.replace(_with(before, shape=chw), order=step.order)
        case Select():
            _check_columns(step, before, step.columns)
            return _with(before, shape=(len(step.columns),), columns=step.columns)
        case Impute():
            _check_columns(step, before, tuple(step.values))
            return before
        case Standardise():
            _check_columns(step, before, step.columns)
            if not len(step.columns) == len(step.mean) == len(step.std) or _vanishes(step.std):
                raise _misfit(step, before, "needs one mean and one std, not 0 in FP32, a column")
            return before
        case OneHot():  # pragma: no branch
            columns = _hot_columns(step, before)
            return _with(before, shape=(len(columns),), columns=columns)


def _check_kind(step: BeforeStep, before: Prepared) -> None:
    """Refuse a step that does not work on tensors like `before` at all."""
    spec = before.spec
    if isinstance(step, IMAGE_STEPS) and (len(spec.shape) != 3 or before.order != "HWC"):
        raise _misfit(step, before, "needs an image of 3 axes, height x width x channels")
    if isinstance(step, TABLE_STEPS) and not before.columns:
        raise _misfit(step, before, "needs named columns")
    if isinstance(step, Cast) and spec.datatype is DataType.BYTES:
        raise _misfit(step, before, "needs numbers")
    if not isinstance(step, Cast | Select) and spec.datatype is not DataType.FP32:
        raise _misfit(step, before, "needs FP32: put a cast first")


def _with(
    before: Prepared,
    *,
    datatype: DataType | None = None,
    shape: tuple[int, ...] | None = None,
    columns: tuple[str, ...] | None = None,
) -> Prepared:
    spec = TensorSpec(
        name=before.spec.name,
        datatype=before.spec.datatype if datatype is None else datatype,
        shape=before.spec.shape if shape is None else shape,
    )
    return msgspec.structs.replace(
        before, spec=spec, columns=before.columns if columns is None else columns
    )


def _check_channels(step: Normalise, before: Prepared) -> None:
    channels = before.spec.shape[2]
    if len(step.mean) != len(step.std) or _vanishes(step.std):
        raise _misfit(step, before, "needs as many std as mean, none of them 0 in FP32")
    if len(step.mean) not in (1, channels):
        raise _misfit(step, before, f"needs 1 or {channels} values of mean and std")
    for mean, std in zip(step.mean, step.std, strict=True):
        if max(abs(step.scale / std), abs(mean / std)) > FP32_MAX:
            raise _misfit(step, before, f"scale and mean over std {std:g} do not fit FP32")


def _check_columns(step: Step, before: Prepared, names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in before.columns]
    if missing or not names or len(set(names)) != len(names):
        raise _misfit(step, before, f"needs columns that exist, each once; missing {missing}")


def _hot_columns(step: OneHot, before: Prepared) -> tuple[str, ...]:
    """The columns after a one-hot step. Raises RecipeError when they cannot be told apart."""
    _check_columns(step, before, (step.column,))
    at = before.columns.index(step.column)
    columns = before.columns[:at] + step.names + before.columns[at + 1 :]
    distinct = {float(np.float32(category)) for category in step.categories}
    if not distinct or len(distinct) != len(step.names) or len(set(columns)) != len(columns):
        raise _misfit(step, before, "needs categories that differ in FP32 and name new columns")
    return columns


def _vanishes(values: tuple[float, ...]) -> bool:
    return any(np.float32(value) == 0.0 for value in values)


def _misfit(step: Step, before: Prepared, why: str) -> RecipeError:
    tag = step.__struct_config__.tag
    return RecipeError(
        f"step '{tag}' on '{before.spec.name}' "
        f"({before.spec.datatype} {list(before.spec.shape)}): {why}",
        remedy="correct the step or the order of steps",
    )


def _added_outputs(
    step: AfterStep, outputs: list[TensorSpec], labels: tuple[str, ...]
) -> list[TensorSpec]:
    source = next((spec for spec in outputs if spec.name == step.tensor), None)
    if source is None or source.datatype is not DataType.FP32 or source.shape[-1:] in ((), (0,)):
        raise RecipeError(
            f"step '{step.__struct_config__.tag}' needs an FP32 output '{step.tensor}' with an axis",
            remedy=f"use one of {[spec.name for spec in outputs]}",
        )
    classes, lead = source.shape[-1], source.shape[:-1]
    match step:
        case Softmax():
            return [TensorSpec(name=step.output, datatype=DataType.FP32, shape=source.shape)]
        case ArgMax():
            return [TensorSpec(name=step.output, datatype=DataType.INT64, shape=(*lead, 1))]
        case TopK():  # pragma: no branch
            _check_top_k(step, classes, labels)
            indices = TensorSpec(name=step.output, datatype=DataType.INT64, shape=(*lead, step.k))
            if step.labels is None:
                return [indices]
            texts = TensorSpec(name=step.labels, datatype=DataType.BYTES, shape=(*lead, step.k))
            return [indices, texts]


def _check_top_k(step: TopK, classes: int, labels: tuple[str, ...]) -> None:
    if classes == -1 or step.k > classes:
        raise RecipeError(
            f"top_k of {step.k} does not fit {classes} classes of '{step.tensor}'",
            remedy="lower k; the class axis must have a fixed length",
        )
    if step.labels is not None and len(labels) != classes:
        raise RecipeError(
            f"'{step.tensor}' has {classes} classes but the spec has {len(labels)} labels",
            remedy="give one label a class",
        )


def _check_unique(names: list[str], what: str) -> None:
    if len(set(names)) != len(names):
        raise RecipeError(f"two {what}s share a name: {names}", remedy="rename one")
