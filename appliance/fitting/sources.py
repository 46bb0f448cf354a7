"""What an after-step reads. Pure.

Knows: which datatypes count as scores. Rules: a step reads what the engine gives or an earlier step made.
Leaves to others: what each step makes of it (`outputs`, `boxes`).
"""

from appliance.errors import RecipeError
from appliance.recipe import Step
from appliance.tensors import DataType, TensorSpec

FLOATS = (DataType.FP32, DataType.FP16, DataType.FP64)


def source_of(
    step: Step, name: str, outputs: list[TensorSpec], datatypes: tuple[DataType, ...] = FLOATS
) -> TensorSpec:
    """The output called `name`. Raises RecipeError when there is none or none of `datatypes`."""
    tag = step.__struct_config__.tag
    found = next((spec for spec in outputs if spec.name == name), None)
    if found is None:
        raise RecipeError(
            f"step '{tag}' reads '{name}', which is no output before it",
            remedy=f"use one of {', '.join(spec.name for spec in outputs)}",
        )
    if found.datatype not in datatypes:
        fitting = [spec.name for spec in outputs if spec.datatype in datatypes]
        raise RecipeError(
            f"step '{tag}' reads '{name}', which is {found.datatype}, not {' or '.join(datatypes)}",
            remedy=f"use one of {', '.join(fitting)}"
            if fitting
            else "cast the output in the model",
        )
    return found


def unfit(step: Step, source: TensorSpec, why: str) -> RecipeError:
    """The error of `step` on an output that it cannot take, and why."""
    return RecipeError(
        f"step '{step.__struct_config__.tag}' on output '{source.name}' "
        f"({source.datatype} {list(source.shape)}): {why}",
        remedy="correct the step, the order of steps or the model's output",
    )
