"""Image kernels against a plain numpy computation in FP64, step by step.

The stated bound: with u = 2**-24, each pass errs by at most 20 u times the magnitude that the steps
could reach on the values at hand, plus underflow.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from appliance.errors import RecipeError, RequestError
from appliance.fitting import trace
from appliance.recipe import BeforeStep, Cast, InputRecipe, Layout, Normalise, Recipe, Resize
from appliance.tensors import Array, DataType, Interface, TensorSpec, datatype_of
from runtime.kernels.chain import Chain

U = 2.0**-24
UNDERFLOW = 2.0**-120  # some of FP32's smallest normal numbers
SIDES = st.integers(min_value=1, max_value=20)
SIZED = settings(max_examples=80)


def chain_for(raw: Array, *steps: BeforeStep) -> tuple[Chain, tuple[int, ...]]:
    """The chain of one image input, and the prepared shape; `raw` has rows in front."""
    datatype = datatype_of(raw.dtype)
    assert datatype is not None
    spec = TensorSpec(name="image", datatype=datatype, shape=(-1, -1, raw.shape[3]))
    item = InputRecipe(feeds="x", raw=spec, steps=(Cast(), *steps))
    taken = TensorSpec(name="x", datatype=DataType.FP32, shape=trace(item)[-1].spec.shape)
    engine = Interface(inputs=(taken,), outputs=(), batch_max=8)
    recipe = Recipe(inputs=(item,))
    chain = Chain(recipe, engine=engine)
    return chain, chain.prepared_shape({"image": raw})["x"]


def prepared(raw: Array, *steps: BeforeStep) -> Array:
    """What the kernels make of images `raw` (rows, height, width, channels)."""
    chain, shape = chain_for(raw, *steps)
    into = np.full(shape, np.nan, np.float32)
    chain.before({"image": raw}, {"x": into})
    return into


def expected(raw: Array, *steps: BeforeStep) -> tuple[Array, float]:
    """The same in FP64, step by step, and the bound of the error."""
    images = raw.astype(np.float64)
    magnitude, passes = float(np.abs(images).max()), 1
    for step in steps:
        match step:
            case Resize():
                images = np.stack([resized(image, step) for image in images])
                magnitude = max(magnitude, abs(step.fill))
                passes += 1
            case Normalise():
                images = (images * step.scale - np.array(step.mean)) / np.array(step.std)
                reach = magnitude * abs(step.scale) + np.abs(step.mean).max()
                magnitude = reach / np.abs(step.std).min()
            case Layout():
                images = images.transpose(0, 3, 1, 2)
    return images, passes * 20 * U * magnitude + UNDERFLOW


def resized(image: Array, step: Resize) -> Array:
    """Bilinear by interpolation matrices; letterboxed by the shorter ratio, rounded half up."""
    height, width = image.shape[:2]
    if step.fit == "stretch":
        return stretched(image, step.height, step.width)
    tall, wide = step.height, step.width
    if step.height / height <= step.width / width:
        wide = max(1, (2 * width * step.height // height + 1) // 2)
    else:
        tall = max(1, (2 * height * step.width // width + 1) // 2)
    made = np.full((step.height, step.width, image.shape[2]), step.fill)
    top, left = (step.height - tall) // 2, (step.width - wide) // 2
    made[top : top + tall, left : left + wide] = stretched(image, tall, wide)
    return made


def stretched(image: Array, height: int, width: int) -> Array:
    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    made: Array = np.einsum("yh,hwc,xw->yxc", rows, image, columns)
    return made


def weights(length: int, count: int) -> Array:
    """(count, length): how much of each sample goes into each new one; np.interp clamps at the ends."""
    at = (np.arange(count) + 0.5) * length / count - 0.5
    return np.stack([np.interp(at, np.arange(length), unit) for unit in np.eye(length)], axis=1)


@st.composite
def images(draw: st.DrawFn) -> Array:
    shape = (draw(st.integers(1, 3)), draw(SIDES), draw(SIDES), draw(st.sampled_from([1, 3])))
    match draw(st.sampled_from([np.uint8, np.float32, np.int16])):
        case np.float32:
            elements = st.floats(-1e3, 1e3, width=32)
            return draw(arrays.arrays(np.float32, shape, elements=elements))
        case dtype:
            return draw(arrays.arrays(dtype, shape))


@st.composite
def resizes(draw: st.DrawFn) -> Resize:
    return Resize(
        height=draw(SIDES),
        width=draw(SIDES),
        fit=draw(st.sampled_from(["stretch", "letterbox"])),
        fill=draw(st.floats(-100, 200)),
    )


@st.composite
def normalises(draw: st.DrawFn, channels: int) -> Normalise:
    count = draw(st.sampled_from([1, channels]))
    values = st.floats(-5, 5)
    spreads = st.floats(0.1, 4) | st.floats(-4, -0.1)
    return Normalise(
        mean=tuple(draw(st.lists(values, min_size=count, max_size=count))),
        std=tuple(draw(st.lists(spreads, min_size=count, max_size=count))),
        scale=draw(st.sampled_from([1.0, 1 / 255, 1 / 16, -2.0, 0.0])),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Array, list[BeforeStep]]:
    """Images and any steps a recipe accepts, in any order; the layout is last."""
    raw = draw(images())
    steps: list[BeforeStep] = draw(
        st.lists(st.just(Cast()) | resizes() | normalises(raw.shape[3]), max_size=4)
    )
    return raw, [*steps, *draw(st.sampled_from([[], [Layout()]]))]


@given(case=cases())
@SIZED
def test_any_order_of_steps(case: tuple[Array, list[BeforeStep]]) -> None:
    raw, steps = case
    wanted, bound = expected(raw, *steps)
    np.testing.assert_allclose(prepared(raw, *steps), wanted, rtol=0, atol=bound)


@given(raw=images(), step=resizes())
@SIZED
def test_resize(raw: Array, step: Resize) -> None:
    wanted, bound = expected(raw, step)
    np.testing.assert_allclose(prepared(raw, step), wanted, rtol=0, atol=bound)


@given(raw=images(), step=st.data())
@SIZED
def test_normalise(raw: Array, step: st.DataObject) -> None:
    normalise = step.draw(normalises(raw.shape[3]))
    wanted, bound = expected(raw, normalise)
    np.testing.assert_allclose(prepared(raw, normalise), wanted, rtol=0, atol=bound)


@given(raw=images())
@SIZED
def test_layout_moves_values_unchanged(raw: Array) -> None:
    np.testing.assert_array_equal(prepared(raw, Layout()), raw.transpose(0, 3, 1, 2))


@given(raw=images())
@SIZED
def test_resize_to_its_own_size_changes_nothing(raw: Array) -> None:
    step = Resize(height=raw.shape[1], width=raw.shape[2])
    np.testing.assert_array_equal(prepared(raw, step), raw)


@given(value=st.integers(0, 255), step=resizes())
@SIZED
def test_a_plain_image_stays_plain(value: int, step: Resize) -> None:
    made = prepared(np.full((1, 5, 7, 3), value, np.uint8), step)
    assert set(np.unique(made)) <= {np.float32(value), np.float32(step.fill)}


def test_two_pixels_become_four_with_half_pixel_centres() -> None:
    raw = np.array([0, 100], np.uint8).reshape(1, 1, 2, 1)
    made = prepared(raw, Resize(height=1, width=4))
    np.testing.assert_array_equal(made.ravel(), [0, 25, 75, 100])


def test_shrinking_takes_two_samples_and_does_not_average() -> None:
    raw = np.arange(0, 80, 10, dtype=np.uint8).reshape(1, 1, 8, 1)
    made = prepared(raw, Resize(height=1, width=2))
    np.testing.assert_array_equal(made.ravel(), [15, 55])


@pytest.mark.parametrize(("old", "new"), [((5, 7), (13, 20)), ((8, 8), (28, 28)), ((1, 9), (4, 9))])
def test_enlarging_agrees_with_pillow(old: tuple[int, int], new: tuple[int, int]) -> None:
    """Pillow averages when it shrinks; when it enlarges it is bilinear with half-pixel centres too."""
    raw = np.random.default_rng(1).uniform(0, 255, (1, *old, 1)).astype(np.float32)
    made = prepared(raw, Resize(height=new[0], width=new[1]))
    theirs = Image.fromarray(raw[0, :, :, 0]).resize(new[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_allclose(made[0, :, :, 0], np.asarray(theirs), atol=1e-4)


def test_letterbox_puts_odd_pixels_right_and_below() -> None:
    wide = prepared(np.full((1, 2, 4, 1), 9, np.uint8), letterbox(7, 8))
    np.testing.assert_array_equal(wide[0, :, 0, 0], [1, 9, 9, 9, 9, 1, 1])
    tall = prepared(np.full((1, 4, 2, 1), 9, np.uint8), letterbox(8, 7))
    np.testing.assert_array_equal(tall[0, 0, :, 0], [1, 9, 9, 9, 9, 1, 1])


def letterbox(height: int, width: int) -> Resize:
    return Resize(height=height, width=width, fit="letterbox", fill=1.0)


def test_a_thread_of_an_image_keeps_one_pixel() -> None:
    made = prepared(np.full((1, 1, 400, 1), 9, np.uint8), letterbox(5, 5))
    np.testing.assert_array_equal(made[0, :, 0, 0], [1, 1, 9, 1, 1])


def test_the_border_is_filled_before_a_normalise_that_follows() -> None:
    raw = np.full((1, 2, 4, 2), 9, np.uint8)
    after = Normalise(mean=(1.0, 3.0), std=(2.0, 4.0))
    made = prepared(raw, letterbox(8, 8), after, Layout())
    np.testing.assert_array_equal(made[0, :, 0, 0], [0.0, -0.5])
    before = prepared(raw, after, letterbox(8, 8), Layout())
    np.testing.assert_array_equal(before[0, :, 0, 0], [1.0, 1.0])


@pytest.mark.parametrize(
    "dtype", [np.bool_, np.int8, np.uint16, np.int32, np.uint64, np.float16, np.float64]
)
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_every_numeric_datatype(dtype: type[np.generic], fit: str) -> None:
    raw = np.arange(2 * 5 * 6 * 3).reshape(2, 5, 6, 3).astype(dtype)
    step = Resize(height=4, width=9, fit="letterbox" if fit == "letterbox" else "stretch")
    wanted, bound = expected(raw, step, Layout())
    np.testing.assert_allclose(prepared(raw, step, Layout()), wanted, rtol=0, atol=bound)


@pytest.mark.parametrize("steps", [(), (Resize(height=6, width=5),)], ids=["kept", "resized"])
def test_a_nan_pixel_spoils_no_other(steps: tuple[BeforeStep, ...]) -> None:
    raw = np.ones((1, 6, 5, 2), np.float32)
    raw[0, 2, 3, 1] = np.nan
    made = prepared(raw, *steps, Normalise(mean=(0.0,), std=(1.0,)), Layout())
    assert np.argwhere(np.isnan(made)).tolist() == [[0, 1, 2, 3]]


def test_read_only_unaligned_and_strided_images() -> None:
    steps = (Resize(height=3, width=4), Layout())
    plain = np.arange(2 * 4 * 5 * 3, dtype=np.float32).reshape(2, 4, 5, 3)
    wanted = prepared(plain, *steps)
    unaligned = np.frombuffer(b"\0" + plain.tobytes(), np.float32, offset=1).reshape(plain.shape)
    strided = np.repeat(plain, 2, axis=2)[:, :, ::2]
    for raw in (unaligned, strided):
        np.testing.assert_array_equal(prepared(raw, *steps), wanted)
    pixels = np.frombuffer(plain.astype(np.uint8).tobytes(), np.uint8).reshape(plain.shape)
    assert not pixels.flags.writeable
    np.testing.assert_array_equal(prepared(pixels, *steps), wanted)


def test_threads_do_not_share_scratch() -> None:
    raws = [np.full((3, 9, 9, 1), value, np.int32) for value in range(8)]
    steps = (Resize(height=30, width=30), Resize(height=5, width=5))
    chain, shape = chain_for(raws[0], *steps)

    def values(raw: Array) -> set[float]:
        seen: set[float] = set()
        for _ in range(20):
            into = np.empty(shape, np.float32)
            chain.before({"image": raw}, {"x": into})
            seen |= set(into.ravel().tolist())
        return seen

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(values, raws)) == [{float(value)} for value in range(8)]


@pytest.mark.parametrize("shape", [(1, 0, 4, 3), (1, 4, 0, 3)])
def test_an_image_without_pixels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match="'image' is an image without pixels"):
        chain_for(np.zeros(shape, np.uint8), Resize(height=3, width=3))


def test_steps_that_together_leave_fp32_are_refused() -> None:
    step = Normalise(mean=(0.0,), std=(1e-30,))
    with pytest.raises(RecipeError, match="do not fit FP32"):
        chain_for(np.zeros((1, 2, 2, 1), np.uint8), step, step)
