"""The drift vector's formulas against numpy, and what they make of broken values."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from appliance.layout import CLASSES_MAX, GRID_CELLS, ImageValues, ScoreValues, VectorLayout
from appliance.tensors import Array
from runtime.kernels import vector_steps
from runtime.kernels.vector import DriftVector

F = np.float32
NAN, INF = float("nan"), float("inf")


def values_of(
    layout: VectorLayout, prepared: Mapping[str, Array], outputs: Mapping[str, Array]
) -> dict[str, list[float]]:
    """The vectors of some rows, by name."""
    vectors = DriftVector(layout).compute(prepared, outputs)
    assert vectors.dtype == F
    assert vectors.flags.c_contiguous
    return dict(zip(layout.names, vectors.T.tolist(), strict=True))


def near(values: Any) -> Any:
    return pytest.approx(np.asarray(values).tolist(), rel=1e-5, abs=1e-6, nan_ok=True)


class TestImages:
    """A PCA of two components over 64 cells: the mean cell, and left against right half."""

    CENTRE = np.full(GRID_CELLS, 0.5, "<f4")
    HALVES = np.where(np.arange(GRID_CELLS) % 8 < 4, 1, -1)
    COMPONENTS = np.stack([np.ones(GRID_CELLS), HALVES]).astype("<f4") / 8

    def layout(self, order: Any) -> VectorLayout:
        part = ImageValues(
            input="image",
            order=order,
            mean=self.CENTRE.tobytes(),
            components=self.COMPONENTS.tobytes(),
        )
        return VectorLayout(batch_axis=True, parts=(part,))

    def values(self, images: Array, order: str = "CHW") -> dict[str, list[float]]:
        rows = {"y": np.zeros(len(images))}
        found = values_of(self.layout(order), {"image": images}, rows)
        return {name.removeprefix("image."): column for name, column in found.items()}

    @pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 13), (2, 9, 64)])
    @pytest.mark.parametrize("order", ["CHW", "HWC"])
    def test_they_are_what_numpy_makes_of_the_pixels(
        self, shape: tuple[int, ...], order: str
    ) -> None:
        chw = np.random.default_rng(1).normal(size=(4, *shape)).astype(F)
        chw[:, 0, :2] = 0.0
        grey = chw.astype(float).mean(axis=1)
        cells = np.empty((4, 8, 8))
        rows, columns = np.indices(shape[1:])
        at_y, at_x = 8 * rows // shape[1], 8 * columns // shape[2]
        for y, x in np.ndindex(8, 8):
            cells[:, y, x] = grey[:, (at_y == y) & (at_x == x)].mean(axis=1)
        centred = cells.reshape(4, -1) - self.CENTRE
        scores = centred @ self.COMPONENTS.T
        steps = [np.abs(np.diff(grey, axis=axis)).reshape(4, -1) for axis in (1, 2)]
        found = self.values(chw if order == "CHW" else np.moveaxis(chw, 1, 3), order)
        assert found["mean"] == near(chw.mean(axis=(1, 2, 3)))
        assert found["std"] == near(chw.std(axis=(1, 2, 3)))
        assert found["sharpness"] == near(np.hstack(steps).mean(axis=1))
        assert found["zeros"] == near((chw == 0.0).mean(axis=(1, 2, 3)))
        assert found["pca_1"] == near(scores[:, 0])
        assert found["pca_2"] == near(scores[:, 1])
        rest = centred - scores @ self.COMPONENTS
        assert found["residual"] == near(np.linalg.norm(rest, axis=1))

    def test_any_numeric_dtype_will_do(self) -> None:
        image = np.random.default_rng(2).integers(0, 255, (2, 1, 8, 8))
        plain = self.values(image.astype(F))
        for dtype in (np.uint8, np.float64, np.float16):
            assert self.values(image.astype(dtype)) == plain

    @pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 2)])
    def test_an_image_smaller_than_the_grid_leaves_cells_at_zero(
        self, shape: tuple[int, ...]
    ) -> None:
        found = self.values(np.full((1, *shape), 2.0, F))
        assert (found["mean"], found["std"], found["sharpness"]) == ([2.0], [0.0], [0.0])
        filled = shape[1] * shape[2]
        assert found["pca_1"] == near([(filled * 2.0 - GRID_CELLS / 2) / 8])

    @pytest.mark.parametrize("broken", [NAN, INF, -INF, 3e38])
    def test_a_broken_pixel_breaks_its_row_only(self, broken: float) -> None:
        images = np.random.default_rng(3).normal(size=(2, 1, 8, 8)).astype(F)
        clean = self.values(images[1:])
        images[0, 0, 3] = broken
        found = self.values(images)
        assert {name: column[1:] for name, column in found.items()} == clean
        assert np.isfinite(found["zeros"]).all()
        assert broken == 3e38 or not np.isfinite(found["residual"][0])


class TestScores:
    """Four classes, the first two probabilities kept: the layout decides how many."""

    def values(self, scores: Any, *, logits: bool = True) -> dict[str, list[float]]:
        scores = np.asarray(scores)
        part = ScoreValues(output="y", logits=logits, classes=scores.shape[1])
        layout = VectorLayout(batch_axis=True, parts=(part,))
        found = values_of(layout, {}, {"y": scores})
        return {name.removeprefix("y."): column for name, column in found.items()}

    def test_logits_go_through_softmax(self) -> None:
        scores = np.random.default_rng(4).normal(0, 3, (5, 4)).astype(F)
        shares = special.softmax(scores.astype(float), axis=1)
        found = self.values(scores)
        assert found["confidence"] == near(shares.max(axis=1))
        assert found["entropy"] == near(stats.entropy(shares, axis=1))
        assert found["class"] == shares.argmax(axis=1).tolist()
        assert found["p(2)"] == near(shares[:, 2])

    def test_probabilities_are_taken_as_they_are(self) -> None:
        found = self.values([[0.25, 0.75, 0.0]], logits=False)
        assert found["confidence"] == [0.75]
        assert found["entropy"] == near([stats.entropy([0.25, 0.75])])
        assert [found[f"p({index})"] for index in range(3)] == [[0.25], [0.75], [0.0]]

    def test_the_first_of_equal_classes_is_predicted(self) -> None:
        assert self.values([[1.0, 7.0, 7.0]])["class"] == [1.0]

    def test_large_logits_do_not_overflow(self) -> None:
        found = self.values([[1e38, -1e38]])
        assert (found["confidence"], found["entropy"]) == ([1.0], [0.0])

    def test_a_masked_class_has_no_share(self) -> None:
        found = self.values([[-INF, 0.0, 0.0]])
        assert [found[f"p({index})"] for index in range(3)] == [[0.0], [0.5], [0.5]]

    @pytest.mark.parametrize("logits", [True, False])
    @pytest.mark.parametrize("row", [[NAN, 1, 2], [1, NAN, 2], [1, INF, 2], [-INF] * 3])
    def test_a_row_without_meaning_is_missing_throughout(
        self, row: list[float], *, logits: bool
    ) -> None:
        found = self.values([row, [0.0, 1.0, 0.0]], logits=logits)
        assert all(np.isnan(column[0]) and np.isfinite(column[1]) for column in found.values())

    def test_of_many_classes_the_first_probabilities_are_kept(self) -> None:
        found = self.values(np.eye(2, 1000, 999, dtype=np.float64))
        assert len(found) == 3 + CLASSES_MAX
        assert found["class"] == [999.0, 0.0]


@pytest.mark.parametrize("logits", [True, False])
def test_machine_code_does_what_the_python_says(*, logits: bool) -> None:
    scores = np.random.default_rng(5).random((3, 6)).astype(F)
    scores[1, 2] = NAN
    plain, machine = np.zeros((3, 9), F), np.zeros((3, 9), F)
    vector_steps.fill_scores(scores, logits, 6, plain, 0)
    vector_steps.score_kernel()(scores, logits, 6, machine, 0)
    np.testing.assert_allclose(machine, plain, rtol=1e-6)

    images = np.random.default_rng(6).random((2, 3, 9, 11)).astype(F)
    components = np.random.default_rng(7).random((2, GRID_CELLS)).astype(F)
    centre = np.zeros(GRID_CELLS, F)
    plain, machine = np.zeros((2, 8), F), np.zeros((2, 8), F)
    flat, strides = images.reshape(2, -1), (99, 11, 1)
    vector_steps.fill_image(flat, (3, 9, 11), strides, centre, components, plain, 1)
    vector_steps.ImageKernel("CHW", centre, components).fill(images, machine, 1)
    np.testing.assert_allclose(machine, plain, rtol=1e-6)
