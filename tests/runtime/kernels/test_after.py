"""Steps after the engine against plain numpy in FP64."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from appliance.errors import EngineError
from appliance.fitting import served_interface
from appliance.recipe import AfterStep, ArgMax, Recipe, Softmax, TopK
from appliance.tensors import Array, DataType, Interface, TensorSpec
from runtime.kernels.chain import Chain

SOFTMAX = Softmax(tensor="scores", output="p")
ARGMAX = ArgMax(tensor="scores", output="class")
SCORES = st.floats(-50, 50, width=32) | st.integers(-2, 2).map(float)
WITH_NAN = SCORES | st.just(float("nan")) | st.just(-math.inf)
QUICK = settings(deadline=None)


def chain_of(*steps: AfterStep, shape: tuple[int, ...] = (5,), batch_max: int = 8) -> Chain:
    scores = TensorSpec(name="scores", datatype=DataType.FP32, shape=shape)
    engine = Interface(inputs=(), outputs=(scores,), batch_max=batch_max)
    recipe = Recipe(after=steps, labels=("ant", "bee", "cat", "dog", "élan"))
    return Chain(recipe, served=served_interface(recipe, engine), engine=engine)


def scores_of(elements: st.SearchStrategy[float], classes: int) -> st.SearchStrategy[Array]:
    rows = st.integers(1, 4).map(lambda count: (count, classes))
    return rows.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=elements))


def best_first(row: Array) -> list[int]:
    """Indices by score, equal ones by index, NaN last."""
    return sorted(range(row.size), key=lambda i: (bool(np.isnan(row[i])), -row[i], i))


@given(scores=scores_of(SCORES, 7))
@QUICK
def test_softmax_is_right_to_the_last_place(scores: Array) -> None:
    made = chain_of(SOFTMAX, shape=(7,)).after({"scores": scores})["p"]
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    wanted = powers / powers.sum(axis=1, keepdims=True)
    assert made.dtype == np.float32
    assert np.all(np.abs(made - wanted) <= 0.51 * np.spacing(wanted.astype(np.float32)))


@given(scores=scores_of(WITH_NAN, 5))
@QUICK
def test_argmax(scores: Array) -> None:
    made = chain_of(ARGMAX).after({"scores": scores})["class"]
    assert made.dtype == np.int64
    assert made.tolist() == [[best_first(row)[0]] for row in scores]


@given(scores=scores_of(WITH_NAN, 5), k=st.integers(1, 5))
@QUICK
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
