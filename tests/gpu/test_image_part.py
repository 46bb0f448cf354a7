"""Images on a GPU: the same numbers as on the CPU, to the bit.

The stated bound is none: where the kernels compute with + - * / in the CPU's order, with nothing fused, both round alike. Only the
sign of a zero may differ, which `assert_array_equal` overlooks. `test_image_simulator` runs `test_one_block` in numba's
simulator.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import RecipeError, RequestError
from appliance.fitting import trace
from appliance.recipe import (
    BeforeStep,
    Cast,
    Colour,
    Crop,
    Decode,
    InputRecipe,
    Layout,
    Normalise,
    Pad,
    Quantise,
    Resize,
)
from appliance.tensors import Array, DataType, TensorSpec
from runtime.gpu.program import Place
from runtime.kernels import image_pass, image_resize
from runtime.kernels.cuda.images import ImagePart, unfit
from tests.gpu.image_cases import (
    CASES,
    IMAGENET,
    METHODS,
    SMALL,
    Small,
    on_device,
    on_processor,
    part_for,
    pictures,
    spec_of,
)
from tests.runtime.kernels.conftest import checked


def assert_same(raw: Array, *steps: BeforeStep) -> None:
    """Both sides make the same of `raw`, and say the same of where it lies."""
    part = part_for(raw, steps)
    wanted, placed = on_processor(raw, steps)
    np.testing.assert_array_equal(on_device(part, raw), wanted)
    np.testing.assert_array_equal(np.array([part.placed({"image": raw.shape})] * len(raw)), placed)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("method", "like"), METHODS)
def test_every_method(method: Any, like: Any, dtype: Any) -> None:
    raw = pictures(dtype, 2, 13, 37, 3)
    resize = {"method": method, "like": like, "fill": 7.0}
    last = (Cast(), IMAGENET, Layout())
    assert_same(raw, Resize(height=9, width=11, **resize), *last)
    assert_same(raw, Resize(height=9, width=40, fit="letterbox", **resize), *last)
    assert_same(raw, Resize(height=17, width=12, fit="cover", **resize), *last)


@pytest.mark.parametrize("small", SMALL)
def test_one_block(small: Small) -> None:
    raw = small.raw()
    made = on_device(part_for(raw, small.steps, small.gives), raw)
    np.testing.assert_array_equal(made, small.wanted())


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_without_a_resize(dtype: Any) -> None:
    raw = pictures(dtype, 2, 13, 37, 3)
    pads = Pad(height=21, width=40, fill=9.0)
    assert_same(raw, Crop(height=9, width=33), pads, Cast(), IMAGENET, Layout())
    assert_same(raw, Colour(to="swapped"), Cast(), IMAGENET)
    assert_same(raw, Cast(), Quantise(datatype="INT8", scale=0.7, zero_point=3))
    assert_same(raw, Cast(), Quantise(datatype="UINT8", scale=0.3, zero_point=128), Layout())


@pytest.mark.parametrize("like", ["pillow", "opencv"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_grey(dtype: Any, channels: int, order: Any, like: Any) -> None:
    grey = Colour(to="grey", order=order, like=like)
    raw = pictures(dtype, 2, 5, 7, channels)
    assert_same(raw, grey, Layout(order="HW"))
    assert_same(raw, grey, Resize(height=4, width=4, like="pillow"), Colour(to="colour"), Cast())


@pytest.mark.parametrize(
    "dtype",
    [np.bool_, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64, np.float16],
)
def test_every_datatype_that_is_sent(dtype: Any) -> None:
    raw = pictures(dtype, 2, 5, 6, 3)
    assert_same(raw, Cast(), Resize(height=4, width=9, fit="letterbox"), Layout())
    assert_same(raw, Cast(), Colour(to="grey"))
    assert_same(raw, Cast(), Crop(height=3, width=3))


@pytest.mark.parametrize("dtype", [np.bool_, np.int16, np.float16, np.int32, np.float64])
def test_axes_are_reordered_whatever_the_datatype(dtype: Any) -> None:
    raw = pictures(dtype, 2, 5, 37, 3)
    part = part_for(raw, [Layout()])
    np.testing.assert_array_equal(on_device(part, raw), np.moveaxis(raw, 3, 1))
    flat = raw[..., :1].copy()
    part = part_for(flat, [Layout(order="HW")])
    np.testing.assert_array_equal(on_device(part, flat), flat[..., 0])
    assert part.placed({"image": flat.shape}) == (1.0, 0.0, 1.0, 0.0, 37, 5)


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 9])
@pytest.mark.parametrize(("method", "like"), METHODS)
@pytest.mark.usefixtures("plain_processor")
def test_any_number_of_channels(method: Any, like: Any, channels: int) -> None:
    raw = pictures(np.uint8, 1, 6, 7, channels)
    assert_same(raw, Resize(height=4, width=5, method=method, like=like), Cast(), Layout())


def test_half_precision_for_an_engine_that_takes_it() -> None:
    raw = pictures(np.uint8, 2, 13, 17, 3)
    steps = (Resize(height=8, width=8), Cast(), IMAGENET, Layout())
    part = part_for(raw, steps, gives="float16")
    assert part.made({"image": raw.shape})["x"] == ((2, 3, 8, 8), "float16")
    wanted = on_processor(raw, steps)[0].astype(np.float16)
    np.testing.assert_array_equal(on_device(part, raw), wanted)


def test_a_decoded_picture_goes_on_as_if_it_were_sent() -> None:
    spec = TensorSpec(name="file", datatype=DataType.BYTES, shape=(1,))
    steps = (Resize(height=8, width=8), Cast(), Layout())
    part = ImagePart(reads="image", makes="x", raw=spec, steps=(Decode(order="BGR"), *steps))
    raw = pictures(np.uint8, 1, 13, 17, 3)
    wanted = on_processor(raw, [Colour(to="swapped"), *steps])[0]
    np.testing.assert_array_equal(on_device(part, raw), wanted)


@pytest.mark.parametrize(("method", "like"), METHODS)
def test_a_nan_spoils_the_same_pixels(method: Any, like: Any) -> None:
    raw = np.ones((1, 12, 11, 3), np.float32)
    raw[0, 4, 5, 1] = np.nan
    assert_same(raw, Resize(height=7, width=6, method=method, like=like), IMAGENET, Layout())
    assert_same(raw, Quantise(datatype="UINT8", scale=0.5, zero_point=7))


def test_what_is_too_large_is_saturated() -> None:
    raw = np.array([1e30, -1e30, np.inf, -np.inf, np.nan, 63.25, -64.25, 0.25], np.float32)
    assert_same(raw.reshape(1, 2, 4, 1), Quantise(datatype="INT8", scale=0.5, zero_point=-3))
    assert_same(raw.reshape(1, 2, 4, 1), Quantise(datatype="UINT8", scale=1e-30, zero_point=255))


def test_rows_do_not_meet() -> None:
    raw = pictures(np.uint8, 3, 13, 17, 3)
    steps = (Resize(height=9, width=9, like="pillow"), Cast(), IMAGENET, Layout())
    part = part_for(raw, steps)
    alone = [on_device(part, raw[row : row + 1]) for row in range(3)]
    np.testing.assert_array_equal(on_device(part, raw), np.concatenate(alone))


def test_bytes_that_must_move() -> None:
    raw = {"image": (2, 8, 10, 3)}
    placed = part_for(pictures(np.uint8, 2, 8, 10, 3), [Cast(), IMAGENET, Layout()])
    assert placed.moved(raw) == 2 * 8 * 10 * (3 + 12)
    step = Resize(height=4, width=5)
    blended = part_for(pictures(np.uint8, 2, 8, 10, 3), [step, Cast(), Layout()])
    assert blended.moved(raw) == 2 * (8 * 10 * 3 + 4 * 5 * 12)
    step = Resize(height=4, width=5, like="pillow")
    convolved = part_for(pictures(np.uint8, 2, 8, 10, 3), [step, Cast(), Layout()])
    assert convolved.moved(raw) == 2 * (8 * 10 * 3 + 4 * 5 * 12 + 2 * 8 * 5 * 3)


@pytest.mark.parametrize("name", CASES)
def test_common_cases_fit(name: str) -> None:
    image, steps = CASES[name]
    part = part_for(np.zeros((1, 1, 1, 3), np.uint8), steps)
    shapes = {"image": (4, *image)}
    places = {name: Place(space="arena", offset=0) for name in ("image", "x")}
    at = places["x"]
    for launch in part.launches(shapes, places, at, at):
        assert launch.grid[2] == 4
        assert launch.block == (32, 8, 1)
    assert part.moved(shapes) > 0


def test_recipes_share_kernels() -> None:
    raw = pictures(np.uint8, 1, 4, 4, 3)
    first = part_for(raw, [Resize(height=8, width=8), Cast(), IMAGENET, Layout()])
    second = part_for(raw, [Resize(height=9, width=7), Cast(), Layout()])
    assert [each.name for each in first.kernels()] == [each.name for each in second.kernels()]


def test_what_stays_on_the_cpu() -> None:
    pixels = TensorSpec(name="image", datatype=DataType.FP64, shape=(-1, -1, 3))
    assert "FP64" in unfit(pixels, [Cast(), Layout()], 1)
    assert not unfit(pixels, [Layout()], 1)
    assert not unfit(spec_of(pictures(np.uint8, 1, 2, 2, 3)), [Cast()], 65535)
    # Pictures lie along a grid's third axis, whose length is a 16-bit number.
    assert "65536 pictures" in unfit(spec_of(pictures(np.uint8, 1, 2, 2, 3)), [Cast()], 65536)


def test_without_a_picture_nothing_is_launched() -> None:
    part, at = part_for(pictures(np.uint8, 1, 2, 2, 3), [Cast()]), Place(space="arena", offset=0)
    places = dict.fromkeys((*part.reads, *part.makes), at)
    assert part.launches({"image": (0, 2, 2, 3)}, places, at, at) == []


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((1, 0, 4, 3), "without pixels"),
        ((1, 4, 4, 3), "4 x 4 pixels"),
        ((1, 40000, 40000, 3), "4800000000 values"),
        ((1, 600000, 5, 3), "600000 lines"),
    ],
)
def test_pictures_that_are_refused(shape: tuple[int, ...], text: str) -> None:
    part = part_for(pictures(np.uint8, 1, 6, 6, 3), [Crop(height=5, width=5), Cast()])
    with pytest.raises(RequestError, match=text):
        part.made({"image": shape})


sides = st.integers(1, 9)
fills = st.sampled_from([0.0, 114.0, 255.0])
any_step = st.one_of(
    st.just(Cast()),
    st.builds(Colour, to=st.sampled_from(["swapped", "grey", "colour"])),
    st.builds(
        Crop,
        height=sides,
        width=sides,
        top=st.sampled_from([None, None, 0, 2]),
        left=st.sampled_from([None, None, 0, 1]),
        small=st.sampled_from(["refuse", "pad"]),
        fill=fills,
    ),
    st.builds(
        Pad, height=sides, width=sides, align=st.sampled_from(["centre", "start"]), fill=fills
    ),
    st.builds(Pad, multiple=sides, fill=fills),
    st.builds(
        Resize,
        height=sides,
        width=sides,
        method=st.sampled_from(["nearest", "bilinear", "bicubic", "area", "lanczos"]),
        like=st.sampled_from(["opencv", "pillow"]),
        fit=st.sampled_from(["stretch", "letterbox", "cover"]),
        fill=fills,
    ),
    st.builds(
        Normalise,
        mean=st.just((0.5,)),
        std=st.sampled_from([(2.0,), (-0.1,)]),
        scale=st.sampled_from([1.0, 1 / 255, 0.0]),
    ),
    st.builds(
        Quantise,
        datatype=st.sampled_from(["UINT8", "INT8"]),
        scale=st.sampled_from([0.5, 3.0]),
        zero_point=st.sampled_from([0, 100]),
    ),
    st.builds(Layout, order=st.sampled_from(["CHW", "HW"])),
)


@st.composite
def plans(draw: st.DrawFn) -> tuple[Array, tuple[BeforeStep, ...]]:
    """Pictures and up to six steps that fit them."""
    shape = (draw(st.integers(1, 2)), draw(sides), draw(sides), draw(st.sampled_from([1, 3, 4])))
    raw = pictures(draw(st.sampled_from([np.uint8, np.float32, np.int16])), *shape)
    steps: tuple[BeforeStep, ...] = draw(st.sampled_from([(), (Cast(),)]))
    for step in draw(st.lists(any_step, min_size=4, max_size=10)):
        try:
            trace(InputRecipe(feeds="x", raw=spec_of(raw), steps=(*steps, step)))
        except RecipeError:
            continue
        steps = (*steps, step)
    return raw, steps[:6]


@pytest.fixture(scope="module")
def plain_processor() -> Iterator[None]:
    """The CPU's kernels as plain Python, which no compiler is waited for."""
    with pytest.MonkeyPatch.context() as patch:
        for room in (image_pass, image_resize):
            patch.setattr(room, "compiled", checked)
        yield


@given(plan=plans())
@settings(max_examples=300, suppress_health_check=[*HealthCheck], print_blob=False)
@pytest.mark.usefixtures("plain_processor")
def test_any_plan(plan: tuple[Array, tuple[BeforeStep, ...]]) -> None:
    raw, steps = plan
    if all(isinstance(step, Cast) for step in steps):
        return  # nothing of an image is done
    if isinstance(steps[0], Layout) and len(steps) == 1 and raw.dtype == np.int16:
        return  # see test_axes_are_reordered_whatever_the_datatype
    try:
        wanted, placed = on_processor(raw, steps)
    except RequestError as refusal:
        with pytest.raises(RequestError, match=f"^{re.escape(str(refusal))}$"):
            part_for(raw, steps).made({"image": raw.shape})
        return
    except RecipeError:
        with pytest.raises(RecipeError):
            part_for(raw, steps)
        return
    part = part_for(raw, steps)
    np.testing.assert_array_equal(on_device(part, raw), wanted)
    assert part.placed({"image": raw.shape}) == tuple(placed[0])
