"""What each disturbance does to served rows, against other implementations of the same formula."""

import numpy as np
import pytest
from scipy import ndimage

from appliance.manifest import Disturbance, DisturbanceKind
from appliance.recipe import Accepts, Cast, Impute, InputRecipe, Layout, Recipe
from appliance.tensors import DataType, Interface, TensorSpec
from compiler.proving.disturbances import Form, changed, disturbs, forms, spread

KINDS = DisturbanceKind


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def disturb(array, kind, level, form=Form.IMAGE):
    found = spread(array, form) if array.dtype != np.object_ else None
    return changed(array, Disturbance(kind=kind, level=level), found, rng())


def images(dtype=np.uint8, rows: int = 6) -> np.ndarray:
    return rng().integers(0, 256, size=(rows, 9, 7, 3)).astype(dtype)


def test_noise_has_the_level_times_the_columns_deviation():
    table = np.float32(rng().normal(size=(4000, 2)) * [1.0, 50.0])
    made = disturb(table, KINDS.NOISE, 0.2, Form.TABLE)
    np.testing.assert_allclose((made - table).std(axis=0), [0.2, 10.0], rtol=0.05)
    assert made.dtype == np.float32


def test_bytes_of_an_image_stay_bytes():
    made = disturb(images(), KINDS.NOISE, 3.0)
    assert made.dtype == np.uint8
    assert made.min() == 0
    assert made.max() == 255


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5])
def test_blur_is_a_gaussian(sigma):
    sent = images(np.float32)
    radius = max(int(np.ceil(3 * sigma)), 1)
    wanted = ndimage.gaussian_filter(
        sent.astype(np.float64), (0, sigma, sigma, 0), mode="nearest", radius=(0, radius, radius, 0)
    )
    np.testing.assert_allclose(disturb(sent, KINDS.BLUR, sigma), wanted, atol=1e-3)


def test_every_other_row_is_darker():
    made = disturb(np.full((4, 2, 2, 1), 100, np.uint8), KINDS.BRIGHTNESS, 0.2)
    assert made[:, 0, 0, 0].tolist() == [151, 49, 151, 49]
    made = disturb(np.float32([[[[0.0]]], [[[1.0]]]]), KINDS.BRIGHTNESS, 0.25)
    assert made.ravel().tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("array", "nothing"),
    [
        (np.ones((500, 4), np.float32), np.nan),
        (np.ones((500, 4), np.int64), 0),
        (np.full((500, 4), b"a", np.object_), b""),
    ],
)
def test_a_share_of_a_tables_values_goes_missing(array, nothing):
    made = disturb(array, KINDS.MISSING, 0.25, Form.TABLE)
    same = np.isnan(made) if array.dtype == np.float32 else made == nothing
    assert 0.2 < np.mean(same) < 0.3
    assert (made[~same] == array[~same]).all()


def test_an_adversarial_step_goes_one_way_or_the_other():
    table = np.float64(rng().normal(size=(50, 2)) * [1.0, 7.0])
    steps = np.abs(disturb(table, KINDS.ADVERSARIAL, 0.5, Form.TABLE) - table)
    np.testing.assert_allclose(steps, np.broadcast_to(0.5 * table.std(axis=0), (50, 2)))


@pytest.mark.parametrize("rows", [1, 63, 200])
def test_the_spread_is_that_of_finite_values(rows):
    table = rng().normal(size=(rows, 3)) + np.array([1e12, 0.0, 0.0])
    table[:, 2] = np.nan
    table[0, 1] = np.inf
    found = spread(table, Form.TABLE)
    np.testing.assert_allclose(found.std[0], table[:, 0].std(), rtol=1e-3)
    assert (found.std[2], found.low[2], found.high[2]) == (0.0, 0.0, 0.0)
    assert np.isfinite(found.high).all()


@pytest.mark.parametrize("kind", [KINDS.NOISE, KINDS.ADVERSARIAL, KINDS.MISSING])
@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.uint64, np.float16, np.float64])
def test_extreme_values_stay_values_of_their_datatype(kind, dtype):
    bounds = np.finfo(dtype) if np.issubdtype(dtype, np.floating) else np.iinfo(dtype)
    table = np.array([[bounds.min, 0], [bounds.max, 1]], dtype)
    made = disturb(table, kind, 1.0, Form.TABLE)
    assert (made.dtype, made.shape) == (table.dtype, table.shape)


def test_what_an_input_is_follows_from_its_recipe():
    def spec(name, datatype, *shape):
        return TensorSpec(name=name, datatype=datatype, shape=shape)

    image = InputRecipe(
        feeds="a",
        raw=spec("photo", DataType.UINT8, 8, 8, 3),
        steps=(Cast(datatype="FP32"), Layout()),
    )
    table = InputRecipe(
        feeds="b",
        raw=spec("b", DataType.FP32, 2),
        columns=("age", "height"),
        steps=(Impute(values={"age": 0.0}),),
    )
    prepared = InputRecipe(
        feeds="c",
        raw=spec("raw", DataType.UINT8, 8, 8, 3),
        accepts=Accepts.PREPARED,
        steps=(Cast(datatype="FP32"), Layout()),
    )
    engine = Interface(
        inputs=(
            spec("a", DataType.FP32, 3, 8, 8),
            spec("b", DataType.FP32, 2),
            spec("c", DataType.FP32, 3, 8, 8),
            spec("ids", DataType.INT64, 5),
            spec("text", DataType.BYTES, 1),
        ),
        outputs=(),
        batch_max=4,
    )
    found = forms(Recipe(inputs=(image, table, prepared)), engine)
    assert found == {
        "photo": Form.IMAGE,
        "b": Form.TABLE,
        "c": Form.NUMBERS,
        "ids": Form.OTHER,
        "text": Form.OTHER,
    }
    assert [kind for kind in KINDS if disturbs(kind, Form.NUMBERS)] == ["noise", "adversarial"]
    assert [kind for kind in KINDS if disturbs(kind, Form.TEXTS)] == ["missing"]
    assert not any(disturbs(kind, Form.OTHER) for kind in KINDS)
