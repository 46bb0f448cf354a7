"""After-steps as data: what they add to the outputs, and every refusal."""

from typing import Any

import msgspec
import pytest

from appliance.errors import RecipeError, SpecError
from appliance.fitting import served_interface
from appliance.recipe import (
    Accepts,
    AfterStep,
    AnchorBoxes,
    AnchorGrid,
    ArgMax,
    BoxForm,
    Cast,
    Drop,
    InputRecipe,
    Labels,
    Layout,
    Recipe,
    RescaleBoxes,
    Resize,
    Sigmoid,
    Softmax,
    SuppressBoxes,
    Threshold,
    TopK,
    YoloBoxes,
)
from appliance.tables import canonical_json, from_json, from_table
from appliance.tensors import DataType, Interface, TensorSpec

FP32, INT64, BYTES = DataType.FP32, DataType.INT64, DataType.BYTES
LETTERS = ("a", "b", "c")
NMS = SuppressBoxes(
    boxes="b",
    scores="s",
    score_min=0.5,
    iou_max=0.5,
    boxes_max=7,
    output="o",
    output_scores="os",
    output_classes="oc",
    output_count="n",
)
GRID = AnchorGrid(rows=2, columns=3, stride=8.0, sizes=((4.0, 4.0),))
PIXELS = TensorSpec(name="x", datatype=FP32, shape=(3, 8, 8))
PHOTO = TensorSpec(name="photo", datatype=DataType.UINT8, shape=(-1, -1, 3))
IMAGE = InputRecipe(feeds="x", raw=PHOTO, steps=(Cast(), Resize(height=8, width=8), Layout()))


def tensor(name: str, datatype: DataType, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def served(
    *steps: AfterStep,
    outputs: tuple[TensorSpec, ...],
    labels: tuple[str, ...] = LETTERS,
    image: InputRecipe | None = IMAGE,
) -> dict[str, tuple[DataType, tuple[int, ...]]]:
    recipe = Recipe(inputs=(image,) if image else (), after=steps, labels=labels)
    engine = Interface(inputs=(PIXELS,), outputs=outputs, batch_max=4)
    made = served_interface(recipe, engine).outputs
    return {spec.name: (spec.datatype, spec.shape) for spec in made}


def test_scores() -> None:
    made = served(
        Sigmoid(tensor="y", output="p"),
        ArgMax(tensor="p", output="best", labels="name"),
        TopK(tensor="p", k=2, output="top", scores="values", labels="names"),
        Threshold(tensor="p", at=0.5, output="on", labels="found"),
        Labels(tensor="top", output="again"),
        Drop(tensors=("y", "top")),
        outputs=(tensor("y", DataType.FP16, 3),),
    )
    assert made == {
        "p": (FP32, (3,)),
        "best": (INT64, (1,)),
        "name": (BYTES, (1,)),
        "values": (FP32, (2,)),
        "names": (BYTES, (2,)),
        "on": (DataType.BOOL, (3,)),
        "found": (BYTES, (3,)),
        "again": (BYTES, (2,)),
    }


def test_values_alone_need_no_axis() -> None:
    made = served(
        Sigmoid(tensor="y", output="p"),
        Threshold(tensor="p", at=0.5, output="on"),
        outputs=(tensor("y", FP32),),
    )
    assert made["on"] == (DataType.BOOL, ())


def test_a_dropped_name_may_be_given_again() -> None:
    made = served(
        Softmax(tensor="y", output="p"),
        Drop(tensors=("y",)),
        ArgMax(tensor="p", output="y"),
        outputs=(tensor("y", FP32, 3),),
    )
    assert list(made) == ["p", "y"]


@pytest.mark.parametrize("order", ["values_first", "anchors_first"])
def test_a_yolo_detector(order: Any) -> None:
    head = (8, 90) if order == "values_first" else (90, 8)
    made = served(
        YoloBoxes(tensor="h", order=order, objectness=True, boxes="b", scores="s"),
        NMS,
        RescaleBoxes(tensor="o", image="x", output="boxes"),
        Labels(tensor="oc", output="names"),
        outputs=(tensor("h", FP32, *head),),
    )
    assert made["b"] == (FP32, (90, 4))
    assert made["s"] == (FP32, (90, 3))
    assert made["o"] == made["boxes"] == (FP32, (7, 4))
    assert made["os"] == (FP32, (7,))
    assert made["oc"] == (INT64, (7,))
    assert made["n"] == (INT64, (1,))
    assert made["names"] == (BYTES, (7,))


def test_an_ssd_detector() -> None:
    made = served(
        AnchorBoxes(tensor="t", grids=(GRID,), output="b"),
        BoxForm(tensor="b", form="xywh", output="again"),
        NMS,
        outputs=(tensor("t", FP32, 6, 4), tensor("s", FP32, 6)),
    )
    assert made["b"] == made["again"] == (FP32, (6, 4))
    assert made["o"] == (FP32, (7, 4))


LOGITS = tensor("y", FP32, 3)
BOXES, SCORES = tensor("b", FP32, 9, 4), tensor("s", FP32, 9, 2)
REFUSED: dict[str, tuple[AfterStep, tuple[TensorSpec, ...]]] = {
    "no such output": (Sigmoid(tensor="absent", output="p"), (LOGITS,)),
    "integers are no scores": (Sigmoid(tensor="y", output="p"), (tensor("y", INT64, 3),)),
    "texts are no scores": (Sigmoid(tensor="y", output="p"), (tensor("y", BYTES, 3),)),
    "floats are no indices": (Labels(tensor="y", output="p"), (LOGITS,)),
    "argmax without an axis": (ArgMax(tensor="y", output="p"), (tensor("y", FP32),)),
    "argmax with labels of others": (
        ArgMax(tensor="y", output="p", labels="n"),
        (tensor("y", FP32, 4),),
    ),
    "threshold with labels of others": (
        Threshold(tensor="y", at=0.0, output="p", labels="n"),
        (tensor("y", FP32, 1),),
    ),
    "a dropped output that is none": (Drop(tensors=("absent",)), (LOGITS,)),
    "nothing left": (Drop(tensors=("y",)), (LOGITS,)),
    "a head of one axis": (YoloBoxes(tensor="y", boxes="b", scores="s"), (LOGITS,)),
    "a head without classes": (
        YoloBoxes(tensor="y", boxes="b", scores="s"),
        (tensor("y", FP32, 4, 90),),
    ),
    "a head of any length": (
        YoloBoxes(tensor="y", boxes="b", scores="s"),
        (tensor("y", FP32, -1, 90),),
    ),
    "boxes of five": (BoxForm(tensor="b", form="xyxy", output="o"), (tensor("b", FP32, 9, 5),)),
    "a box alone": (BoxForm(tensor="b", form="xyxy", output="o"), (tensor("b", FP32, 4),)),
    "anchors of another count": (
        AnchorBoxes(tensor="b", grids=(GRID,), output="o"),
        (BOXES,),
    ),
    "scores of other boxes": (NMS, (BOXES, tensor("s", FP32, 8, 2))),
    "scores with too many axes": (NMS, (BOXES, tensor("s", FP32, 1, 9, 2))),
    "no class": (NMS, (BOXES, tensor("s", FP32, 9, 0))),
    "background alone": (
        msgspec.structs.replace(NMS, background=0),
        (BOXES, tensor("s", FP32, 9)),
    ),
    "background of no class": (msgspec.structs.replace(NMS, background=2), (BOXES, SCORES)),
    "fewer candidates than boxes": (
        msgspec.structs.replace(NMS, candidates_max=6),
        (BOXES, SCORES),
    ),
    "boxes in no image": (RescaleBoxes(tensor="b", image="y", output="o"), (BOXES,)),
    "a name that is taken": (BoxForm(tensor="b", form="xyxy", output="b"), (BOXES,)),
}


@pytest.mark.parametrize(("step", "outputs"), REFUSED.values(), ids=REFUSED.keys())
def test_steps_that_do_not_fit(step: AfterStep, outputs: tuple[TensorSpec, ...]) -> None:
    with pytest.raises(RecipeError) as caught:
        served(step, outputs=outputs)
    assert caught.value.code == "recipe.invalid"
    assert caught.value.remedy


def test_labels_need_labels() -> None:
    with pytest.raises(RecipeError, match="needs labels"):
        served(Labels(tensor="i", output="n"), outputs=(tensor("i", INT64, 3),), labels=())


@pytest.mark.parametrize(
    "image",
    [
        msgspec.structs.replace(IMAGE, accepts=Accepts.PREPARED),
        InputRecipe(feeds="x", raw=tensor("photo", DataType.FP64, 3, 8, 8), steps=(Cast(),)),
        None,
    ],
    ids=["prepared tensors", "no image steps", "no recipe"],
)
def test_boxes_are_rescaled_to_sent_images_only(image: InputRecipe | None) -> None:
    step = RescaleBoxes(tensor="b", image="x", output="o")
    with pytest.raises(RecipeError, match="'rescale_boxes'"):
        served(step, outputs=(BOXES,), image=image)


STEPS: tuple[AfterStep, ...] = (
    Sigmoid(tensor="y", output="p"),
    Threshold(tensor="p", at=0.5, output="on"),
    AnchorBoxes(tensor="t", grids=(GRID,), output="b"),
    BoxForm(tensor="b", form="yxyx", width=640.0, output="o"),
    NMS,
    RescaleBoxes(tensor="o", image="x", output="r"),
    Drop(tensors=("y",)),
)


def test_steps_survive_json() -> None:
    recipe = Recipe(after=STEPS, labels=LETTERS)
    assert from_json(canonical_json(recipe), Recipe, SpecError, where="recipe") == recipe


@pytest.mark.parametrize(
    "table",
    [
        {"step": "nms", "boxes": "b"},
        msgspec.to_builtins(NMS) | {"iou_max": 1.5},
        msgspec.to_builtins(NMS) | {"boxes_max": 0},
        msgspec.to_builtins(NMS) | {"score_min": float("nan")},
        {"step": "drop", "tensors": []},
        {"step": "box_form", "tensor": "b", "form": "xxyy", "output": "o"},
        {"step": "anchor_boxes", "tensor": "t", "grids": [], "output": "o"},
    ],
    ids=["missing keys", "iou", "no boxes", "NaN", "nothing dropped", "form", "no grids"],
)
def test_tables_that_are_no_step(table: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        from_table({"after": [table]}, Recipe, SpecError, where="spec")
