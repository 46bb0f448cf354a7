"""What is drawn of a tensor: pixels for images, spectra and signals, and the sheets made of them."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from appliance.fitting import Prepared
from appliance.recipe import Cast, InputRecipe, Layout, Normalise, Recipe
from appliance.tensors import Array, DataType, Interface, TensorSpec, datatype_of
from compiler.explain import ExplainedInput, Explanation, Stage, explain
from compiler.explain.pictures import GAP, SIDE, VIEW_ROWS, engine_view, sheet
from compiler.explain.pixels import MAGENTA, SIGNAL_SIZE, pixels

RAMP = np.array([[0.0, 0.5], [1.0, 0.25]], np.float32)


def stage(array: Array, order: Any = "HWC", columns: tuple[str, ...] = ()) -> Stage:
    datatype = datatype_of(array.dtype)
    assert datatype is not None
    spec = TensorSpec(name="x", datatype=datatype, shape=array.shape)
    return Stage(
        step="sent", array=array, prepared=Prepared(spec=spec, columns=columns, order=order)
    )


def drawn(array: Array, order: Any = "HWC") -> Array:
    made = pixels(stage(array, order))
    assert made is not None
    return made


def opened(png: bytes | None) -> Image.Image:
    assert png is not None
    return Image.open(io.BytesIO(png))


@pytest.mark.parametrize("order", ["HWC", "CHW"])
@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (1e-30, -5e-30), (3e38, -1e38)])
def test_values_are_shown_by_their_own_range(order: str, scale: float, shift: float) -> None:
    values = RAMP.astype(np.float64) * scale + shift
    image = values.astype(np.float32)[..., None]
    made = drawn(np.moveaxis(image, 2, 0) if order == "CHW" else image, order)
    assert made.dtype == np.uint8
    np.testing.assert_allclose(made[..., 0], [[0, 128], [255, 64]], atol=1)
    assert (made == made[..., :1]).all()


def test_bytes_are_shown_as_they_are() -> None:
    image = np.random.default_rng(1).integers(40, 90, (5, 4, 3), np.uint8)
    np.testing.assert_array_equal(drawn(image), image)
    np.testing.assert_array_equal(drawn(np.moveaxis(image, 2, 0).copy(), "CHW"), image)


def test_colours_keep_their_places_in_both_layouts() -> None:
    image = np.zeros((2, 2, 3), np.float32)
    image[0, 1] = [4, 2, 0]
    for made in (drawn(image), drawn(np.moveaxis(image, 2, 0).copy(), "CHW")):
        np.testing.assert_array_equal(made[0, 1], [255, 128, 0])
        assert not made[1].any()


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_magenta(spoilt: float) -> None:
    image = np.dstack([RAMP, RAMP, RAMP])
    image[0, 1, 2] = spoilt
    made = drawn(image)
    assert tuple(made[0, 1]) == MAGENTA
    assert made[1, 0].tolist() == [255, 255, 255]
    assert drawn(np.full((2, 2, 1), spoilt, np.float32)).reshape(-1, 3).tolist() == [[*MAGENTA]] * 4


def test_a_flat_image_keeps_its_axes() -> None:
    np.testing.assert_allclose(drawn(RAMP, "HW")[..., 0], [[0, 128], [255, 64]], atol=1)
    assert drawn(np.zeros((1, 5), np.uint8), "HW").shape == (1, 5, 3)


def test_one_value_throughout_is_grey() -> None:
    assert (drawn(np.full((3, 3, 1), 7.0, np.float32)) == 128).all()


def test_spectra_rise_upwards_in_time() -> None:
    spectrum = np.zeros((5, 3), np.float32)  # frames x mels
    spectrum[4, 2] = 1
    for array, order in ((spectrum, "mels"), (spectrum.T.copy(), "transposed")):
        made = drawn(array, order)
        assert made.shape == (3, 5, 3)
        assert np.argwhere(made[..., 0] == 255).tolist() == [[0, 4]]
    assert drawn(np.stack([spectrum, spectrum * 0]), "mels")[0, 4, 0] == 255


def test_a_signal_is_a_curve() -> None:
    made = drawn(np.linspace(-1, 1, 5000, dtype=np.float32), "samples")
    assert made.shape == (*SIGNAL_SIZE, 3)
    dark = (made != 255).any(axis=2)
    assert dark.any(axis=0).all()
    assert dark[-1, 0]
    assert dark[0, -1]
    assert not dark[0, 0]
    spoilt = np.zeros(300, np.float32)
    spoilt[150] = np.nan
    columns = (drawn(spoilt, "samples") == MAGENTA).all(axis=2).any(axis=0)
    assert 0 < columns.sum() < 4
    assert (drawn(np.full(300, np.nan, np.float32), "samples") == MAGENTA).all()
    assert drawn(np.zeros((300, 2), np.float32), "samples").shape == (*SIGNAL_SIZE, 3)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(31, np.float32),
        np.zeros((0, 3, 3), np.float32),
        np.zeros((5, 6, 7), np.float32),
        np.zeros((1, 2, 3, 4), np.float32),
        np.array([b"text"], np.object_),
    ],
    ids=["few values", "no pixel", "many channels", "four axes", "texts"],
)
def test_what_is_no_picture(array: Array) -> None:
    assert pixels(stage(array)) is None


def test_a_table_is_no_picture() -> None:
    array = np.zeros(64, np.float32)
    assert pixels(stage(array, columns=tuple(map(str, range(64))))) is None
    explained = ExplainedInput(feeds="x", stages=(stage(array[:4]),))
    assert sheet(Explanation(row=0, inputs=(explained,))) is None


IMAGE = InputRecipe(
    feeds="pixels",
    raw=TensorSpec(name="photo", datatype=DataType.UINT8, shape=(4, 4, 3)),
    steps=(Cast(), Normalise(mean=(0.0,), std=(1.0,)), Layout()),
)
ENGINE = Interface(
    inputs=(TensorSpec(name="pixels", datatype=DataType.FP32, shape=(3, 4, 4)),),
    outputs=(),
    batch_max=4,
)


def photos(rows: int) -> Array:
    made = np.zeros((rows, 4, 4, 3), np.uint8)
    made[:, 0, 0], made[:, 3, 3] = [255, 0, 0], [0, 0, 255]
    return made


def test_a_sheet_has_a_tile_a_stage() -> None:
    explanation = explain(Recipe(inputs=(IMAGE,)), ENGINE, {"photo": photos(1)}, 0)
    page = opened(sheet(explanation)).convert("RGB")
    assert page.format is None
    tile, first = SIDE + 2 * GAP, 2 * GAP
    assert page.width == 4 * (tile + GAP) - GAP + 4 * GAP
    colours = np.asarray(page)
    for at in range(4):  # the enlarged corners of each picture, read inside its tile
        strip = colours[:, first + at * (tile + GAP) : first + at * (tile + GAP) + tile]
        for colour in ([255, 0, 0], [0, 0, 255]):
            assert (strip == colour).all(axis=2).sum() == (SIDE // 4) ** 2


def test_encoded_images_have_a_tile_without_a_picture() -> None:
    texts = stage(np.array([b"\xff\xd8" * 50], np.object_))
    explained = ExplainedInput(feeds="x", stages=(texts, stage(photos(1)[0])))
    page = opened(sheet(Explanation(row=3, inputs=(explained,))))
    assert page.width == 2 * (SIDE + 2 * GAP + GAP) - GAP + 4 * GAP


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (700, 5), (640, 480)])
def test_images_of_any_size_fit_their_tile(size: tuple[int, int]) -> None:
    explained = ExplainedInput(
        feeds="x\ny\x1b\u05d0" * 99, stages=(stage(np.zeros((*size, 1), np.uint8)),)
    )
    page = opened(sheet(Explanation(row=0, inputs=(explained,))))
    assert page.width == SIDE + 2 * GAP + 4 * GAP


def test_what_the_engine_sees_of_many_rows() -> None:
    recipe = Recipe(inputs=(IMAGE,))
    one = opened(engine_view(recipe, ENGINE, {"photo": photos(1)}))
    many = opened(engine_view(recipe, ENGINE, {"photo": photos(VIEW_ROWS)}))
    more = opened(engine_view(recipe, ENGINE, {"photo": photos(VIEW_ROWS + 5)}))
    assert many.size == more.size
    assert many.width > one.width
    assert (np.asarray(many.convert("RGB")) == [255, 0, 0]).all(axis=2).any()


def test_no_view_of_what_is_no_image() -> None:
    spec = TensorSpec(name="x", datatype=DataType.FP32, shape=(64,))
    engine = Interface(inputs=(spec,), outputs=(), batch_max=4)
    assert engine_view(Recipe(), engine, {"x": np.zeros((3, 64), np.float32)}) is None
    assert engine_view(Recipe(), engine, {}) is None


def test_a_curve_over_all_of_fp64_is_drawn() -> None:
    wave = np.tile([-1.7e308, 1.7e308, np.nan, np.inf], 20)
    made = pixels(stage(wave))
    assert made is not None
    assert (made[[0, -1]] != 255).any(axis=2).any(axis=1).all()  # from the upper edge to the lower
