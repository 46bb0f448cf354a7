"""Whether a recipe fits a model, and what clients then see. Pure.

Knows: what each step does to a tensor spec. Rules: a recipe is checked against the engine's interface
before anything runs; the served interface follows from both. Leaves to others: what the steps are
(`appliance.recipe`), running them (`runtime.kernels`).
"""

from appliance.errors import RecipeError
from appliance.fitting.images import image_step
from appliance.fitting.outputs import added_outputs
from appliance.fitting.prepared import Prepared, misfit, replaced
from appliance.fitting.tables import table_step
from appliance.recipe import (
    Accepts,
    BeforeStep,
    Cast,
    ImageStep,
    InputRecipe,
    Recipe,
)
from appliance.tensors import DataType, Interface, TensorSpec

__all__ = ["Prepared", "sent_specs", "served_interface", "trace"]


def served_interface(recipe: Recipe, engine: Interface) -> Interface:
    """What clients see: raw inputs where the recipe takes raw data, engine outputs plus added ones.

    Raises RecipeError when the recipe does not fit the engine's interface.
    """
    fed = [item.feeds for item in recipe.inputs]
    if len(set(fed)) != len(fed):
        raise RecipeError(f"two recipes feed one input: {fed}", remedy="keep one of them")
    inputs = tuple(sent for spec in engine.inputs for sent in _served_inputs(recipe, spec))
    unused = set(fed) - {spec.name for spec in engine.inputs}
    if unused:
        raise RecipeError(
            f"the recipe feeds {sorted(unused)}, which the model does not take",
            remedy=f"feed one of {[spec.name for spec in engine.inputs]}",
        )
    outputs = list(engine.outputs)
    for step in recipe.after:
        outputs += added_outputs(step, outputs, recipe.labels)
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


def sent_specs(item: InputRecipe | None, spec: TensorSpec) -> tuple[TensorSpec, ...]:
    """What clients send for the engine input `spec`, whose recipe is `item` (None: it has none)."""
    if item is None or item.accepts is Accepts.PREPARED:
        return (spec,)
    return (item.raw,)


def _served_inputs(recipe: Recipe, spec: TensorSpec) -> tuple[TensorSpec, ...]:
    item = recipe.input_for(spec.name)
    if item is not None:
        made = trace(item)[-1].spec
        if made.datatype != spec.datatype or not spec.fits(made.shape):
            raise RecipeError(
                f"the recipe makes {made.datatype} {list(made.shape)} for '{spec.name}', "
                f"the model takes {spec.datatype} {list(spec.shape)}",
                remedy="correct the steps or their order",
            )
    return sent_specs(item, spec)


def _after_step(step: BeforeStep, before: Prepared) -> Prepared:
    if isinstance(step, Cast):
        if before.spec.datatype is DataType.BYTES:
            raise misfit(step, before, "needs numbers")
        return replaced(before, datatype=DataType(step.datatype))
    if isinstance(step, ImageStep):
        return image_step(step, before)
    return table_step(step, before)


def _check_unique(names: list[str], what: str) -> None:
    if len(set(names)) != len(names):
        raise RecipeError(f"two {what}s share a name: {names}", remedy="rename one")
