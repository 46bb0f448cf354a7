"""What becomes of a row: each stage against numpy, how it is told, and where rows come from."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from appliance.errors import ConfigError, RequestError
from appliance.recipe import (
    Accepts,
    Cast,
    Colour,
    Crop,
    Decode,
    Impute,
    InputRecipe,
    Layout,
    Normalise,
    OneHot,
    Recipe,
    Resize,
    Select,
    Standardise,
)
from appliance.tables import canonical_json
from appliance.tensors import DataType, Interface, TensorSpec
from compiler.explain import SENT, Explanation, engine_stage, explain
from compiler.explain.words import explained_lines, explained_values

FP32, FP64, UINT8, BYTES = DataType.FP32, DataType.FP64, DataType.UINT8, DataType.BYTES


def tensor(name: str, datatype: DataType, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def engine(*inputs: TensorSpec, batch_max: int = 4) -> Interface:
    return Interface(inputs=inputs, outputs=(), batch_max=batch_max)


IMAGE = InputRecipe(
    feeds="pixels",
    raw=tensor("photo", UINT8, -1, -1, 1),
    steps=(Cast(), Resize(height=2, width=2), Normalise(mean=(1.0,), std=(2.0,)), Layout()),
)
PIXELS = tensor("pixels", FP32, 1, 2, 2)
TABLE = InputRecipe(
    feeds="features",
    raw=tensor("patient", FP64, 3),
    columns=("age", "weight", "kind"),
    steps=(
        Cast(),
        Impute(values={"age": 40.0}),
        Standardise(columns=("age",), mean=(40.0,), std=(10.0,)),
        OneHot(column="kind", categories=(1.0, 2.0)),
        Select(columns=("kind=2", "age")),
    ),
)
FEATURES = tensor("features", FP32, 2)


def explained(item: InputRecipe, spec: TensorSpec, rows: dict[str, Any], row: int) -> Explanation:
    return explain(Recipe(inputs=(item,)), engine(spec), rows, row)


def test_an_image_from_step_to_step() -> None:
    photos = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1)
    (item,) = explained(IMAGE, PIXELS, {"photo": photos}, 1).inputs
    assert item.feeds == "pixels"
    assert [stage.step for stage in item.stages] == [SENT, "cast", "resize", "normalise", "layout"]
    sent, cast, resized, normalised, laid_out = (stage.array for stage in item.stages)
    np.testing.assert_array_equal(sent, photos[1])
    np.testing.assert_array_equal(cast, photos[1])
    assert cast.dtype == np.float32
    blocks = photos[1].reshape(2, 2, 2, 2).mean(axis=(1, 3))
    np.testing.assert_array_equal(resized[..., 0], blocks)
    np.testing.assert_array_equal(normalised, (resized - 1) / 2)
    np.testing.assert_array_equal(laid_out[0], normalised[..., 0])
    assert item.stages[2].parameters["height"] == 2
    assert item.stages[-1].prepared.order == "CHW"


def test_an_encoded_image_from_its_file_on() -> None:
    photo = np.random.default_rng(3).integers(0, 255, (9, 12, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "PNG")
    item = InputRecipe(
        feeds="pixels",
        raw=tensor("file", BYTES, 1),
        steps=(
            Decode(),
            Crop(height=8, width=8),
            Colour(to="swapped"),
            Cast(),
            Normalise(mean=(127.5,), std=(127.5,)),
            Layout(),
        ),
    )
    rows = {"file": np.array([[b"no picture"], [file.getvalue()]], np.object_)}
    explanation = explained(item, tensor("pixels", FP32, 3, 8, 8), rows, 1)
    sent, decoded, cropped, swapped, cast, *_, last = explanation.inputs[0].stages
    assert sent.array.tolist() == [file.getvalue()]
    np.testing.assert_array_equal(decoded.array, photo)
    np.testing.assert_array_equal(cropped.array, photo[:8, 2:10])
    np.testing.assert_array_equal(swapped.array, photo[:8, 2:10, ::-1])
    assert (swapped.array.dtype, cast.array.dtype) == (np.uint8, np.float32)
    np.testing.assert_allclose(last.array, np.moveaxis(cast.array, 2, 0) / 127.5 - 1, atol=1e-6)
    assert f"{len(file.getvalue())} bytes" in dict(explained_lines(explanation))[SENT]
    with pytest.raises(RequestError):
        explained(item, tensor("pixels", FP32, 3, 8, 8), rows, 0)


def test_a_table_is_told_column_by_column() -> None:
    rows = {"patient": np.array([[30, 80, 1], [np.nan, 70, 2.0]])}
    explanation = explained(TABLE, FEATURES, rows, 1)
    (item,) = explanation.inputs
    assert item.stages[0].nan_share == pytest.approx(1 / 3)
    np.testing.assert_array_equal(item.stages[-1].array, [1, 0])
    told = dict(explained_lines(explanation))
    lines = {line.split()[0]: line.split()[1:] for line in told["columns"].splitlines()[1:]}
    assert lines == {
        "age": ["nan", "nan", "40", "0", "0", "0"],
        "weight": ["70"] * 5,
        "kind": ["2"] * 4,
        "kind=1": ["0"],
        "kind=2": ["1", "1"],
    }
    assert "NaN 33.33%" in told[SENT]


def test_wide_tables_are_cut() -> None:
    columns = tuple(f"column {at}" for at in range(70))
    item = InputRecipe(
        feeds="features", raw=tensor("x", FP32, 70), columns=columns, steps=(Cast(),)
    )
    rows = {"x": np.zeros((1, 70), np.float32)}
    told = dict(explained_lines(explained(item, tensor("features", FP32, 70), rows, 0)))
    assert told["columns"].splitlines()[-1] == "and 6 more"


@pytest.mark.parametrize("texts", [(), ("kind",)], ids=["numbers", "texts"])
def test_columns_that_are_sent_one_by_one(texts: tuple[str, ...]) -> None:
    item = InputRecipe(
        feeds="features",
        raw=tensor("patient", FP64, 2),
        columns=("age", "kind"),
        texts=texts,
        accepts=Accepts.COLUMNS,
        steps=(
            Cast(),
            OneHot(column="kind", categories=("a", "b") if texts else (1.0, 2.0)),
        ),
    )
    kinds = np.array([[b"a"], [b"b"]], np.object_) if texts else np.array([[1.0], [2.0]])
    rows = {"age": np.array([[30.0], [40.0]]), "kind": kinds}
    (item_explained,) = explained(item, tensor("features", FP32, 3), rows, 1).inputs
    steps = [stage.step for stage in item_explained.stages]
    assert steps == ([SENT, "one_hot"] if texts else [SENT, "cast", "one_hot"])
    assert item_explained.stages[0].array.tolist() == [40.0, b"b" if texts else 2.0]
    np.testing.assert_array_equal(item_explained.stages[-1].array, [40, 0, 1])


def test_what_is_sent_prepared_has_one_stage() -> None:
    item = InputRecipe(feeds="pixels", raw=IMAGE.raw, steps=IMAGE.steps, accepts=Accepts.PREPARED)
    rows = {"pixels": np.zeros((1, 1, 2, 2), np.float32), "mask": np.ones((1, 5), np.int64)}
    recipe, interface = Recipe(inputs=(item,)), engine(PIXELS, tensor("mask", DataType.INT64, -1))
    explanation = explain(recipe, interface, rows, 0)
    assert [[stage.step for stage in each.stages] for each in explanation.inputs] == [[SENT]] * 2
    assert explanation.inputs[0].stages[0].prepared.order == "CHW"
    assert explanation.inputs[1].stages[0].array.tolist() == [1] * 5


def test_the_engines_stage_alone_is_the_last() -> None:
    photos = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1)
    for batch_max in (0, 4):
        recipe = Recipe(inputs=(IMAGE,))
        interface = engine(PIXELS, batch_max=batch_max)
        explanation = explain(recipe, interface, {"photo": photos}, 0)
        alone = engine_stage(recipe, PIXELS, {"photo": photos}, 0)
        np.testing.assert_array_equal(alone.array, explanation.inputs[0].stages[-1].array)


@pytest.mark.parametrize("row", [-1, 2])
def test_a_row_that_is_not_there(row: int) -> None:
    with pytest.raises(ConfigError, match=f"no row {row}") as caught:
        explained(IMAGE, PIXELS, {"photo": np.zeros((2, 4, 4, 1), np.uint8)}, row)
    assert "0 to 1" in caught.value.remedy


def test_values_are_the_same_as_the_lines_and_fit_json() -> None:
    rows = {"x": np.array([[np.nan, np.inf, -np.inf, 1.5, 2.0]], np.float32)}
    explanation = explain(Recipe(), engine(tensor("x", FP32, 5)), rows, 0)
    values = explained_values(explanation)
    (stage,) = values["inputs"][0]["stages"]
    assert stage["first"] == ["nan", "inf", "-inf", 1.5, 2.0]
    assert (stage["minimum"], stage["maximum"], stage["mean"]) == ("-inf", "inf", "nan")
    assert stage["nan_share"] == pytest.approx(0.2)
    assert b'"nan"' in canonical_json(values)
    assert dict(explained_lines(explanation))[SENT].endswith("first nan, inf, -inf, 1.5, 2")


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.array(["élan".encode(), b"\xff\xd8\xff"], np.object_), "élan, 3 bytes"),
        (np.array([True, False]), "True, False"),
        (np.array([2**63, 1], np.uint64), f"{2**63}, 1"),
        (np.zeros(0, np.float32), ""),
    ],
    ids=["texts", "booleans", "large integers", "nothing"],
)
def test_all_kinds_of_values_are_told(array: Any, told: str) -> None:
    datatype = {"O": BYTES, "b": DataType.BOOL, "u": DataType.UINT64, "f": FP32}[array.dtype.kind]
    spec = tensor("x", datatype, len(array))
    explanation = explain(Recipe(), engine(spec), {"x": array[None]}, 0)
    assert dict(explained_lines(explanation))[SENT].split("first ")[1] == told
    canonical_json(explained_values(explanation))
