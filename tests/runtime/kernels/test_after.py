"""Steps after the engine against plain numpy in FP64."""

import math

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from appliance.errors import EngineError
from appliance.recipe import (
    AfterStep,
    ArgMax,
    Drop,
    Labels,
    Recipe,
    Sigmoid,
    Softmax,
    Threshold,
    TopK,
)
from appliance.tensors import Array, DataType, Interface, TensorSpec
from runtime.kernels.chain import Chain

SOFTMAX = Softmax(tensor="scores", output="p")
SIGMOID = Sigmoid(tensor="scores", output="p")
ARGMAX = ArgMax(tensor="scores", output="class")
SCORES = st.floats(-50, 50, width=32) | st.integers(-2, 2).map(float)
WITH_NAN = SCORES | st.just(float("nan")) | st.just(-math.inf)
LABELS = ("ant", "bee", "cat", "dog", "élan")


def chain_of(
    *steps: AfterStep,
    shape: tuple[int, ...] = (5,),
    batch_max: int = 8,
    datatype: DataType = DataType.FP32,
    labels: tuple[str, ...] = LABELS,
) -> Chain:
    scores = TensorSpec(name="scores", datatype=datatype, shape=shape)
    engine = Interface(inputs=(), outputs=(scores,), batch_max=batch_max)
    recipe = Recipe(after=steps, labels=labels)
    return Chain(recipe, engine=engine)


def scores_of(elements: st.SearchStrategy[float], classes: int) -> st.SearchStrategy[Array]:
    rows = st.integers(1, 4).map(lambda count: (count, classes))
    return rows.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=elements))


def best_first(row: Array) -> list[int]:
    """Indices by score, equal ones by index, NaN last."""
    return sorted(range(row.size), key=lambda i: (bool(np.isnan(row[i])), -row[i], i))


@given(scores=scores_of(SCORES, 7))
def test_softmax_is_right_to_the_last_place(scores: Array) -> None:
    made = chain_of(SOFTMAX, shape=(7,)).after({"scores": scores})["p"]
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    wanted = powers / powers.sum(axis=1, keepdims=True)
    assert made.dtype == np.float32
    assert np.all(np.abs(made - wanted) <= 1.51 * np.spacing(wanted.astype(np.float32)))


@given(scores=scores_of(WITH_NAN, 5))
def test_argmax(scores: Array) -> None:
    made = chain_of(ARGMAX).after({"scores": scores})["class"]
    assert made.dtype == np.int64
    assert made.tolist() == [[best_first(row)[0]] for row in scores]


@given(scores=scores_of(WITH_NAN, 5), k=st.integers(1, 5))
def test_top_k(scores: Array, k: int) -> None:
    step = TopK(tensor="scores", k=k, output="top")
    made = chain_of(step).after({"scores": scores})["top"]
    assert made.dtype == np.int64
    assert made.tolist() == [best_first(row)[:k] for row in scores]


def test_softmax_of_large_scores_does_not_overflow() -> None:
    scores = np.array([[3e38, 3e38, -3e38, 0, 0]], np.float32)
    made = chain_of(SOFTMAX).after({"scores": scores})["p"]
    np.testing.assert_array_equal(made, [[0.5, 0.5, 0, 0, 0]])


@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
def test_softmax_of_a_spoilt_row_is_nan_in_that_row_alone(spoilt: float) -> None:
    scores = np.zeros((2, 5), np.float32)
    scores[0, 3] = spoilt
    made = chain_of(SOFTMAX).after({"scores": scores})["p"]
    assert np.isnan(made[0]).all()
    np.testing.assert_allclose(made[1], 0.2, rtol=1e-7)


def test_labels_are_utf8_and_best_first() -> None:
    step = TopK(tensor="p", k=2, output="top", labels="names")
    scores = np.array([[0, 1, 0, 0, 5], [2, 2, 0, 0, 0]], np.float32)
    answers = chain_of(SOFTMAX, step).after({"scores": scores})
    assert list(answers) == ["scores", "p", "top", "names"]
    assert answers["names"].dtype == np.object_
    assert answers["names"].tolist() == [["élan".encode(), b"bee"], [b"ant", b"bee"]]


@given(scores=scores_of(WITH_NAN | st.floats(-200, 200, width=32), 5))
def test_sigmoid_is_right_to_the_last_place(scores: Array) -> None:
    made = chain_of(SIGMOID).after({"scores": scores})["p"]
    wanted = scipy.special.expit(scores.astype(np.float64))
    assert made.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(made), np.isnan(scores))
    at = ~np.isnan(scores)
    assert np.all(np.abs(made - wanted)[at] <= 0.51 * np.spacing(wanted.astype(np.float32))[at])


@given(scores=scores_of(SCORES, 7))
def test_softmax_is_scipys(scores: Array) -> None:
    made = chain_of(SOFTMAX, shape=(7,)).after({"scores": scores})["p"]
    wanted = scipy.special.softmax(scores.astype(np.float64), axis=1)
    assert np.all(np.abs(made - wanted) <= 1.51 * np.spacing(wanted.astype(np.float32)))


@given(scores=scores_of(WITH_NAN, 5), at=st.sampled_from([-1.0, 0.0, 0.1, 2.0]))
def test_threshold(scores: Array, at: float) -> None:
    step = Threshold(tensor="scores", at=at, output="on", labels="names")
    answers = chain_of(step).after({"scores": scores})
    wanted = [[float(value) >= np.float32(at) for value in row] for row in scores]
    assert answers["on"].dtype == np.bool_
    assert answers["on"].tolist() == wanted
    texts = [[LABELS[i].encode() if row[i] else b"" for i in range(5)] for row in wanted]
    assert answers["names"].dtype == np.object_
    assert answers["names"].tolist() == texts


def test_a_threshold_of_one_value_has_two_labels() -> None:
    step = Threshold(tensor="p", at=0.5, output="on", labels="name")
    chain = chain_of(SIGMOID, step, shape=(1,), labels=("well", "ill"))
    answers = chain.after({"scores": np.array([[-1], [0], [math.nan]], np.float32)})
    assert answers["on"].tolist() == [[False], [True], [False]]
    assert answers["name"].tolist() == [[b"well"], [b"ill"], [b"well"]]
    assert answers["name"].dtype == np.object_  # as every BYTES array: no width, no NUL lost


@pytest.mark.parametrize("batch_max", [0, 8])
def test_a_single_value_a_row(batch_max: int) -> None:
    step = Threshold(tensor="p", at=0.5, output="on")
    chain = chain_of(SIGMOID, step, shape=(), batch_max=batch_max)
    answers = chain.after({"scores": np.full((2,) if batch_max else (), 3, np.float32)})
    assert answers["on"].tolist() == ([True, True] if batch_max else True)
    assert answers["p"].shape == answers["on"].shape == ((2,) if batch_max else ())


def test_best_scores_and_labels() -> None:
    scores = np.array([[0, 1, math.nan, 1, -3], [math.nan] * 5], np.float32)
    top = TopK(tensor="scores", k=3, output="top", scores="values", labels="names")
    best = ArgMax(tensor="scores", output="class", labels="name")
    answers = chain_of(top, best).after({"scores": scores})
    assert answers["top"].tolist() == [[1, 3, 0], [0, 1, 2]]
    assert answers["values"][0].tolist() == [1, 1, 0]
    assert np.isnan(answers["values"][1]).all()
    assert answers["values"].dtype == np.float32
    assert answers["name"].tolist() == [[b"bee"], [b"ant"]]


@pytest.mark.parametrize("datatype", [DataType.INT8, DataType.UINT64, DataType.INT64])
def test_labels_of_indices(datatype: DataType) -> None:
    indices = np.array([[0, 4, 5], [127, 1, 0]]).astype(datatype.numpy)
    if datatype is not DataType.UINT64:
        indices[1, 2] = -1
    chain = chain_of(Labels(tensor="scores", output="names"), shape=(3,), datatype=datatype)
    names = chain.after({"scores": indices})["names"]
    last = b"ant" if datatype is DataType.UINT64 else b""
    assert names.tolist() == [[b"ant", "élan".encode(), b""], [b"", b"bee", last]]


@pytest.mark.parametrize("datatype", [DataType.FP16, DataType.FP64])
def test_other_floats_are_rounded_to_fp32(datatype: DataType) -> None:
    largest = 1e300 if datatype is DataType.FP64 else np.inf
    scores = np.array([[0.1, -3.0, 7.7, largest, np.nan]]).astype(datatype.numpy)
    steps = (SIGMOID, ARGMAX, Threshold(tensor="scores", at=7.7, output="on"))
    answers = chain_of(*steps, datatype=datatype).after({"scores": scores})
    with np.errstate(over="ignore"):
        exact = scores.astype(np.float32)
    np.testing.assert_array_equal(answers["on"], exact >= np.float32(7.7))
    np.testing.assert_allclose(answers["p"], scipy.special.expit(exact), rtol=1e-6)
    assert answers["class"].tolist() == [[3]]
    assert answers["scores"] is scores


def test_dropped_outputs_are_read_but_not_answered() -> None:
    chain = chain_of(SOFTMAX, ARGMAX, Drop(tensors=("scores", "p")))
    assert list(chain.after({"scores": np.zeros((1, 5), np.float32)})) == ["class"]


def test_all_axes_before_the_last_are_rows() -> None:
    scores = np.arange(2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5)
    step = TopK(tensor="scores", k=2, output="top")
    answers = chain_of(SOFTMAX, ARGMAX, step, shape=(3, 5)).after({"scores": scores})
    assert answers["p"].shape == (2, 3, 5)
    assert answers["class"].tolist() == [[[4]] * 3] * 2
    assert answers["top"].tolist() == [[[4, 3]] * 3] * 2


def test_an_unbatched_output_has_no_rows() -> None:
    scores = np.array([1, 4, 2, 0, 0], np.float32)
    answers = chain_of(SOFTMAX, ARGMAX, batch_max=0).after({"scores": scores})
    assert answers["p"].shape == (5,)
    assert answers["class"].tolist() == [1]


def test_strided_and_read_only_scores() -> None:
    scores = np.asfortranarray(np.arange(10, dtype=np.float32).reshape(2, 5))
    scores.flags.writeable = False
    assert chain_of(ARGMAX).after({"scores": scores})["class"].tolist() == [[4], [4]]


@pytest.mark.parametrize("classes", [0, 4, 6])
def test_another_count_of_classes_is_the_engines_fault(classes: int) -> None:
    with pytest.raises(EngineError, match=f"returned {classes} classes in 'scores'"):
        chain_of(ARGMAX).after({"scores": np.zeros((2, classes), np.float32)})


def test_any_count_of_classes_is_taken_where_the_interface_says_so() -> None:
    chain = chain_of(ARGMAX, SOFTMAX, shape=(-1,))
    for classes in (1, 9):
        answers = chain.after({"scores": np.zeros((2, classes), np.float32)})
        assert answers["p"].shape == (2, classes)
    with pytest.raises(EngineError):
        chain.after({"scores": np.zeros((2, 0), np.float32)})
