"""Scores on the device against the CPU's steps, within the bounds that `runtime.kernels.cuda.scores` states."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from appliance.errors import EngineError
from appliance.recipe import ArgMax, Sigmoid, Softmax, Threshold, TopK
from appliance.tensors import Array, DataType, TensorSpec, datatype_of
from runtime.kernels.after import maker
from runtime.kernels.cuda.scores import OfRows, cast_part, score_part
from runtime.kernels.scratch import cast_into
from tests.gpu.threads import run_part

MANY = settings(max_examples=40, print_blob=False)
FEW = settings(MANY, max_examples=15)
THREADS = 4

values = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-44]),
    st.floats(-100, 100, width=32),
    st.integers(-3, 3).map(float),
)
tensors = st.tuples(st.sampled_from([np.float32, np.float16]), st.data())


def drawn(data: st.DataObject, dtype: type) -> Array:
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 11)))
    with np.errstate(over="ignore"):
        return data.draw(arrays.arrays(np.float32, shape, elements=values)).astype(dtype)


def spec_of(array: Array, name: str = "x") -> TensorSpec:
    datatype = datatype_of(array.dtype)
    assert datatype is not None
    return TensorSpec(name=name, datatype=datatype, shape=array.shape[1:])


def on_cpu(step: object, scores: Array) -> dict[str, Array]:
    with np.errstate(all="ignore"):
        return maker(step, [spec_of(scores)], ()).run({"x": scores}, {})


def units_apart(got: Array, wanted: Array) -> float:
    """The largest distance in units of FP32's last place, NaN equal to NaN."""
    assert np.array_equal(np.isnan(got), np.isnan(wanted))
    known = ~np.isnan(wanted)
    away = np.abs(got[known].astype(np.float64) - wanted[known].astype(np.float64))
    return float(np.max(away / np.spacing(np.abs(wanted[known])), initial=0.0))


@MANY
@given(tensors)
def test_softmax(drawing):
    scores = drawn(drawing[1], drawing[0])
    step = Softmax(tensor="x", output="y")
    got = run_part(OfRows(spec_of(scores), step, threads=THREADS), {"x": scores})["y"]
    assert units_apart(got, on_cpu(step, scores)["y"]) <= 3


@FEW
@given(tensors)
def test_sigmoid(drawing):
    scores = drawn(drawing[1], drawing[0])
    step = Sigmoid(tensor="x", output="y")
    got = run_part(score_part(step, spec_of(scores)), {"x": scores})["y"]
    assert units_apart(got, on_cpu(step, scores)["y"]) <= 1


@MANY
@given(tensors)
def test_the_best_class_is_the_same(drawing):
    scores = drawn(drawing[1], drawing[0])
    step = ArgMax(tensor="x", output="y")
    got = run_part(OfRows(spec_of(scores), step, threads=THREADS), {"x": scores})["y"]
    assert np.array_equal(got, on_cpu(step, scores)["y"])


@MANY
@given(tensors, st.data(), st.booleans())
def test_the_best_classes_are_the_same(drawing, data, with_scores):
    scores = drawn(drawing[1], drawing[0])
    k = data.draw(st.integers(1, scores.shape[-1]))
    step = TopK(tensor="x", k=k, output="y", scores="z" if with_scores else None)
    got = run_part(OfRows(spec_of(scores), step, threads=THREADS), {"x": scores})
    wanted = on_cpu(step, scores)
    assert set(got) == set(wanted) - {"x"}
    for name in got:
        assert np.array_equal(got[name], wanted[name], equal_nan=name == "z")


@FEW
@given(tensors, st.sampled_from([0.0, 0.1, -3.0]))
def test_threshold(drawing, at):
    scores = drawn(drawing[1], drawing[0])
    step = Threshold(tensor="x", at=at, output="y")
    got = run_part(score_part(step, spec_of(scores)), {"x": scores})["y"]
    assert np.array_equal(got, on_cpu(step, scores)["y"])


@FEW
@given(
    st.sampled_from([kind for kind in DataType if kind.numpy.kind in "biuf" and kind != "FP64"]),
    st.sampled_from([np.float32, np.float16]),
    st.data(),
)
def test_cast(datatype, made, data):
    sent = data.draw(arrays.arrays(datatype.numpy, (2, 5)))
    part = cast_part(spec_of(sent), "y", np.dtype(made).name)
    got = run_part(part, {"x": sent})["y"]
    assert np.array_equal(got, cast_into(sent, np.empty(sent.shape, made)), equal_nan=True)


def test_a_byte_of_a_bool_that_is_not_0_is_true():
    sent = np.array([[0, 1, 2, 255]], np.uint8).view(np.bool_)  # what clients send is not looked at
    got = run_part(cast_part(spec_of(sent), "y", "float32"), {"x": sent})["y"]
    assert np.array_equal(got, cast_into(sent, np.empty(sent.shape, np.float32)))
    assert got.tolist() == [[0.0, 1.0, 1.0, 1.0]]


def test_an_engine_of_other_classes_is_refused():
    spec = TensorSpec(name="x", datatype=DataType.FP32, shape=(3,))
    part = score_part(ArgMax(tensor="x", output="y"), spec)
    with pytest.raises(EngineError, match="returned 4 classes in 'x', the recipe expects 3"):
        part.made({"x": (2, 4)})


def test_without_rows_there_is_nothing_to_launch():
    spec = TensorSpec(name="x", datatype=DataType.FP32, shape=(-1, 3))
    for step in (ArgMax(tensor="x", output="y"), Sigmoid(tensor="x", output="y")):
        made = run_part(score_part(step, spec), {"x": np.empty((2, 0, 3), np.float32)})
        assert made["y"].size == 0
