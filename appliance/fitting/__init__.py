"""Whether a recipe fits a model, and what clients then see. Pure.

Knows: what each step does to a tensor spec. Rules: a recipe is checked against the engine's interface
before anything runs; the served interface follows from both. Leaves to others: what the steps are
(`appliance.recipe`), running them (`runtime.kernels`).
"""

from appliance.errors import RecipeError
from appliance.fitting.images import image_step
from appliance.fitting.outputs import outputs_after
from appliance.fitting.prepared import Prepared, misfit, replaced
from appliance.fitting.sent import from_raw, raw_specs, sent_specs, text_columns
from appliance.fitting.signals import signal_step
from appliance.fitting.tables import check_raw_columns, table_step
from appliance.recipe import (
    BeforeStep,
    Cast,
    ImageStep,
    InputRecipe,
    Recipe,
    SignalStep,
)
from appliance.tensors import DataType, Interface, TensorSpec

__all__ = [
    "Prepared",
    "from_raw",
    "raw_specs",
    "sent_specs",
    "served_interface",
    "text_columns",
    "trace",
]


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
            f"the recipe feeds {', '.join(sorted(unused))}, which the model does not take",
            remedy=f"feed one of {', '.join(spec.name for spec in engine.inputs)}",
        )
    outputs = list(engine.outputs)
    for step in recipe.after:
        outputs = outputs_after(step, outputs, recipe)
        _check_unique([spec.name for spec in outputs], "output")
    _check_unique([spec.name for spec in inputs], "input")
    return Interface(inputs=inputs, outputs=tuple(outputs), batch_max=engine.batch_max)


def trace(item: InputRecipe) -> list[Prepared]:
    """The tensor before the first step and after each one. Raises RecipeError at a step that fails."""
    check_raw_columns(item)
    texts = text_columns(item) if item.columns else ()
    stages = [Prepared(spec=item.raw, columns=item.columns, texts=texts)]
    for step in item.steps:
        stages.append(_after_step(step, stages[-1]))
    _check_values(item)
    return stages


def _served_inputs(recipe: Recipe, spec: TensorSpec) -> tuple[TensorSpec, ...]:
    item = recipe.input_for(spec.name)
    if item is not None:
        last = trace(item)[-1]
        made = last.spec
        if last.texts and made.datatype is not DataType.BYTES:
            raise RecipeError(
                f"the columns {', '.join(last.texts)} for '{spec.name}' are still texts",
                remedy="encode them by one_hot or ordinal, or leave them out by select",
            )
        if made.datatype != spec.datatype or not spec.fits(made.shape):
            raise RecipeError(
                f"the recipe makes {made.datatype} {list(made.shape)} for '{spec.name}', "
                f"the model takes {spec.datatype} {list(spec.shape)}",
                remedy="correct the steps or their order"
                if -1 not in made.shape
                else "give the steps that make the size open a fixed one: resize, crop or pad",
            )
    return sent_specs(item, spec)


def _after_step(step: BeforeStep, before: Prepared) -> Prepared:
    if isinstance(step, Cast):
        if before.spec.datatype is DataType.BYTES:
            raise misfit(step, before, "needs numbers")
        return replaced(before, datatype=DataType(step.datatype))
    if isinstance(step, ImageStep):
        return image_step(step, before)
    if isinstance(step, SignalStep):
        return signal_step(step, before)
    return table_step(step, before)


def _check_values(item: InputRecipe) -> None:
    """Refuse steps that have nothing to work on; a cast alone needs nothing."""
    if 0 in item.raw.shape and not all(isinstance(step, Cast) for step in item.steps):
        raise RecipeError(
            f"input '{item.raw.name}' of shape {list(item.raw.shape)} holds no values for its steps",
            remedy="correct the raw shape; -1 is any length",
        )


def _check_unique(names: list[str], what: str) -> None:
    if len(set(names)) != len(names):
        raise RecipeError(f"two {what}s share a name: {', '.join(names)}", remedy="rename one")
