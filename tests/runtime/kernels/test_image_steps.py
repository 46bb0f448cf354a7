"""Each image kernel compiled gives what the same function gives as plain Python."""

from typing import Any

import numpy as np
import pytest

from runtime.kernels import grey_steps, image_steps, image_taps
from runtime.kernels.compiled import INTEGER, NONE, compiled, integers, reads, singles, writes

F, INDEX, WORD, BYTE = np.float32, np.uint64, np.int32, np.uint8
RANDOM = np.random.default_rng(7)
SCALE, SHIFT = np.array([0.5, 2.0, -1.0], F), np.array([-1.0, 3.0, 0.25], F)
PICKS = np.array([2, 0, 1])
LEVELS = (F(0.7), F(3), F(-128), F(127))
TALL, WIDE, CHANNELS = 6, 5, 3  # of the box, made of 4 x 7 pixels
RAW = RANDOM.integers(0, 256, (2, 4, 7 * CHANNELS)).astype(BYTE)


def shared(raw: Any, gives: Any, chw: Any, rounds: Any, levels: Any) -> tuple[Any, ...]:
    """Types and values of what all kernels take but `out`."""
    types = (
        reads(raw.dtype, 3), writes(gives, 2), integers(CHANNELS), integers(6),
        INTEGER if chw else NONE, INTEGER if rounds else NONE, singles(4) if levels else NONE,
        reads(np.int64, 1), reads(F, 1), reads(F, 1), writes(F, 1),
    )  # fmt: skip
    frame = (TALL + 2, WIDE + 1, 1, 0, TALL, WIDE)
    values = (tuple(range(CHANNELS)), frame, chw, rounds, levels, PICKS, SCALE, SHIFT)
    return types, (*values, np.zeros(4 * 8, F))


def taps(method: int, length: int, size: int, stride: int) -> tuple[Any, Any, Any]:
    most = image_taps.taps_most(method, length, size)
    index, weight = np.zeros((size, most), INDEX), np.zeros((size, most), F)
    fixed = np.zeros((size, most), WORD)
    kernel, axis = image_taps.TAPS[method], (0, length, size, 0, stride)
    kernel(method, axis, index, weight, fixed, np.zeros(most))
    return index, weight, fixed


def both(kernel: Any, types: Any, raw: Any, gives: Any, values: Any) -> tuple[Any, Any]:
    made = []
    for run in (kernel, compiled(kernel, *types)):
        out = np.zeros((2, (TALL + 2) * (WIDE + 1) * 3), gives)
        fresh = [v.copy() if isinstance(v, np.ndarray) else v for v in values]
        run(raw, out, *fresh)
        assert out.any()
        made.append(out)
    return made[0], made[1]


FORMS = pytest.mark.parametrize(
    ("raw", "gives", "chw", "rounds", "levels"),
    [
        (RAW, F, 1, None, None),
        (RAW.astype(F), F, None, None, None),
        (RAW, np.int8, None, 1, LEVELS),
    ],
    ids=["CHW", "HWC", "levels"],
)
LINES = (writes(F, 1), writes(F, 1))


@FORMS
def test_place(raw: Any, gives: Any, chw: Any, rounds: Any, levels: Any) -> None:
    large = np.tile(raw, (1, 2, 1))
    types, values = shared(raw, gives, chw, rounds, levels)
    types = (*types, integers(2))
    plain, machine = both(image_steps.place_image, types, large, gives, (*values, (1, 2)))
    np.testing.assert_array_equal(machine, plain)


@FORMS
def test_blend(raw: Any, gives: Any, chw: Any, rounds: Any, levels: Any) -> None:
    types, values = shared(raw, gives, chw, rounds, levels)
    axes = []
    for length, size, stride in ((4, TALL, 1), (7, WIDE, CHANNELS)):
        low, high, weight = np.zeros(size, INDEX), np.zeros(size, INDEX), np.zeros(size, F)
        image_taps.blend_taps((0, length, size, 0, stride), low, high, weight)
        axes += [low, high, weight]
    types = (*types, *LINES, *[reads(INDEX, 1), reads(INDEX, 1), reads(F, 1)] * 2)
    values = (*values, np.zeros(32, F), np.zeros(25, F), *axes)
    plain, machine = both(image_steps.blend_image, types, raw, gives, values)
    np.testing.assert_array_equal(machine, plain)


@FORMS
def test_weigh(raw: Any, gives: Any, chw: Any, rounds: Any, levels: Any) -> None:
    for method, constant in ((image_taps.LANCZOS, None), (image_taps.CUBIC, (0, 1, 2, 3))):
        types, values = shared(raw, gives, chw, rounds, levels)
        y_index, y_weight, _ = taps(method, 4, TALL, 1)
        x_index, x_weight, _ = taps(method, 7, WIDE, CHANNELS)
        types = (
            *types, *LINES, *[reads(INDEX, 2), reads(F, 2)] * 2, integers(2),
            integers(4) if constant else NONE, NONE,
        )  # fmt: skip
        values = (
            *values, np.zeros(32, F), np.zeros(25, F), y_index, y_weight, x_index, x_weight,
            (0, 21), constant, None,
        )  # fmt: skip
        plain, machine = both(image_steps.weigh_image, types, raw, gives, values)
        np.testing.assert_array_equal(machine, plain)


@FORMS
def test_weigh_in_pairs(raw: Any, gives: Any, chw: Any, rounds: Any, levels: Any) -> None:
    types, values = shared(raw, gives, chw, rounds, levels)
    y_index, y_weight, _ = taps(image_taps.CUBIC, 4, TALL, 1)
    x_index, x_weight, _ = taps(image_taps.CUBIC, 7, WIDE, CHANNELS)
    low, pairs = np.zeros((WIDE, 1), INDEX), np.zeros((WIDE, 16), F)
    image_taps.pair_taps((0, 7, WIDE, 0, CHANNELS), x_index, x_weight, low, pairs)
    types = (
        *types, *LINES, *[reads(INDEX, 2), reads(F, 2)] * 2, integers(2), integers(4),
        integers(CHANNELS),
    )  # fmt: skip
    values = (
        *values, np.zeros(32, F), np.zeros(37, F), y_index, y_weight, low, pairs, (0, 21),
        (0, 1, 2, 3), tuple(range(CHANNELS)),
    )  # fmt: skip
    plain, machine = both(image_steps.weigh_image, types, raw, gives, values)
    np.testing.assert_array_equal(machine, plain)
    single = (*values[:-5], x_index, x_weight, *values[-3:-1], None)
    tap_by_tap, _ = both(image_steps.weigh_image, (*types[:-1], NONE), raw, gives, single)
    np.testing.assert_allclose(
        plain.astype(float), tap_by_tap.astype(float), rtol=1e-5, atol=1e-3 if gives is F else 1
    )


@pytest.mark.parametrize("chw", [1, None])
def test_convolve(chw: Any) -> None:
    types, values = shared(RAW, F, chw, 1, None)
    y_index, _, y_weight = taps(image_taps.SOFT_CUBIC, 4, TALL, 1)
    x_index, _, x_weight = taps(image_taps.SOFT_CUBIC, 7, WIDE, CHANNELS)
    types = (
        *types, writes(F, 1), writes(BYTE, 1), *[reads(INDEX, 2), reads(WORD, 2)] * 2,
        integers(2), writes(BYTE, 1), writes(WORD, 1),
    )  # fmt: skip
    values = (
        *values, np.zeros(32, F), np.zeros(25, BYTE), y_index, y_weight, x_index, x_weight,
        (0, 4), np.zeros(4 * WIDE * 4, BYTE), np.zeros(WIDE * 4, WORD),
    )  # fmt: skip
    plain, machine = both(image_steps.convolve_image, types, RAW, F, values)
    np.testing.assert_array_equal(machine, plain)


def test_greys() -> None:
    raw = RAW.reshape(-1)[:24]
    for channels in (3, 4):
        plain, machine = np.zeros((2, 24 // channels), BYTE)
        weights = (9798, 19235, 3735)
        types = (reads(BYTE, 1), writes(BYTE, 1), INTEGER, integers(3), INTEGER)
        grey_steps.grey_bytes(raw.astype(np.int64), plain, channels, weights, 15)
        compiled(grey_steps.grey_bytes, *types)(raw, machine, channels, weights, 15)
        np.testing.assert_array_equal(machine, plain)
        plain, machine = np.zeros((2, 24 // channels), F)
        shares = (F(0.299), F(0.587), F(0.114))
        types = (reads(F, 1), writes(F, 1), INTEGER, singles(3))
        grey_steps.grey_floats(raw.astype(F), plain, channels, shares)
        compiled(grey_steps.grey_floats, *types)(raw.astype(F), machine, channels, shares)
        np.testing.assert_array_equal(machine, plain)


@pytest.mark.parametrize("method", image_taps.TAPS)
@pytest.mark.parametrize(("length", "size", "first"), [(9, 4, 0), (4, 9, 2), (5, 5, 1), (1, 3, 0)])
def test_taps(method: int, length: int, size: int, first: int) -> None:
    most = image_taps.taps_most(method, length, size)
    kernel = image_taps.TAPS[method]
    types = (writes(INDEX, 2), writes(F, 2), writes(WORD, 2), writes(np.float64, 1))
    made = []
    for run in (kernel, compiled(kernel, INTEGER, integers(5), *types)):
        index, weight = np.zeros((size - first, most), INDEX), np.zeros((size - first, most), F)
        fixed = np.zeros((size - first, most), WORD)
        run(method, (3, length, size, first, 2), index, weight, fixed, np.zeros(most))
        made.append((index, weight, fixed))
        assert (index >= 6).all()
        assert (index < 2 * (3 + length)).all()
        np.testing.assert_allclose(weight.sum(axis=1), 1.0, atol=1e-6)
    for plain, machine in zip(*made, strict=True):
        np.testing.assert_array_equal(machine, plain)


@pytest.mark.parametrize("stride", [1, 3, 4])
@pytest.mark.parametrize(
    "sizes", [(9, 4, 0), (4, 9, 2), (5, 5, 1), (3, 7, 0), (1, 3, 0), (9, 3, 0)]
)
def test_pair_taps(stride: int, sizes: tuple[int, int, int]) -> None:
    """They weigh each pixel of a row as the taps do that they are made of."""
    length, size, first = sizes
    axis, count = (3, length, size, first, stride), size - first
    index, weight = np.zeros((count, 4), INDEX), np.zeros((count, 4), F)
    image_taps.cubic_taps(
        image_taps.CUBIC, axis, index, weight, np.zeros((count, 4), WORD), np.zeros(4)
    )
    types = (integers(5), reads(INDEX, 2), reads(F, 2), writes(INDEX, 2), writes(F, 2))
    for run in (image_taps.pair_taps, compiled(image_taps.pair_taps, *types)):
        low, pairs = np.zeros((count, 1), INDEX), np.ones((count, 16), F)
        run(axis, index, weight, low, pairs)
        for i in range(count):
            wanted, made = np.zeros((2, 3 + length + 4))
            np.add.at(wanted, index[i].astype(int) // stride, weight[i])
            begin = int(low[i, 0]) // stride
            made[begin : begin + 4] = pairs[i, [0, stride, 8, 8 + stride]]
            np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-6)
            for c in range(stride):
                shares = pairs[i, [c, stride + c, 8 + c, 8 + stride + c]]
                np.testing.assert_array_equal(shares, made[begin : begin + 4].astype(F))
