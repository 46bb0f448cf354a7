"""Where resized images lie."""

from hypothesis import given
from hypothesis import strategies as st

from appliance.recipe import Resize
from runtime.kernels.letterbox import box_of

SIDES = st.integers(min_value=1, max_value=65536)


def letterbox(height: int, width: int) -> Resize:
    return Resize(height=height, width=width, fit="letterbox")


def test_known_boxes() -> None:
    assert box_of(letterbox(640, 640), 480, 640) == (80, 0, 480, 640)
    assert box_of(letterbox(640, 640), 1080, 1920) == (140, 0, 360, 640)
    assert box_of(letterbox(640, 640), 1920, 1080) == (0, 140, 640, 360)
    assert box_of(letterbox(10, 10), 4, 5) == (1, 0, 8, 10)
    assert box_of(letterbox(5, 6), 2, 4) == (1, 0, 3, 6)
    assert box_of(letterbox(5, 8), 1, 3) == (1, 0, 3, 8)
    assert box_of(Resize(height=5, width=8), 1, 3) == (0, 0, 5, 8)


@given(height=SIDES, width=SIDES, old_height=SIDES, old_width=SIDES)
def test_a_box_fits_and_is_centred(
    height: int, width: int, old_height: int, old_width: int
) -> None:
    top, left, tall, wide = box_of(letterbox(height, width), old_height, old_width)
    assert tall == height or wide == width
    assert 1 <= tall <= height
    assert 1 <= wide <= width
    assert height - tall - 2 * top in (0, 1)
    assert width - wide - 2 * left in (0, 1)


@given(height=SIDES, width=SIDES, old_height=SIDES, old_width=SIDES)
def test_a_box_keeps_the_aspect_ratio_to_half_a_pixel(
    height: int, width: int, old_height: int, old_width: int
) -> None:
    _, _, tall, wide = box_of(letterbox(height, width), old_height, old_width)
    if tall == height and wide > 1:
        assert abs(2 * wide * old_height - 2 * old_width * height) <= old_height or wide == width
    if wide == width and tall > 1:
        assert abs(2 * tall * old_width - 2 * old_height * width) <= old_width or tall == height


@given(height=SIDES, width=SIDES, factor=st.integers(1, 9))
def test_an_image_of_the_same_shape_fills_everything(height: int, width: int, factor: int) -> None:
    box = box_of(letterbox(height, width), height * factor, width * factor)
    assert box == (0, 0, height, width)
