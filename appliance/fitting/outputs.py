"""What after-steps add to the outputs. Pure."""

from appliance.errors import RecipeError
from appliance.recipe import AfterStep, ArgMax, Softmax, TopK
from appliance.tensors import DataType, TensorSpec


def added_outputs(
    step: AfterStep, outputs: list[TensorSpec], labels: tuple[str, ...]
) -> list[TensorSpec]:
    """The specs that `step` adds to `outputs`. Raises RecipeError when it does not fit them."""
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
