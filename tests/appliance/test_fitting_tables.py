"""Tables as data: what steps make of columns and texts, how they are sent, every refusal."""

from typing import Any

import pytest

from appliance.errors import RecipeError
from appliance.fitting import from_raw, raw_specs, sent_specs, served_interface, trace
from appliance.recipe import (
    Accepts,
    BeforeStep,
    Cast,
    Clip,
    Impute,
    InputRecipe,
    Log1p,
    MinMax,
    OneHot,
    Ordinal,
    Recipe,
    Select,
)
from appliance.tables import from_table
from appliance.tensors import DataType, Interface, TensorSpec

COLUMNS = ("age", "height", "site")
SITES = OneHot(column="site", categories=("n", "s"))


def table(
    *steps: BeforeStep, datatype: DataType = DataType.FP64, width: int = 3, **options: Any
) -> InputRecipe:
    raw = TensorSpec(name="row", datatype=datatype, shape=(width,))
    return InputRecipe(feeds="x", raw=raw, steps=steps, **{"columns": COLUMNS, **options})


def mixed(*steps: BeforeStep, **options: Any) -> InputRecipe:
    return table(*steps, **{"texts": ("site",), "accepts": Accepts.COLUMNS, **options})


def texts(*steps: BeforeStep) -> InputRecipe:
    return table(*steps, datatype=DataType.BYTES)


TAKEN = TensorSpec(name="x", datatype=DataType.FP32, shape=(4,))


class TestTrace:
    """The columns after each step."""

    def test_numbers_beside_texts(self) -> None:
        stages = trace(mixed(Cast(), SITES, Clip(columns=("site=s",), high=(1.0,))))
        assert [(stage.spec.datatype, stage.columns, stage.texts) for stage in stages] == [
            (DataType.FP64, COLUMNS, ("site",)),
            (DataType.FP32, COLUMNS, ("site",)),
            (DataType.FP32, ("age", "height", "site=n", "site=s"), ()),
            (DataType.FP32, ("age", "height", "site=n", "site=s"), ()),
        ]

    def test_nothing_but_texts(self) -> None:
        stages = trace(
            texts(
                Impute(values={"age": "old"}),
                Ordinal(column="age", categories=("old", "young")),
                Select(columns=("site", "age")),
                SITES,
            )
        )
        assert [stage.texts for stage in stages] == [
            COLUMNS,
            COLUMNS,
            ("height", "site"),
            ("site",),
            (),
        ]
        assert stages[-1].spec.datatype is DataType.FP32

    def test_other_is_one_more_column(self) -> None:
        step = OneHot(column="age", categories=(1.0, 2.5), unknown="other")
        assert step.names == ("age=1", "age=2.5", "age=other")


class TestSent:
    """What clients send and what an engineer's rows are."""

    COLUMN_SPECS = (
        TensorSpec(name="age", datatype=DataType.FP64, shape=(1,)),
        TensorSpec(name="height", datatype=DataType.FP64, shape=(1,)),
        TensorSpec(name="site", datatype=DataType.BYTES, shape=(1,)),
    )

    def test_an_input_without_a_recipe(self) -> None:
        assert sent_specs(None, TAKEN) == raw_specs(None, TAKEN) == (TAKEN,)

    def test_raw_in_one_tensor(self) -> None:
        item = table(Cast())
        assert sent_specs(item, TAKEN) == raw_specs(item, TAKEN) == (item.raw,)

    def test_columns(self) -> None:
        item = mixed(Cast(), SITES)
        assert sent_specs(item, TAKEN) == raw_specs(item, TAKEN) == self.COLUMN_SPECS

    def test_prepared_from_texts_and_numbers(self) -> None:
        item = mixed(Cast(), SITES, accepts=Accepts.PREPARED)
        assert sent_specs(item, TAKEN) == (TAKEN,)
        assert raw_specs(item, TAKEN) == self.COLUMN_SPECS
        assert from_raw(Recipe(inputs=(item,))).inputs == (mixed(Cast(), SITES),)

    def test_prepared_from_numbers(self) -> None:
        item = table(Cast(), accepts=Accepts.PREPARED)
        assert raw_specs(item, TAKEN) == (item.raw,)
        assert from_raw(Recipe(inputs=(item,))).inputs == (table(Cast()),)

    def test_columns_are_the_served_inputs(self) -> None:
        engine = Interface(inputs=(TAKEN,), outputs=(), batch_max=8)
        served = served_interface(Recipe(inputs=(mixed(Cast(), SITES),)), engine)
        assert served.inputs == self.COLUMN_SPECS

    def test_a_column_called_like_another_input_is_refused(self) -> None:
        other = TensorSpec(name="age", datatype=DataType.FP32, shape=(1,))
        engine = Interface(inputs=(TAKEN, other), outputs=(), batch_max=8)
        with pytest.raises(RecipeError, match="two inputs share a name"):
            served_interface(Recipe(inputs=(mixed(Cast(), SITES),)), engine)


def bounds(low: float, high: float) -> BeforeStep:
    return MinMax(columns=("age",), low=(low,), high=(high,))


REFUSED: dict[str, tuple[InputRecipe, str]] = {
    "a typing error": (table(Select(columns=("aeg",))), "did you mean 'age'"),
    "another case": (table(Cast(), Log1p(columns=("Age",))), "did you mean 'age'"),
    "log1p of nothing": (table(Cast(), Log1p(columns=())), "needs columns, each once"),
    "log1p before the cast": (table(Log1p(columns=("age",))), "put a cast first"),
    "log1p of texts": (mixed(Cast(), Log1p(columns=("site",))), "hold texts: encode them first"),
    "min_max of other lengths": (
        table(Cast(), MinMax(columns=("age",), low=(0.0, 1.0), high=(2.0,))),
        "one low and one high",
    ),
    "min_max of no range": (table(Cast(), bounds(3.0, 3.0)), "every high above its low"),
    "min_max upside down": (table(Cast(), bounds(4.0, 3.0)), "every high above its low"),
    "min_max beyond FP32": (table(Cast(), bounds(-3e38, 3e38)), "every high above its low"),
    "clip without bounds": (table(Cast(), Clip(columns=("age",))), "one low, one high"),
    "clip of other lengths": (
        table(Cast(), Clip(columns=("age",), low=(0.0,), high=(1.0, 2.0))),
        "one low, one high",
    ),
    "clip upside down": (
        table(Cast(), Clip(columns=("age",), low=(2.0,), high=(1.0,))),
        "no low above its high",
    ),
    "impute of nothing": (table(Cast(), Impute(values={})), "needs columns"),
    "impute numbers by text": (table(Cast(), Impute(values={"age": "?"})), "must be a number"),
    "impute texts by number": (mixed(Cast(), Impute(values={"site": 1.0})), "must be a text"),
    "categories of another kind": (
        table(Cast(), Ordinal(column="age", categories=("old",))),
        "its categories must be numbers",
    ),
    "categories of numbers for texts": (
        mixed(Cast(), OneHot(column="site", categories=(1.0,))),
        "its categories must be texts",
    ),
    "equal categories": (mixed(Cast(), OneHot(column="site", categories=("n", "n"))), "each once"),
    "no categories": (mixed(Cast(), Ordinal(column="site", categories=())), "each once"),
    "a category called other": (
        mixed(Cast(), OneHot(column="site", categories=("other",), unknown="other")),
        "would share a name",
    ),
    "texts encoded twice": (mixed(Cast(), SITES, SITES), "no column 'site' here"),
    "texts encoded before the cast": (mixed(SITES), "put a cast first"),
    "cast of nothing but texts": (texts(Cast()), "needs numbers"),
    "texts beside numbers in one tensor": (
        mixed(Cast(), SITES, accepts=Accepts.RAW),
        "which no single tensor can",
    ),
    "texts that are no column": (mixed(texts=("sites",)), "has no column 'sites'"),
    "texts without columns": (mixed(columns=()), "names no columns"),
    "columns one by one without columns": (
        table(Cast(), columns=(), accepts=Accepts.COLUMNS),
        "names no columns",
    ),
    "columns of another count": (table(Cast(), width=4), "but names 3 columns"),
    "a column twice": (table(Cast(), columns=("a", "b", "a")), "names a column twice"),
    "a column without a name": (
        table(Cast(), columns=("a", "", "b"), accepts=Accepts.COLUMNS),
        "whose name no input can have",
    ),
}


@pytest.mark.parametrize(("recipe", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_steps_that_do_not_fit_are_refused(recipe: InputRecipe, why: str) -> None:
    with pytest.raises(RecipeError, match=why) as caught:
        trace(recipe)
    assert caught.value.remedy


def test_texts_must_be_encoded_in_the_end() -> None:
    taken = TensorSpec(name="x", datatype=DataType.FP32, shape=(3,))
    engine = Interface(inputs=(taken,), outputs=(), batch_max=8)
    with pytest.raises(RecipeError, match="columns site for 'x' are still texts"):
        served_interface(Recipe(inputs=(mixed(Cast()),)), engine)


def test_an_engine_that_takes_texts_is_fed_texts() -> None:
    taken = TensorSpec(name="x", datatype=DataType.BYTES, shape=(2,))
    engine = Interface(inputs=(taken,), outputs=(), batch_max=8)
    item = texts(Select(columns=("site", "age")))
    assert served_interface(Recipe(inputs=(item,)), engine).inputs == (item.raw,)


@pytest.mark.parametrize(
    "step",
    [
        {"step": "one_hot", "column": "a", "categories": [True]},
        {"step": "one_hot", "column": "a", "categories": [1], "unknown": "ignore"},
        {"step": "ordinal", "column": "a", "categories": [float("nan")]},
        {"step": "ordinal", "column": "a", "categories": ["x" * 257]},
        {"step": "ordinal", "column": "a", "categories": [1], "unknown": "zero"},
        {"step": "clip", "columns": ["a"], "low": [float("inf")]},
    ],
    ids=["boolean", "unknown by another name", "nan", "long text", "text for a number", "infinite"],
)
def test_wrong_parameters_are_refused(step: dict[str, Any]) -> None:
    raw = {"name": "row", "datatype": "FP32", "shape": [1]}
    with pytest.raises(RecipeError):
        from_table(
            {"feeds": "x", "raw": raw, "columns": ["a"], "steps": [step]},
            InputRecipe,
            RecipeError,
            where="spec",
        )
