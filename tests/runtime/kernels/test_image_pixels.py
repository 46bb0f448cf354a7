"""Colour, crops, borders, quantising and layouts; chains against their steps one by one."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from appliance.errors import RecipeError, RequestError
from appliance.recipe import (
    BeforeStep,
    Cast,
    Colour,
    Crop,
    Layout,
    Normalise,
    Pad,
    Quantise,
    Resize,
)
from appliance.tensors import Array, DataType

THROUGH = Callable[..., Array]
U = 2.0**-24
RNG = np.random.default_rng(6)
PIXELS = RNG.integers(0, 256, (2, 12, 17, 3), dtype=np.uint8)
FLOATS = RNG.uniform(-100, 300, (2, 12, 17, 3)).astype(np.float32)
SIZED = settings(max_examples=40)


class TestColour:
    """Channels."""

    @pytest.mark.parametrize("images", [PIXELS, FLOATS], ids=["UINT8", "FP32"])
    def test_swapped(self, through: THROUGH, images: Array) -> None:
        made = through(images, Colour(to="swapped"))
        np.testing.assert_array_equal(made, images[..., ::-1])
        four = np.concatenate([images, images[..., :1]], axis=3)
        made = through(four, Colour(to="swapped"), Layout())
        np.testing.assert_array_equal(made, four[..., [2, 1, 0, 3]].transpose(0, 3, 1, 2))

    def test_grey_is_pillows_and_opencvs_to_the_bit(self, through: THROUGH) -> None:
        every = np.stack(np.meshgrid(*[np.arange(0, 256, 5)] * 3), -1).astype(np.uint8)
        every = every.reshape(1, 52, -1, 3)
        pillow = np.asarray(Image.fromarray(every[0]).convert("L"))
        np.testing.assert_array_equal(through(every, Colour(to="grey"))[0, :, :, 0], pillow)
        opencv = np.asarray(cv2.cvtColor(every[0], cv2.COLOR_RGB2GRAY))
        made = through(every, Colour(to="grey", like="opencv"))
        np.testing.assert_array_equal(made[0, :, :, 0], opencv)
        four = np.concatenate([every[..., ::-1], every[..., :1]], axis=3)
        made = through(four, Colour(to="grey", like="opencv", order="BGR"))
        np.testing.assert_array_equal(made[0, :, :, 0], opencv)

    @pytest.mark.parametrize("order", ["RGB", "BGR"])
    def test_grey_of_floats(self, through: THROUGH, order: Any) -> None:
        made = through(FLOATS, Colour(to="grey", order=order))[..., 0]
        turned = FLOATS if order == "RGB" else FLOATS[..., ::-1]
        wanted = turned.astype(np.float64) @ [0.299, 0.587, 0.114]
        np.testing.assert_allclose(made, wanted, rtol=0, atol=8 * U * 300)

    def test_grey_repeated(self, through: THROUGH) -> None:
        grey = PIXELS[..., :1]
        made = through(grey, Resize(height=5, width=6), Colour(to="colour"), Layout())
        alone = through(grey, Resize(height=5, width=6))
        np.testing.assert_array_equal(made, np.repeat(alone.transpose(0, 3, 1, 2), 3, axis=1))

    def test_constants_follow_their_channels(self, through: THROUGH) -> None:
        first = Normalise(mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0))
        made = through(FLOATS, first, Colour(to="swapped"), Pad(height=13, width=17, fill=7.0))
        wanted = ((FLOATS - [1, 2, 3]) / [1, 2, 4])[..., ::-1]
        np.testing.assert_allclose(made[:, :12], wanted, rtol=1e-5, atol=1e-5)
        assert (made[:, 12] == 7.0).all()
        steps = (Pad(height=13, width=17), first, Colour(to="swapped"))
        np.testing.assert_allclose(
            through(FLOATS, *steps)[0, 12, 0], [-0.75, -1.0, -1.0], rtol=0, atol=1e-6
        )


class TestBorders:
    """Crop and pad."""

    @given(size=st.tuples(st.integers(1, 30), st.integers(1, 30)))
    @SIZED
    def test_centre_crop_or_pad(self, through: THROUGH, size: tuple[int, int]) -> None:
        step = Crop(height=size[0], width=size[1], small="pad", fill=9.0)
        wanted = PIXELS
        for axis, count in zip((1, 2), size, strict=True):
            wanted = _centred(wanted, axis, count)
        np.testing.assert_array_equal(through(PIXELS, step), wanted)

    @pytest.mark.parametrize("align", ["centre", "start"])
    def test_padded_to_a_multiple(self, through: THROUGH, align: Any) -> None:
        made = through(PIXELS, Pad(multiple=8, align=align, fill=5.0))
        assert made.shape == (2, 16, 24, 3)
        top, left = (2, 3) if align == "centre" else (0, 0)
        np.testing.assert_array_equal(made[:, top : top + 12, left : left + 17], PIXELS)
        assert (np.delete(made, np.s_[left : left + 17], axis=2) == 5).all()

    def test_nothing_of_the_picture_is_left(self, through: THROUGH) -> None:
        step = Crop(height=4, width=5, top=40, left=3, small="pad", fill=3.0)
        assert (through(PIXELS, step) == 3).all()

    def test_what_a_crop_cut_off_does_not_come_back(self, through: THROUGH) -> None:
        steps = (Crop(height=4, width=4), Pad(height=8, width=8, fill=1.0))
        made = through(PIXELS, *steps)
        np.testing.assert_array_equal(made[:, 2:6, 2:6], PIXELS[:, 4:8, 6:10])
        made[:, 2:6, 2:6] = 1
        assert (made == 1).all()

    def test_borders_of_two_values(self, through: THROUGH) -> None:
        steps = (Pad(height=14, width=17, fill=1.0), Pad(height=16, width=17, fill=2.0))
        made = through(PIXELS, *steps)
        assert made[0, :, 0, 0].tolist()[:2] == [2, 1]

    def test_too_small_and_too_large_are_refused(self, through: THROUGH) -> None:
        with pytest.raises(RequestError, match="input 'image' has 12 x 17 pixels where") as caught:
            through(PIXELS, Crop(height=13, width=4))
        assert "at least 13 x 4" in caught.value.remedy
        with pytest.raises(RequestError, match="takes up to 5 x 40"):
            through(PIXELS, Pad(height=5, width=40))


def _centred(images: Array, axis: int, count: int) -> Array:
    length = images.shape[axis]
    if count <= length:
        return images.take(range(first := round((length - count) / 2), first + count), axis)
    before = (count - length) // 2
    widths = [(0, 0)] * 4
    widths[axis] = (before, count - length - before)
    return np.pad(images, widths, constant_values=9)


class TestQuantise:
    """To UINT8 and INT8, as ONNX Runtime does it."""

    @pytest.mark.parametrize(("datatype", "zero"), [("UINT8", 128), ("INT8", -3), ("UINT8", 0)])
    @pytest.mark.parametrize("scale", [0.5, 1.0, 0.0173, 3.9])
    @pytest.mark.parametrize("chw", [True, False])
    def test_as_quantize_linear(
        self, through: THROUGH, datatype: Any, zero: int, scale: float, chw: bool
    ) -> None:
        step = Quantise(datatype=datatype, scale=scale, zero_point=zero)
        made = through(FLOATS, *([Layout()] if chw else []), step)
        low, high = (0, 255) if datatype == "UINT8" else (-128, 127)
        levels = np.rint(FLOATS / np.float32(scale)) + np.float32(zero)
        wanted = np.clip(levels, low, high)
        assert made.dtype == (np.uint8 if datatype == "UINT8" else np.int8)
        np.testing.assert_array_equal(made, wanted.transpose(0, 3, 1, 2) if chw else wanted)

    def test_values_that_are_no_numbers(self, through: THROUGH) -> None:
        values = [np.nan, np.inf, -np.inf, 0.5, 1.5, -0.5, 3e38, -3e38]
        images = np.array(values, np.float32).reshape(1, 2, 4, 1)
        step = Quantise(datatype="INT8", scale=1.0, zero_point=4)
        assert through(images, step).ravel().tolist() == [4, 127, -128, 4, 6, 4, 127, -128]

    def test_the_border_is_quantised_too(self, through: THROUGH) -> None:
        steps = (Cast(), Pad(multiple=32, fill=3.0), Quantise(datatype="INT8", scale=2.0))
        assert through(PIXELS, *steps)[0, 0, 0].tolist() == [2, 2, 2]

    def test_what_follows_works_on_the_levels(self, through: THROUGH) -> None:
        levels = Quantise(datatype="UINT8", scale=2.0)
        made = through(PIXELS, Cast(), levels, Cast(), Normalise(mean=(0.0,), std=(0.5,)))
        np.testing.assert_array_equal(made, np.rint(PIXELS / np.float32(2)) * 2)
        signed = Quantise(datatype="INT8", scale=2.0, zero_point=-128)
        made = through(PIXELS, Cast(), signed, Cast())
        np.testing.assert_array_equal(made, np.rint(PIXELS / np.float32(2)) - 128)

    def test_levels_behind_a_layout_become_numbers_again(self, through: THROUGH) -> None:
        levels = Quantise(datatype="INT8", scale=2.0, zero_point=-128)
        made = through(PIXELS, Cast(), Layout(), levels, Cast())
        wanted = np.rint(PIXELS / np.float32(2)) - 128
        np.testing.assert_array_equal(made, wanted.transpose(0, 3, 1, 2))
        with pytest.raises(RecipeError, match="behind the layout"):
            through(PIXELS, Cast(), Layout(), levels, Cast(), levels)


def test_one_channel_without_its_axis(through: THROUGH) -> None:
    steps: tuple[BeforeStep, ...] = (Colour(to="grey"), Layout(order="HW"))
    assert through(PIXELS, *steps).shape == (2, 12, 17)
    grey = through(PIXELS, Colour(to="grey"), Resize(height=5, width=6))
    flat = through(PIXELS, Colour(to="grey"), Resize(height=5, width=6), Layout(order="HW"))
    np.testing.assert_array_equal(flat, grey[..., 0])
    scaled = through(PIXELS, *steps, Cast(), Quantise(datatype="INT8", scale=2.0))
    assert scaled.dtype == np.int8


def test_no_image_that_fits_is_found_when_it_warms(image_chain: Callable[..., Any]) -> None:
    steps = (Pad(height=5, width=5), Resize(height=9, width=9), Crop(height=6, width=6))
    image_chain(DataType.UINT8, 3, *steps)[0].warm()
    chain, _ = image_chain(DataType.UINT8, 3, Pad(multiple=5), Pad(height=4, width=9))
    with pytest.raises(RecipeError, match="no image of"):
        chain.warm()


@st.composite
def chains(draw: st.DrawFn) -> list[BeforeStep]:
    """Steps in any order that a recipe accepts, on 3 channels."""
    side, fill = st.integers(1, 20), st.integers(0, 255).map(float)
    fits = st.sampled_from(["stretch", "letterbox", "cover"])
    methods = st.sampled_from([("bilinear", "opencv"), ("bicubic", "pillow"), ("area", "opencv")])
    pictures = st.one_of(
        st.tuples(side, side, fits, methods, fill).map(
            lambda m: Resize(
                height=m[0], width=m[1], fit=m[2], method=m[3][0], like=m[3][1], fill=m[4]
            )
        ),
        st.tuples(side, side, fill).map(
            lambda m: Crop(height=m[0], width=m[1], small="pad", fill=m[2])
        ),
        st.builds(Pad, multiple=st.integers(1, 9), fill=fill),
        st.just(Colour(to="swapped")),
    )
    scales = st.sampled_from(
        [Normalise(mean=(1.0,), std=(2.0,)), Normalise(mean=(5.0, 0.0, -9.0), std=(1.0, 0.5, 3.0))]
    )
    before = draw(st.lists(pictures, max_size=3))
    behind = draw(st.lists(pictures | scales, max_size=3))
    tail = draw(st.sampled_from([[], [Layout()]]))
    return [*before, *draw(st.sampled_from([[], [Cast(), *behind]])), *tail]


@given(steps=chains(), as_bytes=st.booleans())
@settings(max_examples=80)
def test_a_chain_is_its_steps_one_by_one(
    through: THROUGH, steps: list[BeforeStep], as_bytes: bool
) -> None:
    """Normalising before a resize folds behind it, within the bound of each; bytes are equal."""
    images = PIXELS if as_bytes else FLOATS
    alone = images
    for step in steps:
        alone = through(alone, step)
    made = through(images, *steps) if steps else images
    assert made.dtype == alone.dtype
    if made.dtype == np.uint8:
        np.testing.assert_array_equal(made, alone)
    else:
        np.testing.assert_allclose(made, alone, rtol=0, atol=600 * U * 4**3 * 300)
