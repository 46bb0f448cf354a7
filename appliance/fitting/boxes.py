"""What box steps make of the outputs. Pure."""

from appliance.errors import RecipeError
from appliance.fitting.sources import source_of, unfit
from appliance.recipe import (
    Accepts,
    AnchorBoxes,
    BoxForm,
    BoxStep,
    Cast,
    ImageStep,
    Recipe,
    RescaleBoxes,
    SuppressBoxes,
    YoloBoxes,
)
from appliance.tensors import DataType, TensorSpec

EDGES = 4


def box_outputs(step: BoxStep, outputs: list[TensorSpec], recipe: Recipe) -> list[TensorSpec]:
    """The specs that `step` adds to `outputs`. Raises RecipeError when it does not fit them."""
    match step:
        case YoloBoxes():
            return _yolo_boxes(step, outputs)
        case BoxForm():
            return [_renamed(_boxes(step, step.tensor, outputs), step.output)]
        case AnchorBoxes():
            source = _boxes(step, step.tensor, outputs)
            _check_grids(step, source)
            return [_renamed(source, step.output)]
        case SuppressBoxes():
            return _suppressed(step, outputs)
        case RescaleBoxes():  # pragma: no branch
            source = _boxes(step, step.tensor, outputs)
            _check_image(step, recipe)
            return [_renamed(source, step.output)]


def _yolo_boxes(step: YoloBoxes, outputs: list[TensorSpec]) -> list[TensorSpec]:
    source = source_of(step, step.tensor, outputs)
    if len(source.shape) < 2:
        raise unfit(step, source, "needs the axes values and anchors")
    *lead, first, second = source.shape
    values, anchors = (first, second) if step.order == "values_first" else (second, first)
    others = EDGES + step.objectness
    if values <= others:
        raise unfit(
            step, source, f"needs a fixed count of values over {others} on axis '{step.order}'"
        )
    return [
        _floats(step.boxes, *lead, anchors, EDGES),
        _floats(step.scores, *lead, anchors, values - others),
    ]


def _suppressed(step: SuppressBoxes, outputs: list[TensorSpec]) -> list[TensorSpec]:
    boxes = _boxes(step, step.boxes, outputs)
    scores = source_of(step, step.scores, outputs)
    *lead, anchors, _ = boxes.shape
    with_classes = len(scores.shape) == len(boxes.shape)
    classes = scores.shape[-1] if with_classes else 1
    of_boxes = list(scores.shape[: len(lead) + 1]) == [*lead, anchors]
    if not of_boxes or len(scores.shape) > len(boxes.shape) or classes == 0:
        raise unfit(
            step, scores, f"needs scores [..., {anchors}, classes] or [..., {anchors}] of the boxes"
        )
    if step.background is not None and (step.background >= classes > 0 or classes == 1):
        raise unfit(step, scores, f"has no class beside background {step.background}")
    if step.candidates_max < step.boxes_max:
        raise unfit(step, boxes, "needs candidates_max of at least boxes_max")
    count = step.boxes_max
    return [
        _floats(step.output, *lead, count, EDGES),
        _floats(step.output_scores, *lead, count),
        _integers(step.output_classes, *lead, count),
        _integers(step.output_count, *lead, 1),
    ]


def _boxes(step: BoxStep, name: str, outputs: list[TensorSpec]) -> TensorSpec:
    source = source_of(step, name, outputs)
    if len(source.shape) < 2 or source.shape[-1] != EDGES:
        raise unfit(step, source, "needs boxes of shape [..., boxes, 4]")
    return source


def _check_grids(step: AnchorBoxes, source: TensorSpec) -> None:
    counts = [grid.rows * grid.columns * len(grid.sizes) for grid in step.grids]
    if sum(counts) != source.shape[-2]:
        raise unfit(step, source, f"the grids have {counts} anchors, together {sum(counts)}")


def _check_image(step: RescaleBoxes, recipe: Recipe) -> None:
    item = recipe.input_for(step.image)
    if item is None or item.accepts is Accepts.PREPARED or item.columns:
        raise RecipeError(
            f"step 'rescale_boxes' names '{step.image}', which is no engine input made of a sent image",
            remedy="name an input that the recipe feeds from raw images",
        )
    others = [each for each in item.steps if not isinstance(each, Cast)]
    if not others or not isinstance(others[0], ImageStep):
        raise RecipeError(
            f"step 'rescale_boxes' names '{step.image}', which no image step makes",
            remedy="leave the step out: the boxes lie in what was sent",
        )


def _renamed(source: TensorSpec, name: str) -> TensorSpec:
    return _floats(name, *source.shape)


def _floats(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=DataType.FP32, shape=shape)


def _integers(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=DataType.INT64, shape=shape)
