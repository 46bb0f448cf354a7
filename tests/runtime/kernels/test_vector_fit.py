"""Which drift values a model gets, and the PCA of its images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from appliance.errors import RecipeError
from appliance.layout import (
    CLASSES_MAX,
    COLUMNS_MAX,
    Floats,
    ImageValues,
    OutputValues,
    ScoreValues,
    TableValues,
    floats,
)
from appliance.recipe import (
    ArgMax,
    Cast,
    Frame,
    InputRecipe,
    Layout,
    OneHot,
    Recipe,
    Sigmoid,
    Softmax,
    Spectrum,
    TopK,
)
from appliance.tensors import Array, DataType, Interface, TensorSpec
from runtime.kernels.vector import DriftVector
from runtime.kernels.vector_fit import fit_layout

F = np.float32
NAN = float("nan")
NO_RECIPE = Recipe()


def spec(name: str, *shape: int, datatype: DataType = DataType.FP32) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def interface(*specs: TensorSpec, outputs: tuple[TensorSpec, ...], batch: int = 8) -> Interface:
    return Interface(inputs=specs, outputs=outputs, batch_max=batch)


class TestFitting:
    """Which parts a model gets."""

    LOGITS = np.asarray([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]], F)
    IMAGES = np.random.default_rng(8).random((30, 1, 8, 8)).astype(F)

    def parts(
        self,
        recipe: Recipe,
        engine: Interface,
        prepared: Mapping[str, Array],
        outputs: Mapping[str, Array],
    ) -> tuple[Any, ...]:
        return fit_layout(recipe, engine, prepared, outputs).parts

    def score(self, recipe: Recipe, scores: Array) -> tuple[Any, ...]:
        engine = interface(
            spec("text", 1, datatype=DataType.BYTES), outputs=(spec("y", scores.shape[1]),)
        )
        return self.parts(recipe, engine, {}, {"y": scores})

    @pytest.mark.parametrize(
        "after",
        [
            (Softmax(tensor="y", output="p"),),
            (Softmax(tensor="y", output="p"), TopK(tensor="p", k=2, output="best")),
            (Sigmoid(tensor="y", output="p"), TopK(tensor="p", k=2, output="best")),
            (ArgMax(tensor="y", output="best"),),
        ],
    )
    def test_what_a_recipe_ranks_are_class_scores(self, after: Any) -> None:
        (part,) = self.score(Recipe(after=after), self.LOGITS)
        assert part == ScoreValues(output="y", logits=True, classes=3)

    def test_so_is_an_output_with_a_value_a_label(self) -> None:
        (part,) = self.score(Recipe(labels=("a", "b", "c")), self.LOGITS)
        assert part == ScoreValues(output="y", logits=True, classes=3, labels=("a", "b", "c"))

    def test_so_is_one_whose_rows_are_probabilities(self) -> None:
        shares = special.softmax(self.LOGITS, axis=1)
        (part,) = self.score(NO_RECIPE, shares)
        assert part == ScoreValues(output="y", logits=False, classes=3)
        (part,) = self.score(Recipe(labels=("a", "a", "b")), shares)
        assert (part.logits, part.labels) == (False, ())

    def test_a_broken_row_does_not_hide_probabilities(self) -> None:
        shares = np.vstack([special.softmax(self.LOGITS, axis=1), [[NAN] * 3]])
        (part,) = self.score(NO_RECIPE, shares)
        assert part == ScoreValues(output="y", logits=False, classes=3)

    def test_other_numbers_are_plain_columns(self) -> None:
        (part,) = self.score(NO_RECIPE, self.LOGITS)
        assert part == OutputValues(output="y", columns=3)

    def test_plain_columns_have_a_limit_over_all_outputs(self) -> None:
        specs = (spec("a", 20), spec("b", 20), spec("c", 20), spec("n", datatype=DataType.INT64))
        rows = {item.name: np.full((2, 20), 7.0) for item in specs}
        parts = self.parts(NO_RECIPE, interface(outputs=specs), {}, rows)
        assert parts == (
            OutputValues(output="a", columns=20),
            OutputValues(output="b", columns=CLASSES_MAX - 20),
        )

    def test_a_table_has_the_names_of_its_last_step(self) -> None:
        item = InputRecipe(
            feeds="x",
            raw=spec("sheet", 2),
            columns=("sex", "age"),
            steps=(Cast(), OneHot(column="sex", categories=(0.0, 1.0))),
        )
        engine = interface(spec("x", 3), outputs=(spec("y", 1),))
        rows = {"x": np.zeros((2, 3), F)}
        parts = self.parts(Recipe(inputs=(item,)), engine, rows, {"y": np.zeros((2, 1), F)})
        assert parts[0] == TableValues(input="x", columns=("sex=0", "sex=1", "age"))

    def test_a_table_without_names_has_numbers_and_a_limit(self) -> None:
        engine = interface(
            spec("x", 60), spec("z", 10), spec("w", 5), spec("k"), outputs=(spec("y", -1),)
        )
        parts = self.parts(NO_RECIPE, engine, {}, {})
        assert [(part.input, len(part.columns)) for part in parts] == [("x", 60), ("z", 4)]
        assert sum(len(part.columns) for part in parts) == COLUMNS_MAX

    def test_a_scalar_is_a_table_of_one_column(self) -> None:
        engine = interface(spec("k", datatype=DataType.INT64), outputs=())
        assert self.parts(NO_RECIPE, engine, {}, {}) == (TableValues(input="k", columns=("0",)),)

    def test_texts_and_free_lengths_have_no_features(self) -> None:
        engine = interface(
            spec("text", 1, datatype=DataType.BYTES),
            spec("tokens", -1, datatype=DataType.INT64),
            outputs=(spec("found", -1, 4), spec("label", datatype=DataType.BYTES)),
        )
        assert self.parts(NO_RECIPE, engine, {}, {}) == ()

    @pytest.mark.parametrize(
        ("shape", "order"),
        [((3, 8, 8), "CHW"), ((8, 8, 3), "HWC"), ((1, 8, 1), "CHW"), ((5, 8, 8), "CHW")],
    )
    def test_without_a_recipe_the_channel_axis_is_the_short_one(
        self, shape: tuple[int, ...], order: str
    ) -> None:
        engine = interface(spec("image", *shape), outputs=())
        (part,) = self.parts(NO_RECIPE, engine, {"image": np.zeros((4, *shape), F)}, {})
        assert (part.order, part.components) == (order, b"")

    def test_an_image_without_pixels_is_none(self) -> None:
        engine = Interface(inputs=(spec("image", 0, 8, 3),), outputs=(), batch_max=4)
        empty = np.zeros((2, 0, 8, 3), np.float32)
        assert fit_layout(Recipe(), engine, {"image": empty}, {}).parts == ()

    def test_spectra_have_their_channels_first(self) -> None:
        raw = TensorSpec(name="sound", datatype=DataType.FP32, shape=(80, 1))
        steps = (Frame(length=8, hop=8), Spectrum())
        recipe = Recipe(inputs=(InputRecipe(feeds="x", raw=raw, steps=steps),))
        engine = Interface(inputs=(spec("x", 1, 10, 5),), outputs=(), batch_max=4)
        (part,) = fit_layout(recipe, engine, {"x": np.ones((3, 1, 10, 5), np.float32)}, {}).parts
        assert isinstance(part, ImageValues)
        assert part.order == "CHW"

    @pytest.mark.parametrize(("steps", "order"), [((Cast(), Layout()), "CHW"), ((Cast(),), "HWC")])
    def test_with_one_the_recipe_says(self, steps: Any, order: str) -> None:
        raw = spec("photo", 8, 8, 1, datatype=DataType.UINT8)
        recipe = Recipe(inputs=(InputRecipe(feeds="image", raw=raw, steps=steps),))
        shape = (1, 8, 8) if order == "CHW" else (8, 8, 1)
        engine = interface(spec("image", *shape), outputs=())
        (part,) = self.parts(recipe, engine, {"image": np.zeros((4, *shape), F)}, {})
        assert part.order == order

    def test_only_the_first_image_is_measured(self) -> None:
        engine = interface(spec("left", 1, 8, 8), spec("right", 1, 8, 8), outputs=())
        parts = self.parts(NO_RECIPE, engine, {"left": self.IMAGES}, {})
        assert [part.input for part in parts] == ["left"]

    def test_the_pca_is_that_of_the_cells(self) -> None:
        engine = interface(spec("image", 1, 8, 8), outputs=())
        (part,) = self.parts(NO_RECIPE, engine, {"image": self.IMAGES}, {})
        components = part.component_rows()
        np.testing.assert_allclose(components @ components.T, np.eye(16), atol=1e-5)
        rows = self.IMAGES.reshape(30, -1)
        np.testing.assert_allclose(floats(part.mean), rows.mean(axis=0), atol=1e-5)
        spread = ((rows - rows.mean(axis=0)) @ components.T).var(axis=0)
        largest = np.sort(np.linalg.eigvalsh(np.cov(rows.T, bias=True)))[::-1][:16]
        np.testing.assert_allclose(spread, largest, rtol=1e-3)

    def test_the_same_sample_gives_the_same_bytes(self) -> None:
        engine = interface(spec("image", 1, 8, 8), outputs=())
        once, again = (
            self.parts(NO_RECIPE, engine, {"image": images}, {})
            for images in (self.IMAGES, self.IMAGES.copy())
        )
        assert once == again

    def test_rows_that_cannot_be_used_are_left_out_of_the_pca(self) -> None:
        engine = interface(spec("image", 1, 8, 8), outputs=())
        broken = np.vstack([self.IMAGES, np.full((1, 1, 8, 8), NAN, F)])
        (clean,) = self.parts(NO_RECIPE, engine, {"image": self.IMAGES}, {})
        assert self.parts(NO_RECIPE, engine, {"image": broken}, {}) == (clean,)
        (single,) = self.parts(NO_RECIPE, engine, {"image": broken[-2:]}, {})
        assert single.components == b""

    def test_a_graph_for_one_row_is_treated_as_having_a_batch_axis(self) -> None:
        engine = interface(spec("image", 1, 1, 8, 8), outputs=(spec("y", 1, 3),), batch=0)
        sample = self.IMAGES[:, np.newaxis]
        scores = np.random.default_rng(9).random((30, 1, 3)).astype(F)
        recipe = Recipe(after=(Softmax(tensor="y", output="p"),))
        layout = fit_layout(recipe, engine, {"image": sample}, {"y": scores})
        assert layout.batch_axis
        assert [type(part) for part in layout.parts] == [ImageValues, ScoreValues]
        vectors = DriftVector(layout).compute({"image": sample[0]}, {"y": scores[0]})
        assert vectors.shape == (1, len(layout.names))

    def test_a_graph_without_rows_is_not(self) -> None:
        engine = interface(spec("image", 1, 8, 8), outputs=(spec("y", 3),), batch=0)
        layout = fit_layout(
            NO_RECIPE, engine, {"image": self.IMAGES}, {"y": np.full((30, 3), 5.0, F)}
        )
        assert not layout.batch_axis
        vectors = DriftVector(layout).compute(
            {"image": self.IMAGES[0]}, {"y": np.asarray([1, 2, 3], F)}
        )
        assert vectors.shape == (1, len(layout.names))
        assert vectors[0, -3:].tolist() == [1.0, 2.0, 3.0]


def test_the_residual_of_fresh_rows_is_that_of_the_reference() -> None:
    """Fitted on other rows than the profile's, the PCA flatters neither side."""
    rng = np.random.default_rng(10)
    images: Floats = rng.random((900, 1, 8, 8)).astype(F)
    engine = interface(spec("image", 1, 8, 8), outputs=())
    layout = fit_layout(NO_RECIPE, engine, {"image": images[:300]}, {})
    vectors = DriftVector(layout).compute({"image": images}, {"y": np.zeros(900)})
    residual = vectors[:, layout.names.index("image.residual")]
    assert stats.ks_2samp(residual[300:600], residual[600:]).pvalue > 0.01
    assert stats.ks_2samp(residual[:300], residual[600:]).pvalue < 0.01


def test_drift_values_that_would_share_a_name_are_refused():
    """Column `b.0` of input `a`, and column 0 of input `a.b`."""
    item = InputRecipe(feeds="a", raw=spec("a", 2), columns=("b.0", "q"), steps=())
    model = interface(spec("a", 2), spec("a.b", 2), outputs=(spec("y", 2),))
    rows = np.zeros((3, 2), F)
    with pytest.raises(RecipeError, match=r"\['a\.b\.0'\]"):
        fit_layout(Recipe(inputs=(item,)), model, {"a": rows, "a.b": rows}, {"y": rows})
