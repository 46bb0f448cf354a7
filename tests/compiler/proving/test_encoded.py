"""Encoded pictures disturbed and encoded again."""

import io

import numpy as np
import pytest
from PIL import Image

from appliance.manifest import Disturbance, DisturbanceKind
from appliance.recipe import Accepts, Cast, Decode, InputRecipe, Layout, Recipe, Resize
from appliance.tensors import DataType, Interface, TensorSpec
from compiler.proving.disturbances import Form, forms
from compiler.proving.encoded import (
    changed_pictures,
    decode_steps,
    png,
    spread_of_pictures,
    values_a_row,
)
from runtime.kernels.decoding import decoded


def pixels(channels: int, height: int = 5, width: int = 7, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def files(*pictures: np.ndarray) -> np.ndarray:
    rows = np.empty((len(pictures), 1), np.object_)
    rows[:, 0] = [png(picture) for picture in pictures]
    return rows


def jpeg(picture: np.ndarray, orientation: int) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_what_is_encoded_is_what_is_decoded(channels, order):
    wanted = pixels(channels)
    step = Decode(channels=channels, order=order)
    np.testing.assert_array_equal(decoded(png(wanted), step)[..., :channels], wanted)
    read = np.asarray(Image.open(io.BytesIO(png(wanted)))).reshape(wanted.shape)
    np.testing.assert_array_equal(read, wanted)


@pytest.mark.parametrize("orientation", ["ignore", "apply"])
def test_a_disturbance_too_small_to_see_leaves_what_the_recipe_decodes(orientation):
    """Also of a turned JPEG in another order of colours."""
    step = Decode(order="BGR", orientation=orientation)
    rows = np.empty((1, 1), np.object_)
    rows[0, 0] = jpeg(pixels(3, 8, 16), orientation=6)
    found = spread_of_pictures(rows, step)
    tiny = Disturbance(kind=DisturbanceKind.NOISE, level=1e-6)
    made = changed_pictures(rows, step, tiny, found, np.random.default_rng(1), first=0)
    np.testing.assert_array_equal(decoded(made[0, 0], step), decoded(rows[0, 0], step))


def test_pictures_of_several_sizes_are_disturbed_one_by_one():
    step = Decode()
    pictures = [pixels(3), pixels(3, 2, 3, seed=1), np.full((4, 4, 3), 100, np.uint8)]
    rows = files(*pictures)
    found = spread_of_pictures(rows, step)
    every = np.concatenate([picture.ravel() for picture in pictures]).astype(np.float64)
    assert found.std == pytest.approx(every.std())
    assert values_a_row(rows, step) == 5 * 7 * 3
    darker = Disturbance(kind=DisturbanceKind.BRIGHTNESS, level=0.2)
    made = changed_pictures(rows, step, darker, found, np.random.default_rng(1), first=1)
    shapes = [decoded(row[0], step)[..., :3].shape for row in made]
    assert shapes == [picture.shape for picture in pictures]
    assert (decoded(made[2, 0], step)[..., :3] == 49).all()
    lighter = changed_pictures(rows, step, darker, found, None, first=0)[2, 0]
    assert (decoded(lighter, step)[..., :3] == 151).all()


def test_encoded_inputs_are_told_from_others():
    steps = (Decode(), Resize(height=8, width=8), Cast(datatype="FP32"), Layout())
    raw = TensorSpec(name="file", datatype=DataType.BYTES, shape=(1,))
    engine = Interface(
        inputs=(TensorSpec(name="x", datatype=DataType.FP32, shape=(3, 8, 8)),),
        outputs=(),
        batch_max=4,
    )
    recipe = Recipe(inputs=(InputRecipe(feeds="x", raw=raw, steps=steps),))
    assert decode_steps(recipe, engine) == {"file": Decode()}
    assert forms(recipe, engine) == {"file": Form.ENCODED}
    prepared = InputRecipe(feeds="x", raw=raw, steps=steps, accepts=Accepts.PREPARED)
    assert decode_steps(Recipe(inputs=(prepared,)), engine) == {}
    assert forms(Recipe(inputs=(prepared,)), engine) == {"x": Form.NUMBERS}
