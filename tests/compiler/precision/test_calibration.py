"""Ranges from the sample."""

import hashlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from appliance.errors import BundleContent, SourceUnsupported
from appliance.golden import arrays_to_bytes
from appliance.manifest import Calibration, CalibrationMethod
from compiler.precision.calibration import (
    BINS,
    PERCENTILE,
    Ranges,
    _by_entropy,
    _by_percentile,
    calibrate,
)

METHODS = list(CalibrationMethod)
each_method = pytest.mark.parametrize("method", METHODS)
WEIGHTS = np.diag([1.0, -2.0, 3.0]).astype(np.float32)


@pytest.fixture
def product(make_onnx, make_source):
    """scores = relu(x) diag(1, -2, 3)."""
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("MatMul", ["positive", "w"], ["scores"]),
    ]
    outputs = {"scores": (TensorProto.FLOAT, ["rows", 3])}
    return make_source(make_onnx(nodes, outputs=outputs, constants={"w": WEIGHTS}))


def rows(count: int = 64, seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)}


def test_extremes_are_those_of_the_tensors(product):
    given = rows()
    ranges = calibrate(product, given, CalibrationMethod.MINMAX, batch_max=8)
    positive = np.maximum(given["x"], 0)
    scores = positive @ WEIGHTS
    assert ranges is not None
    assert ranges.tensors == {
        "positive": (0.0, float(positive.max())),
        "scores": (float(scores.min()), float(scores.max())),
    }
    assert ranges.calibration == Calibration(
        method=CalibrationMethod.MINMAX,
        rows=64,
        data_sha256=hashlib.sha256(arrays_to_bytes(given)).hexdigest(),
    )


@each_method
def test_ranges_do_not_depend_on_how_rows_are_batched(product, method):
    found = [calibrate(product, rows(), method, batch_max=size) for size in (1, 5, 64)]
    assert found[0] == found[1] == found[2]


@each_method
def test_a_model_without_a_batch_axis_is_run_row_by_row(make_onnx, make_source, method):
    source = make_source(
        make_onnx(
            inputs={"x": (TensorProto.FLOAT, [2, 3])},
            outputs={"scores": (TensorProto.FLOAT, [2, 4])},
        )
    )
    given = {"x": np.random.default_rng(1).normal(size=(7, 2, 3)).astype(np.float32)}
    ranges = calibrate(source, given, method, batch_max=0)
    assert ranges is not None
    assert set(ranges.tensors) == {"x", "scores"}


def test_other_methods_cut_outliers_off_and_extremes_do_not(product):
    given = rows(4096)
    given["x"][0, 0] = 1000.0
    found = {
        method: calibrate(product, given, method, batch_max=64).tensors["positive"][1]
        for method in METHODS
    }
    assert found[CalibrationMethod.MINMAX] == 1000.0
    assert found[CalibrationMethod.ENTROPY] < 100.0
    # One value in 12288 is less than 1 - PERCENTILE.
    assert found[CalibrationMethod.PERCENTILE] < 10.0


def test_a_model_with_nothing_to_quantise_has_no_ranges(make_onnx, make_source):
    nodes = [helper.make_node("Relu", ["x"], ["scores"])]
    outputs = {"scores": (TensorProto.FLOAT, ["rows", 3])}
    source = make_source(make_onnx(nodes, outputs=outputs, constants={}))
    assert calibrate(source, rows(), CalibrationMethod.MINMAX, batch_max=8) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_without_a_range_is_refused_by_tensor_and_row(product, value):
    given = rows(20)
    given["x"][9] = value
    with pytest.raises(SourceUnsupported) as refused:
        calibrate(product, given, CalibrationMethod.MINMAX, batch_max=8)
    assert "is not finite on row 8" in str(refused.value)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), spread=st.floats(0.001, 10.0))
def test_a_percentile_leaves_no_more_out_than_it_says(seed, spread):
    values = np.random.default_rng(seed).lognormal(0, spread, size=20_000)
    counts, _ = np.histogram(values, BINS, (0, values.max()))
    kept = round(_by_percentile(counts) * BINS)
    assert counts[:kept].sum() >= counts.sum() * PERCENTILE / 100
    assert counts[: kept - 1].sum() < counts.sum() * PERCENTILE / 100


def divergence(counts: np.ndarray, end: int) -> float:
    """The same divergence in plain loops over levels."""
    clipped = counts[:end].astype(float)
    coarse = np.zeros(end)
    for level in range(128):
        inside = [at for at in range(end) if at * 128 // end == level and clipped[at]]
        coarse[inside] = sum(clipped[at] for at in inside) / max(len(inside), 1)
    clipped[-1] += counts[end:].sum()
    if clipped[-1] and not coarse[-1]:
        coarse[-1] = 1e-4
    p, q = clipped / clipped.sum(), coarse / coarse.sum()
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a)


@pytest.mark.parametrize("seed", [0, 1])
def test_least_entropy_is_found_where_plain_loops_find_it(seed):
    values = np.abs(np.random.default_rng(seed).standard_t(2, size=20_000))
    counts, _ = np.histogram(values, BINS, (0, values.max()))
    counts[0] = counts[1]
    ends = range(128, BINS + 1, 16)
    best = min(ends, key=lambda end: divergence(counts, end))
    assert _by_entropy(counts) == best / BINS


def test_nothing_but_zeros_has_no_least_entropy():
    assert _by_entropy(np.zeros(BINS, np.int64)) == 1.0


tensors = st.dictionaries(
    st.text(max_size=20),
    st.tuples(st.floats(-1e30, 0.0), st.floats(0.0, 1e30)),
    max_size=8,
)


@given(tensors)
def test_the_file_reads_back(found):
    calibration = Calibration(method=CalibrationMethod.ENTROPY, rows=3, data_sha256="a" * 64)
    ranges = Ranges(calibration=calibration, tensors=found)
    assert Ranges.from_bytes(ranges.to_bytes()) == ranges


@pytest.mark.parametrize(
    "change",
    [
        {"tensors": {"x": (1.0, 0.0)}},
        {"tensors": {"x": (0.0, 1e300)}},
        {"tensors": {"x": (0.0,)}},
        {"tensors": {"x": (0.0, "1")}},
        {"tensors": {"x": (0.0, None)}},
        {"format": 2},
        {"more": 1},
    ],
)
def test_a_file_that_says_something_else_is_refused(change):
    good = {
        "format": 1,
        "calibration": {"method": "minmax", "rows": 1, "data_sha256": "0" * 64},
        "tensors": {},
    }
    assert Ranges.from_bytes(msgspec.json.encode(good)).tensors == {}
    for data in (msgspec.json.encode(good | change), b"", b"{", b"\xff" * 8):
        with pytest.raises(BundleContent):
            Ranges.from_bytes(data)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BundleContent, match="cannot read the calibration"):
        Ranges.load(tmp_path / "calibration.json")


def test_a_file_over_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr("compiler.precision.calibration.RANGES_BYTES_MAX", 10)
    with pytest.raises(BundleContent, match="more than 10 bytes"):
        Ranges.from_bytes(b"{}" * 10)
