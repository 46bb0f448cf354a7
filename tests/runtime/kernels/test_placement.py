"""Where pictures lie."""

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from appliance.errors import RequestError
from appliance.recipe import Cast, Crop, Pad, Resize
from appliance.tensors import Array
from runtime.kernels.placement import SIDE_MAX, fitted, whole

SIDES = st.integers(min_value=1, max_value=65536)
SMALL = st.integers(1, 30)


def letterbox(height: int, width: int) -> Resize:
    return Resize(height=height, width=width, fit="letterbox")


def cover(height: int, width: int) -> Resize:
    return Resize(height=height, width=width, fit="cover")


def test_known_boxes() -> None:
    def box(step: Resize, height: int, width: int) -> tuple[int, ...]:
        return whole(height, width).through(step).box

    assert box(letterbox(640, 640), 480, 640) == (80, 0, 480, 640)
    assert box(letterbox(640, 640), 1080, 1920) == (140, 0, 360, 640)
    assert box(letterbox(640, 640), 1920, 1080) == (0, 140, 640, 360)
    assert box(letterbox(10, 10), 4, 5) == (1, 0, 8, 10)
    assert box(letterbox(5, 6), 2, 4) == (1, 0, 3, 6)
    assert box(letterbox(5, 8), 1, 3) == (1, 0, 3, 8)
    assert box(Resize(height=5, width=8), 1, 3) == (0, 0, 5, 8)
    assert box(cover(5, 8), 1, 3) == (0, 0, 5, 8)


def test_a_picture_too_narrow_to_cover_is_refused() -> None:
    """Or one of a few KB would be worked on as if it had billions of pixels."""
    with pytest.raises(RequestError, match="33000000 x 1 pixels: too narrow to cover 224 x 224"):
        whole(33_000_000, 1).through(cover(224, 224))


def test_known_covers() -> None:
    assert fitted(cover(256, 256), 480, 640) == (256, 341)
    assert fitted(cover(256, 256), 640, 480) == (341, 256)
    placed = whole(480, 640).through(cover(256, 256))
    assert (placed.first, placed.canvas) == ((0, 42), (256, 256))


@given(height=SIDES, width=SIDES, old_height=SIDES, old_width=SIDES)
def test_a_letterboxed_picture_fits_and_is_centred(
    height: int, width: int, old_height: int, old_width: int
) -> None:
    top, left, tall, wide = whole(old_height, old_width).through(letterbox(height, width)).box
    assert tall == height or wide == width
    assert 1 <= tall <= height
    assert 1 <= wide <= width
    assert height - tall - 2 * top in (0, 1)
    assert width - wide - 2 * left in (0, 1)


@given(height=SIDES, width=SIDES, old_height=SIDES, old_width=SIDES)
def test_a_letterbox_keeps_the_aspect_ratio_to_half_a_pixel(
    height: int, width: int, old_height: int, old_width: int
) -> None:
    tall, wide = fitted(letterbox(height, width), old_height, old_width)
    if tall == height and wide > 1:
        assert abs(2 * wide * old_height - 2 * old_width * height) <= old_height or wide == width
    if wide == width and tall > 1:
        assert abs(2 * tall * old_width - 2 * old_height * width) <= old_width or tall == height


@given(height=SIDES, width=SIDES, old_height=SIDES, old_width=SIDES)
def test_a_cover_leaves_no_border(height: int, width: int, old_height: int, old_width: int) -> None:
    assume(max(fitted(cover(height, width), old_height, old_width)) <= SIDE_MAX)
    placed = whole(old_height, old_width).through(cover(height, width))
    assert placed.box == (0, 0, height, width)
    tall, wide = placed.size
    assert (tall == height and wide >= width) or (wide == width and tall >= height)


@given(height=SIDES, width=SIDES, factor=st.integers(1, 9))
def test_an_image_of_the_same_shape_fills_everything(height: int, width: int, factor: int) -> None:
    for step in (letterbox(height, width), cover(height, width)):
        assert whole(height * factor, width * factor).through(step).box == (0, 0, height, width)


@st.composite
def geometries(draw: st.DrawFn) -> list[Crop | Pad | Resize]:
    fits = st.sampled_from(["stretch", "letterbox", "cover"])
    sized = {"height": SMALL, "width": SMALL}
    resizes = st.builds(Resize, **sized, fit=fits)
    corners = st.one_of(st.just({}), st.fixed_dictionaries({"top": SMALL, "left": SMALL}))
    crops = st.tuples(SMALL, SMALL, corners).map(
        lambda made: Crop(height=made[0], width=made[1], small="pad", **made[2])
    )
    pads = st.builds(Pad, multiple=SMALL, align=st.sampled_from(["centre", "start"]))
    return draw(st.lists(resizes | crops | pads, min_size=1, max_size=4))


@given(size=st.tuples(SMALL, SMALL), steps=geometries())
@settings(max_examples=60)
def test_pixels_come_from_where_placed_says(
    placed: object, through: object, size: tuple[int, int], steps: list[Crop | Pad | Resize]
) -> None:
    """A picture of its own coordinates: each prepared pixel holds where its centre came from.

    Except at borders, where interpolation repeats a pixel: looked at is what rises as it should there.
    """
    height, width = size
    y, x = np.mgrid[:height, :width] + 0.5
    picture = np.stack([x, y], axis=2)[None].astype(np.float32)
    filled = [_filled(step) for step in steps]
    made = np.asarray(through(picture, Cast(), *filled))[0]  # type: ignore[operator]
    where = np.asarray(placed(picture, Cast(), *filled))  # type: ignore[operator]
    assert where[4:].tolist() == [width, height]
    rows, columns = np.mgrid[: made.shape[0], : made.shape[1]] + 0.5
    expected = np.stack([columns * where[0] + where[1], rows * where[2] + where[3]], axis=2)
    rises = _rises(made[..., 0], where[0], axis=1) & _rises(made[..., 1], where[2], axis=0)
    np.testing.assert_allclose(made[rises], expected[rises], atol=2e-3)


def _filled(step: Crop | Pad | Resize) -> Crop | Pad | Resize:
    return msgspec.structs.replace(step, fill=-1e6)


def _rises(values: Array, scale: float, axis: int) -> Array:
    """Where `values` rise by `scale` a pixel on both sides."""
    steps = np.diff(values, axis=axis, prepend=np.nan, append=np.nan)
    fits = np.abs(steps - scale) < 1e-3 * scale
    return np.asarray(fits.take(range(1, fits.shape[axis]), axis)) & np.asarray(
        fits.take(range(fits.shape[axis] - 1), axis)
    )


def test_corners_of_known_chains(placed: object) -> None:
    def corners(size: tuple[int, int], *steps: Crop | Pad | Resize) -> list[float]:
        raw = np.zeros((1, *size, 3), np.uint8)
        return np.asarray(placed(raw, *steps)).tolist()  # type: ignore[operator]

    assert corners((480, 640), Resize(height=240, width=160)) == [4, 0, 2, 0, 640, 480]
    assert corners((480, 640), letterbox(640, 640)) == [1, 0, 1, -80, 640, 480]
    assert corners((480, 640), Crop(height=100, width=200)) == [1, 220, 1, 190, 640, 480]
    steps = (Resize(height=240, width=320), Crop(height=200, width=200))
    assert corners((480, 640), *steps) == [2, 120, 2, 40, 640, 480]
    twice = (*steps, Resize(height=100, width=100), Pad(multiple=64, align="start"))
    assert corners((480, 640), *twice) == [4, 120, 4, 40, 640, 480]


def test_pictures_that_do_not_fit_are_refused_with_sizes() -> None:
    with pytest.raises(RequestError, match="has 10 x 20 pixels where the model cuts out 11 x 5"):
        whole(10, 20).through(Crop(height=11, width=5))
    with pytest.raises(RequestError, match="cuts out 5 x 5") as caught:
        whole(10, 20).through(Crop(height=5, width=5, top=8, left=0))
    assert "at least 13 x 5 pixels" in caught.value.remedy
    with pytest.raises(RequestError, match="takes up to 8 x 30"):
        whole(10, 20).through(Pad(height=8, width=30))


@given(length=SMALL, wanted=SMALL)
def test_a_centre_is_torchvisions(length: int, wanted: int) -> None:
    placed = whole(length, 1).through(Crop(height=wanted, width=1, small="pad"))
    top = -placed.at[0]
    if wanted <= length:
        assert top == round((length - wanted) / 2.0)
    else:
        assert top == -((wanted - length) // 2)
