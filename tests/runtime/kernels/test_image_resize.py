"""Resizing against OpenCV, Pillow and interpolation matrices in FP64."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from appliance.recipe import BeforeStep, Cast, Crop, Layout, Normalise, Resize
from appliance.tensors import Array

U = 2.0**-24
THROUGH = Callable[..., Array]
SIDES = st.integers(1, 40)
PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
OPENCV = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
}
SUPPORT = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}
SIZED = settings(max_examples=25)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[Array, int, int]:
    """A UINT8 image of random pixels, and a size for it."""
    shape = (draw(SIDES), draw(SIDES), draw(st.sampled_from([1, 3])))
    seed = draw(st.integers(0, 2**32 - 1))
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return image, draw(SIDES), draw(SIDES)


def like_pillow(image: Array, height: int, width: int, method: str) -> Array:
    """Across and then down, each by Pillow alone, so that its version does not choose the order."""
    made = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    if method == "nearest":
        made = made.resize((width, height), PILLOW[method])
    else:
        made = made.resize((width, image.shape[0]), PILLOW[method])
        made = made.resize((width, height), PILLOW[method])
    return np.asarray(made).reshape(height, width, image.shape[2])


def like_opencv(image: Array, height: int, width: int, method: str) -> Array:
    made = cv2.resize(image, (width, height), interpolation=OPENCV[method])
    return np.asarray(made).reshape(height, width, image.shape[2])


@pytest.mark.parametrize("method", PILLOW)
@given(case=sizes())
@SIZED
def test_bytes_like_pillow_to_the_bit(
    through: THROUGH, method: Any, case: tuple[Array, int, int]
) -> None:
    image, height, width = case
    step = Resize(height=height, width=width, method=method, like="pillow")
    wanted = like_pillow(image, height, width, method)
    np.testing.assert_array_equal(through(image[None], step)[0], wanted)


@pytest.mark.parametrize("method", OPENCV)
@given(case=sizes())
@SIZED
def test_bytes_like_opencv_within_one(
    through: THROUGH, method: Any, case: tuple[Array, int, int]
) -> None:
    image, height, width = case
    if method == "area":
        height, width = min(height, image.shape[0]), min(width, image.shape[1])
    made = through(image[None], Resize(height=height, width=width, method=method))[0]
    wanted = like_opencv(image, height, width, method)
    difference = np.abs(made.astype(int) - wanted.astype(int)).max()
    assert difference <= (0 if method == "nearest" else 1)


@pytest.mark.parametrize("method", OPENCV)
@given(case=sizes())
@SIZED
def test_floats_like_opencv(through: THROUGH, method: Any, case: tuple[Array, int, int]) -> None:
    """OpenCV computes positions in FP32, which moves a pixel by some thousandths."""
    image, height, width = case
    if method == "area":
        height, width = min(height, image.shape[0]), min(width, image.shape[1])
    made = through(image[None], Cast(), Resize(height=height, width=width, method=method))[0]
    wanted = like_opencv(image.astype(np.float32), height, width, method)
    np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("method", "like"),
    [*((method, "opencv") for method in OPENCV), *((method, "pillow") for method in PILLOW)],
)
@given(case=sizes())
@SIZED
def test_floats_within_the_stated_bound(
    through: THROUGH, method: Any, like: Any, case: tuple[Array, int, int]
) -> None:
    image, height, width = case
    down = matrix(image.shape[0], height, method, like)
    across = matrix(image.shape[1], width, method, like)
    wanted = np.einsum("yh,hwc,xw->yxc", down, image.astype(np.float64), across)
    step = Resize(height=height, width=width, method=method, like=like)
    made = through(image[None], Cast(), step)[0]
    taps = (down != 0).sum(axis=1).max() + (across != 0).sum(axis=1).max()
    bound = (4 * taps + 20) * U * 255.0 * 1.6
    np.testing.assert_allclose(made, wanted, rtol=0, atol=bound)


def matrix(length: int, count: int, method: str, like: str) -> Array:
    """(count, length) FP64: how much of each pixel goes into each new one."""
    scale = length / count
    made = np.zeros((count, length))
    for i in range(count):
        centre = (i + 0.5) * scale
        if method == "nearest":
            walked = np.add.accumulate([scale * 0.5] + [scale] * i)[-1]  # as Pillow rounds it
            at = walked if like == "pillow" else np.floor(i * (1 / (count / length)))
            made[i, min(int(at), length - 1)] = 1.0
        elif method == "area":
            edges = np.clip(np.arange(length + 1), i * scale, (i + 1) * scale)
            made[i] = np.diff(edges) / scale
        elif like == "pillow":
            made[i] = filtered(np.arange(length), centre, scale, method)
        else:
            for k in range(int(np.floor(centre - 0.5)) - 2, int(np.floor(centre - 0.5)) + 4):
                share = kernel(k + 0.5 - centre, method, -0.75)
                made[i, np.clip(k, 0, length - 1)] += share
    return made


def filtered(at: Array, centre: float, scale: float, method: str) -> Array:
    """Pillow's weights: a window whose ends are rounded, then made to add up to 1."""
    wide = max(scale, 1.0)
    reach = SUPPORT[method] * wide
    inside = (at >= int(centre - reach + 0.5)) & (at < int(centre + reach + 0.5))
    shares = np.array([kernel((k + 0.5 - centre) / wide, method, -0.5) for k in at]) * inside
    return np.asarray(shares / shares.sum())


def kernel(x: float, method: str, a: float) -> float:
    x = abs(x)
    if method == "bilinear":
        return max(1.0 - x, 0.0)
    if method == "lanczos":
        return float(np.sinc(x) * np.sinc(x / 3)) if x < 3 else 0.0
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def test_floats_like_pillows_own(through: THROUGH) -> None:
    image = np.random.default_rng(2).uniform(-5, 300, (37, 51)).astype(np.float32)
    for method, filtering in PILLOW.items():
        step = Resize(height=20, width=33, method=method, like="pillow")  # type: ignore[arg-type]
        theirs = Image.fromarray(image).resize((33, 20), filtering)
        made = through(image[None, :, :, None], step)[0, :, :, 0]
        np.testing.assert_allclose(made, np.asarray(theirs), rtol=0, atol=2e-4)


@pytest.mark.parametrize("like", ["opencv", "pillow"])
@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
def test_a_huge_shrink(through: THROUGH, method: Any, like: Any) -> None:
    image = np.random.default_rng(3).integers(0, 256, (1, 900, 700, 3), dtype=np.uint8)
    made = through(image, Resize(height=3, width=2, method=method, like=like))
    assert made.shape == (1, 3, 2, 3)
    if like == "pillow" and method != "nearest":
        wanted = like_pillow(image[0], 3, 2, method)
        np.testing.assert_array_equal(made[0], wanted)


@pytest.mark.parametrize("channels", [2, 9])
@pytest.mark.parametrize(
    ("method", "like"), [("bilinear", "opencv"), ("bicubic", "opencv"), ("bicubic", "pillow")]
)
def test_each_channel_by_itself(through: THROUGH, channels: int, method: Any, like: Any) -> None:
    image = np.random.default_rng(4).integers(0, 256, (2, 11, 13, channels), dtype=np.uint8)
    step = Resize(height=7, width=18, method=method, like=like)
    made = through(image, step)
    for c in range(channels):
        np.testing.assert_array_equal(made[..., c : c + 1], through(image[..., c : c + 1], step))


@pytest.mark.parametrize("method", ["bicubic", "area", "nearest", "bilinear"])
def test_a_pixel_that_counts_for_nothing_spreads_no_nan(through: THROUGH, method: Any) -> None:
    image = np.ones((1, 8, 8, 1), np.float32)
    image[0, 3, 4, 0] = np.nan
    made = through(image, Resize(height=8, width=16, method=method))
    assert np.isnan(made).any()
    assert not np.isnan(made[0, [0, 1, 6, 7]]).any()
    assert not np.isnan(made[0, :, [0, 1, 2, 13, 14, 15]]).any()


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
def test_infinities_and_read_only_images(through: THROUGH, method: Any) -> None:
    image = np.ones((1, 6, 6, 1), np.float32)
    image[0, 0, 0, 0] = np.inf
    image.flags.writeable = False
    made = through(image, Resize(height=9, width=9, method=method))
    assert not np.isfinite(made[0, 0, 0, 0])
    assert np.isfinite(made[0, 5:, 5:]).all()


@given(case=sizes(), crop=st.tuples(SIDES, SIDES), seed=st.integers(0, 99))
@SIZED
def test_a_crop_before_is_an_image_of_its_own(
    through: THROUGH, case: tuple[Array, int, int], crop: tuple[int, int], seed: int
) -> None:
    """No pixel outside of the crop is read."""
    image, height, width = case
    tall, wide = min(crop[0], image.shape[0]), min(crop[1], image.shape[1])
    rng = np.random.default_rng(seed)
    top = int(rng.integers(image.shape[0] - tall + 1))
    left = int(rng.integers(image.shape[1] - wide + 1))
    cut = Crop(height=tall, width=wide, top=top, left=left)
    part = np.ascontiguousarray(image[top : top + tall, left : left + wide])
    for step in (
        Resize(height=height, width=width),
        Resize(height=height, width=width, method="bicubic", like="pillow"),
        Resize(height=height, width=width, method="bicubic"),
    ):
        np.testing.assert_array_equal(through(image[None], cut, step), through(part[None], step))


@given(case=sizes(), crop=st.tuples(SIDES, SIDES))
@SIZED
def test_a_crop_behind_is_a_part_of_the_whole(
    through: THROUGH, case: tuple[Array, int, int], crop: tuple[int, int]
) -> None:
    image, height, width = case
    tall, wide = min(crop[0], height), min(crop[1], width)
    cut = Crop(height=tall, width=wide, top=height - tall, left=width - wide)
    for step in (
        Resize(height=height, width=width),
        Resize(height=height, width=width, method="lanczos", like="pillow"),
        Resize(height=height, width=width, method="area"),
    ):
        whole = through(image[None], step)
        made = through(image[None], step, cut)
        np.testing.assert_array_equal(made, whole[:, height - tall :, width - wide :])


def test_torchvisions_resize_and_centre_crop(through: THROUGH) -> None:
    """Resize(256), CenterCrop(224), ToTensor, Normalize: as its sources say, with Pillow."""
    image = np.random.default_rng(5).integers(0, 256, (300, 421, 3), dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    resized = Image.fromarray(image).resize((int(256 * 421 / 300), 256), PILLOW["bilinear"])
    left = round((resized.width - 224) / 2.0)
    cropped = np.asarray(resized.crop((left, 16, left + 224, 240)))
    wanted = ((cropped / 255.0 - mean) / std).transpose(2, 0, 1)
    steps: tuple[BeforeStep, ...] = (
        Resize(height=256, width=256, method="bilinear", like="pillow", fit="cover"),
        Crop(height=224, width=224),
        Cast(),
        Normalise(mean=mean, std=std, scale=1 / 255),
        Layout(),
    )
    np.testing.assert_allclose(through(image[None], *steps)[0], wanted, rtol=0, atol=1e-5)
