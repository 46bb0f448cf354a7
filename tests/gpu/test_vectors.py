"""The drift vector on the device against the CPU's, within the bounds that `runtime.kernels.cuda.vectors` states."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.layout import (
    ImageValues,
    OutputValues,
    ScoreValues,
    TableValues,
    VectorLayout,
)
from appliance.tensors import TensorSpec, datatype_of
from runtime.kernels.cuda.vectors import CellPart, ScorePart, vector_part
from runtime.kernels.vector import DriftVector
from tests.gpu.threads import run_part

SOME = settings(max_examples=25, print_blob=False)
seeds = st.integers(0, 2**32 - 1)
THREADS = 4


def spec_of(name, array):
    return TensorSpec(name=name, datatype=datatype_of(array.dtype), shape=array.shape[1:])


def on_cpu(part, prepared, outputs, *, batch_axis=True):
    layout = VectorLayout(batch_axis=batch_axis, parts=(part,))
    outputs = outputs or {"any": next(iter(prepared.values()))}
    return DriftVector(layout).compute(prepared, outputs)


def image_part(order, components, seed):
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(64, max(components, 1))))[0].T[:components]
    return ImageValues(
        input="x",
        order=order,
        mean=rng.normal(size=64).astype("<f4").tobytes(),
        components=np.ascontiguousarray(axes).astype("<f4").tobytes(),
    )


def of_images(part, images):
    device = CellPart(part, spec_of("x", images), 0, batch_axis=True, threads=THREADS)
    return run_part(device, {"x": images})["vector:0"]


def spacing(wanted):
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.spacing(np.abs(wanted)))


def apart(got, wanted):
    """How far apart numbers are; not at all where both are the same infinity."""
    with np.errstate(invalid="ignore"):
        return np.where(got == wanted, 0.0, np.abs(got.astype(np.float64) - wanted))


@settings(SOME, max_examples=8)
@given(
    seeds,
    st.sampled_from(["CHW", "HWC"]),
    st.sampled_from([1, 3]),
    st.tuples(st.sampled_from([1, 5, 8, 19]), st.sampled_from([1, 3, 16, 21])),
    st.sampled_from([np.float32, np.float16, np.uint8]),
    st.sampled_from([0.0, 1.0, 1000.0]),
)
def test_images(seed, order, channels, sides, dtype, shift):  # noqa: PLR0917
    rng = np.random.default_rng(seed)
    shape = (channels, *sides) if order == "CHW" else (*sides, channels)
    images = rng.normal(loc=shift, scale=rng.choice([0.0, 0.1, 30.0]), size=(2, *shape))
    images[rng.random(images.shape) < 0.1] = 0.0
    images = np.clip(images, 0, 255).astype(dtype) if dtype is np.uint8 else images.astype(dtype)
    part = image_part(order, 3, seed)
    got, wanted = of_images(part, images), on_cpu(part, {"x": images}, {})
    largest = float(np.abs(images).max()) + 1e-30
    away = np.abs(got.astype(np.float64) - wanted)
    assert np.all(away[:, 0] <= largest * 2**-22)  # mean
    assert np.all(away[:, 1] <= largest * 2**-20)  # std
    assert np.all(away[:, 2] <= largest * 2**-22)  # sharpness
    assert np.array_equal(got[:, 3], wanted[:, 3])  # zeros
    length = 8 * (largest + 4)  # of 64 cells, each less its centre
    assert np.all(away[:, 4:] <= length * 2**-20)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e30])
def test_images_that_hold_no_number(odd):
    images = np.random.default_rng(1).normal(size=(2, 1, 9, 9)).astype(np.float32)
    images[1, 0, 4, 4] = odd
    part = image_part("CHW", 2, 1)
    got, wanted = of_images(part, images), on_cpu(part, {"x": images}, {})
    assert np.allclose(got[0], wanted[0], rtol=1e-5, atol=1e-6)
    bad = ~np.isfinite(wanted[1])
    assert not np.isfinite(got[1][bad]).any()
    assert np.isfinite(got[1][[0, 2, 3]]).tolist() == np.isfinite(wanted[1][[0, 2, 3]]).tolist()


@SOME
@given(
    seeds,
    st.booleans(),
    st.sampled_from([np.float32, np.float16]),
    st.sampled_from([2, 3, 40]),
    st.sampled_from([0.1, 5.0, 60.0]),
)
def test_scores(seed, logits, dtype, classes, scale):
    rng = np.random.default_rng(seed)
    scores = rng.normal(scale=scale, size=(3, classes))
    if not logits:
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    scores[0, 0] = rng.choice([scores[0, 0], np.nan, np.inf, -np.inf])
    scores[2] = rng.choice([scores[2, 0], -np.inf])
    scores = scores.astype(dtype)
    part = ScoreValues(output="y", logits=logits, classes=classes)
    device = ScorePart(part, spec_of("y", scores), 7, batch_axis=True, threads=THREADS)
    got, wanted = run_part(device, {"y": scores})["vector:7"], on_cpu(part, {}, {"y": scores})
    assert np.array_equal(np.isnan(got), np.isnan(wanted))
    known = ~np.isnan(wanted[:, 0])
    got, wanted = got[known], wanted[known]
    shares = np.r_[0, 3 : wanted.shape[1]]
    assert np.all(apart(got, wanted)[:, shares] <= 3 * spacing(wanted[:, shares]))
    assert np.array_equal(got[:, 2], wanted[:, 2])
    terms = np.abs(wanted[:, 1]) if logits else np.log(classes) + np.abs(wanted[:, 1])
    assert np.all(apart(got, wanted)[:, 1] <= terms * 2**-21 + 2**-50)


@settings(SOME, max_examples=8)
@given(seeds, st.sampled_from([np.float32, np.float16, np.int64, np.int8, np.bool_]))
def test_columns(seed, dtype):
    rng = np.random.default_rng(seed)
    values = rng.integers(-(2**40), 2**40, (3, 2, 4))
    values = (values % 1000 if dtype is np.float16 else values).astype(dtype)
    table = TableValues(input="x", columns=("a", "b", "c"))
    output = OutputValues(output="y", columns=8)
    for part, given_ in ((table, {"x": values}), (output, {"y": values})):
        name = next(iter(given_))
        device = vector_part(part, spec_of(name, values), 2, batch_axis=True)
        got = run_part(device, given_)["vector:2"]
        wanted = on_cpu(part, given_, given_ if name == "y" else {})
        assert np.array_equal(got, wanted)


def test_without_a_batch_axis_all_is_one_row():
    values = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    part = vector_part(
        OutputValues(output="y", columns=5), spec_of("y", values), 0, batch_axis=False
    )
    assert run_part(part, {"y": values})["vector:0"].tolist() == [[0, 1, 2, 3, 4]]
