"""Recipes as data: how steps change tensors, what clients see, and every refusal."""

from typing import Any, ClassVar

import pytest

from appliance.errors import RecipeError
from appliance.fitting import served_interface, trace
from appliance.recipe import (
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
    TopK,
)
from appliance.tables import canonical_json, from_json, from_table
from appliance.tensors import DataType, Interface, TensorSpec

COLUMNS = ("age", "height", "colour")


def tensor(name: str, datatype: DataType, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def image(*steps: BeforeStep, shape: tuple[int, ...] = (48, 64, 3)) -> InputRecipe:
    return InputRecipe(feeds="x", raw=tensor("image", DataType.UINT8, *shape), steps=steps)


def table(
    *steps: BeforeStep, columns: tuple[str, ...] = COLUMNS, width: int = 3, **options: Any
) -> InputRecipe:
    raw = tensor("row", DataType.FP64, width)
    return InputRecipe(feeds="x", raw=raw, columns=columns, steps=steps, **options)


def engine(*inputs: TensorSpec, outputs: tuple[TensorSpec, ...] = ()) -> Interface:
    return Interface(inputs=inputs, outputs=outputs, batch_max=8)


CHW_INPUT = tensor("x", DataType.FP32, 3, 24, 24)
LOGITS = tensor("logits", DataType.FP32, 10)


class TestTrace:
    """The tensor after each step."""

    def test_an_image(self) -> None:
        recipe = image(
            Cast(),
            Resize(height=24, width=20),
            Normalise(mean=(0.5,), std=(0.25,), scale=1 / 255),
            Layout(),
        )
        stages = trace(recipe)
        assert [(stage.spec.datatype, stage.spec.shape, stage.order) for stage in stages] == [
            (DataType.UINT8, (48, 64, 3), "HWC"),
            (DataType.FP32, (48, 64, 3), "HWC"),
            (DataType.FP32, (24, 20, 3), "HWC"),
            (DataType.FP32, (24, 20, 3), "HWC"),
            (DataType.FP32, (3, 24, 20), "CHW"),
        ]

    def test_a_table(self) -> None:
        recipe = table(
            Select(columns=("colour", "age")),
            Cast(),
            Impute(values={"age": 40.0}),
            Standardise(columns=("age",), mean=(40.0,), std=(12.0,)),
            OneHot(column="colour", categories=(1.0, 2.5)),
        )
        stages = trace(recipe)
        assert [(stage.spec.datatype, stage.columns) for stage in stages] == [
            (DataType.FP64, COLUMNS),
            (DataType.FP64, ("colour", "age")),
            (DataType.FP32, ("colour", "age")),
            (DataType.FP32, ("colour", "age")),
            (DataType.FP32, ("colour", "age")),
            (DataType.FP32, ("colour=1", "colour=2.5", "age")),
        ]
        assert stages[-1].spec.shape == (3,)

    def test_large_categories_keep_their_digits(self) -> None:
        step = OneHot(column="postcode", categories=(1234567.0, 1234568.0))
        assert step.names == ("postcode=1234567", "postcode=1234568")

    def test_an_image_of_any_size(self) -> None:
        recipe = image(Cast(), Resize(height=8, width=8), shape=(-1, -1, 3))
        assert trace(recipe)[-1].spec.shape == (8, 8, 3)


REFUSED_STEPS = {
    "resize needs 3 axes": image(Cast(), Resize(height=8, width=8), shape=(48, 64)),
    "normalise needs FP32": image(Normalise(mean=(0.0,), std=(1.0,))),
    "resize after layout": image(Cast(), Layout(), Resize(height=8, width=8)),
    "normalise after layout": image(Cast(), Layout(), Normalise(mean=(0.0,), std=(1.0,))),
    "layout twice": image(Cast(), Layout(), Layout()),
    "normalise with std 0": image(Cast(), Normalise(mean=(0.0,), std=(0.0,))),
    "normalise with std 0 in FP32": image(Cast(), Normalise(mean=(0.0,), std=(1e-60,))),
    "normalise out of FP32": image(Cast(), Normalise(mean=(1e30,), std=(1e-30,))),
    "normalise with other lengths": image(Cast(), Normalise(mean=(0.0,), std=(1.0, 1.0))),
    "normalise of other channels": image(Cast(), Normalise(mean=(0.0,) * 2, std=(1.0,) * 2)),
    "table steps need columns": image(Cast(), Select(columns=("age",))),
    "columns of another count": table(Cast(), width=4),
    "columns that share a name": table(Cast(), columns=("age", "age", "colour")),
    "select of an unknown column": table(Select(columns=("age", "weight"))),
    "select of a column twice": table(Select(columns=("age", "age"))),
    "select of nothing": table(Select(columns=())),
    "impute needs FP32": table(Impute(values={"age": 1.0})),
    "impute of an unknown column": table(Cast(), Impute(values={"weight": 1.0})),
    "standardise of an unknown column": table(
        Cast(), Standardise(columns=("weight",), mean=(0.0,), std=(1.0,))
    ),
    "standardise of other lengths": table(
        Cast(), Standardise(columns=("age",), mean=(0.0, 0.0), std=(1.0,))
    ),
    "standardise with std 0": table(Cast(), Standardise(columns=("age",), mean=(0.0,), std=(0.0,))),
    "one-hot of an unknown column": table(Cast(), OneHot(column="weight", categories=(1.0,))),
    "one-hot of no category": table(Cast(), OneHot(column="age", categories=())),
    "one-hot of equal categories": table(Cast(), OneHot(column="age", categories=(1.0, 1.0))),
    "one-hot categories equal in FP32": table(
        Cast(), OneHot(column="age", categories=(16777216.0, 16777217.0))
    ),
    "one-hot names a column that exists": table(
        Cast(), OneHot(column="age", categories=(1.0,)), columns=("age", "age=1", "colour")
    ),
    "cast of texts": InputRecipe(feeds="x", raw=tensor("text", DataType.BYTES, 3), steps=(Cast(),)),
}


@pytest.mark.parametrize("recipe", REFUSED_STEPS.values(), ids=REFUSED_STEPS.keys())
def test_steps_that_do_not_fit_are_refused(recipe: InputRecipe) -> None:
    with pytest.raises(RecipeError) as caught:
        trace(recipe)
    assert caught.value.code == "recipe.invalid"
    assert caught.value.remedy


class TestServedInterface:
    """What clients see."""

    def test_raw_data_replaces_the_engines_input(self) -> None:
        steps = (Cast(), Resize(height=24, width=24), Layout())
        recipe = Recipe(inputs=(image(*steps),))
        served = served_interface(recipe, engine(CHW_INPUT))
        assert served.inputs == (tensor("image", DataType.UINT8, 48, 64, 3),)
        assert served.batch_max == 8

    def test_a_prepared_tensor_stays_the_engines_input(self) -> None:
        item = InputRecipe(
            feeds="x",
            raw=tensor("image", DataType.UINT8, 24, 24, 3),
            accepts=Accepts.PREPARED,
            steps=(Cast(), Layout()),
        )
        served = served_interface(Recipe(inputs=(item,)), engine(CHW_INPUT))
        assert served.inputs == (CHW_INPUT,)

    def test_inputs_without_a_recipe_are_passed_on(self) -> None:
        mask = tensor("mask", DataType.INT64, -1)
        served = served_interface(Recipe(), engine(mask, outputs=(LOGITS,)))
        assert served == engine(mask, outputs=(LOGITS,))

    def test_added_outputs_follow_the_engines(self) -> None:
        recipe = Recipe(
            after=(
                Softmax(tensor="logits", output="probabilities"),
                ArgMax(tensor="logits", output="class"),
                TopK(tensor="probabilities", k=3, output="top", labels="names"),
                TopK(tensor="logits", k=2, output="two"),
            ),
            labels=tuple("abcdefghij"),
        )
        served = served_interface(recipe, engine(outputs=(LOGITS,)))
        assert served.outputs == (
            LOGITS,
            tensor("probabilities", DataType.FP32, 10),
            tensor("class", DataType.INT64, 1),
            tensor("top", DataType.INT64, 3),
            tensor("names", DataType.BYTES, 3),
            tensor("two", DataType.INT64, 2),
        )

    def test_steps_work_on_the_last_axis(self) -> None:
        maps = tensor("maps", DataType.FP32, 4, 5, 7)
        served = served_interface(
            Recipe(after=(ArgMax(tensor="maps", output="class"),)), engine(outputs=(maps,))
        )
        assert served.outputs[1] == tensor("class", DataType.INT64, 4, 5, 1)


class TestServedInterfaceRefusals:
    """Recipes that do not fit the engine."""

    def test_a_shape_that_the_engine_does_not_take(self) -> None:
        with pytest.raises(RecipeError, match="the model takes FP32 \\[3, 24, 24\\]"):
            served_interface(Recipe(inputs=(image(Cast(), Layout()),)), engine(CHW_INPUT))

    def test_a_datatype_that_the_engine_does_not_take(self) -> None:
        item = image(shape=(3, 24, 24))
        with pytest.raises(RecipeError, match="makes UINT8"):
            served_interface(Recipe(inputs=(item,)), engine(CHW_INPUT))

    def test_an_input_that_the_engine_does_not_have(self) -> None:
        with pytest.raises(RecipeError, match="which the model does not take"):
            served_interface(Recipe(inputs=(image(),)), engine())

    def test_two_recipes_for_one_input(self) -> None:
        steps = (Cast(), Resize(height=24, width=24), Layout())
        recipe = Recipe(inputs=(image(*steps), image(*steps)))
        with pytest.raises(RecipeError, match="two recipes feed one input"):
            served_interface(recipe, engine(CHW_INPUT))

    def test_two_inputs_of_one_name(self) -> None:
        steps = (Cast(), Resize(height=24, width=24), Layout())
        other = tensor("image", DataType.FP32, 1)
        with pytest.raises(RecipeError, match="two inputs share a name"):
            served_interface(Recipe(inputs=(image(*steps),)), engine(CHW_INPUT, other))

    @pytest.mark.parametrize(
        ("output", "step"),
        [
            (LOGITS, Softmax(tensor="absent", output="p")),
            (tensor("logits", DataType.INT64, 10), ArgMax(tensor="logits", output="class")),
            (tensor("logits", DataType.FP32), Softmax(tensor="logits", output="p")),
            (tensor("logits", DataType.FP32, 0), Softmax(tensor="logits", output="p")),
            (LOGITS, TopK(tensor="logits", k=11, output="top")),
            (tensor("logits", DataType.FP32, -1), TopK(tensor="logits", k=1, output="top")),
            (LOGITS, TopK(tensor="logits", k=2, output="top", labels="names")),
            (LOGITS, Softmax(tensor="logits", output="logits")),
        ],
        ids=[
            "an output that does not exist",
            "an output of integers",
            "an output without an axis",
            "an output without classes",
            "more than there are",
            "classes without a fixed count",
            "labels for fewer classes",
            "a name that is taken",
        ],
    )
    def test_steps_after_the_engine(self, output: TensorSpec, step: AfterStep) -> None:
        recipe = Recipe(after=(step,), labels=("only", "two"))
        with pytest.raises(RecipeError) as caught:
            served_interface(recipe, engine(outputs=(output,)))
        assert caught.value.remedy


class TestAsData:
    """A recipe as a spec writes it."""

    WRITTEN: ClassVar[dict[str, Any]] = {
        "inputs": [
            {
                "feeds": "x",
                "accepts": "raw",
                "raw": {"name": "image", "datatype": "UINT8", "shape": [8, 8, 1]},
                "steps": [
                    {"step": "cast"},
                    {"step": "resize", "height": 28, "width": 28, "fit": "letterbox", "fill": 7},
                    {"step": "normalise", "mean": [0.5], "std": [0.25], "scale": 0.0625},
                    {"step": "layout"},
                ],
            }
        ],
        "after": [{"step": "top_k", "tensor": "logits", "k": 1, "output": "top"}],
    }

    def test_it_reads_and_round_trips(self) -> None:
        recipe = from_table(self.WRITTEN, Recipe, RecipeError, where="spec")
        assert recipe.input_for("x") == recipe.inputs[0]
        assert recipe.input_for("y") is None
        assert recipe.inputs[0].steps[1] == Resize(height=28, width=28, fit="letterbox", fill=7.0)
        assert from_json(canonical_json(recipe), Recipe, RecipeError, where="copy") == recipe

    @pytest.mark.parametrize(
        "step",
        [
            {"step": "sharpen"},
            {"step": "cast", "datatype": "FP16"},
            {"step": "resize", "height": 0, "width": 28},
            {"step": "resize", "height": 28, "width": 28, "fill": float("nan")},
            {"step": "normalise", "mean": [float("inf")], "std": [1.0]},
            {"step": "standardise", "columns": ["age"], "mean": [1e39], "std": [1.0]},
        ],
        ids=["unknown", "datatype", "no pixel", "not a number", "infinite", "over FP32"],
    )
    def test_wrong_parameters_are_refused(self, step: dict[str, Any]) -> None:
        item = self.WRITTEN["inputs"][0] | {"steps": [step]}
        with pytest.raises(RecipeError):
            from_table({"inputs": [item]}, Recipe, RecipeError, where="spec")
