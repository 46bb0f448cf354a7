"""What after-steps make of the outputs. Pure."""

from appliance.errors import RecipeError
from appliance.fitting.boxes import box_outputs
from appliance.fitting.sources import source_of, unfit
from appliance.recipe import (
    AfterStep,
    ArgMax,
    BoxStep,
    Drop,
    Labels,
    Recipe,
    ScoreStep,
    Sigmoid,
    Softmax,
    Threshold,
    TopK,
)
from appliance.tensors import DataType, TensorSpec

INTEGERS = tuple(kind for kind in DataType if kind.numpy.kind in "iu")


def outputs_after(step: AfterStep, outputs: list[TensorSpec], recipe: Recipe) -> list[TensorSpec]:
    """All outputs after `step` of `recipe`. Raises RecipeError when it does not fit `outputs`."""
    if isinstance(step, Drop):
        for name in step.tensors:
            source_of(step, name, outputs, (*DataType,))
        kept = [spec for spec in outputs if spec.name not in step.tensors]
        if not kept:
            raise RecipeError("step 'drop' leaves no output", remedy="keep one of them")
        return kept
    if isinstance(step, BoxStep):
        return [*outputs, *box_outputs(step, outputs, recipe)]
    return [*outputs, *_score_outputs(step, outputs, recipe.labels)]


def _score_outputs(
    step: ScoreStep, outputs: list[TensorSpec], labels: tuple[str, ...]
) -> list[TensorSpec]:
    if isinstance(step, Labels):
        source = source_of(step, step.tensor, outputs, INTEGERS)
        if not labels:
            raise unfit(step, source, "needs labels in the model spec")
        return [_like(source, step.output, DataType.BYTES)]
    source = source_of(step, step.tensor, outputs)
    match step:
        case Sigmoid():
            return [_like(source, step.output, DataType.FP32)]
        case Threshold():
            _check_threshold(step, source, labels)
            return [_like(source, step.output, DataType.BOOL), *_texts(step, source)]
        case Softmax():
            _classes(step, source)
            return [_like(source, step.output, DataType.FP32)]
        case ArgMax():
            _check_labels(step, source, labels)
            best = _last(source, 1, step.output, DataType.INT64)
            return [best, *_texts(step, best)]
        case TopK():  # pragma: no branch
            return _top_k(step, source, labels)


def _top_k(step: TopK, source: TensorSpec, labels: tuple[str, ...]) -> list[TensorSpec]:
    classes = _classes(step, source)
    if classes == -1 or step.k > classes:
        raise RecipeError(
            f"top_k of {step.k} does not fit {classes} classes of '{step.tensor}'",
            remedy="lower k; the class axis must have a fixed length",
        )
    _check_labels(step, source, labels)
    indices = _last(source, step.k, step.output, DataType.INT64)
    values = [] if step.scores is None else [_like(indices, step.scores, DataType.FP32)]
    return [indices, *values, *_texts(step, indices)]


def _like(source: TensorSpec, name: str, datatype: DataType) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=source.shape)


def _last(source: TensorSpec, length: int, name: str, datatype: DataType) -> TensorSpec:
    """A spec as `source` but for the last axis, which has `length`."""
    return TensorSpec(name=name, datatype=datatype, shape=(*source.shape[:-1], length))


def _texts(step: ArgMax | TopK | Threshold, made: TensorSpec) -> list[TensorSpec]:
    return [] if step.labels is None else [_like(made, step.labels, DataType.BYTES)]


def _classes(step: ScoreStep, source: TensorSpec) -> int:
    """The length of the class axis. Raises RecipeError when there is none."""
    if source.shape[-1:] in ((), (0,)):
        raise unfit(step, source, "needs an axis of classes")
    return source.shape[-1]


def _check_labels(step: ArgMax | TopK, source: TensorSpec, labels: tuple[str, ...]) -> None:
    classes = _classes(step, source)
    if step.labels is not None and len(labels) != classes:
        raise RecipeError(
            f"'{step.tensor}' has {classes} classes but the spec has {len(labels)} labels",
            remedy="give one label a class",
        )


def _check_threshold(step: Threshold, source: TensorSpec, labels: tuple[str, ...]) -> None:
    if step.labels is None:
        return
    classes = _classes(step, source)
    if len(labels) != (2 if classes == 1 else classes):
        raise RecipeError(
            f"'{step.tensor}' has {classes} classes but the spec has {len(labels)} labels",
            remedy="give one label a class, or two for a last axis of length 1: below and not below",
        )
