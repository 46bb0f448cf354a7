"""The task metrics, against definitions written another way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.manifest import Metric
from compiler.proving.metrics import faults, value_of


def test_accuracy_is_the_share_of_rows_whose_largest_score_is_the_labels():
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5], [0.0, 1.0]])
    assert value_of(Metric.ACCURACY, scores, np.array([1, 0, 0, 0])) == 0.75


def test_a_row_with_nan_counts_as_wrong():
    scores = np.array([[np.nan, 0.1], [0.1, np.nan], [1.0, 0.0]])
    labels = np.array([0, 1, 0])
    assert value_of(Metric.ACCURACY, scores, labels) == pytest.approx(1 / 3)
    assert value_of(Metric.MACRO_F1, scores, labels) == pytest.approx((2 / 3 + 0) / 2)
    assert np.isnan(value_of(Metric.MEAN_ABSOLUTE_ERROR, np.array([[np.nan]]), np.array([1.0])))


@given(st.integers(1, 40), st.integers(2, 5), st.integers(0, 999))
def test_macro_f1_is_the_mean_of_the_harmonic_means(rows, classes, seed):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, classes, rows), rng.integers(0, classes, rows)
    means = []
    for one in set(labels.tolist()):
        precision = np.mean(labels[predicted == one] == one) if (predicted == one).any() else 0.0
        recall = np.mean(predicted[labels == one] == one)
        means.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    found = value_of(Metric.MACRO_F1, np.eye(classes)[predicted], labels)
    assert found == pytest.approx(np.mean(means))


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=30))
def test_errors_are_those_of_plain_arithmetic(pairs):
    values = np.array([[value] for value, _ in pairs])
    labels = np.array([label for _, label in pairs])
    gaps = [abs(value - label) for value, label in pairs]
    assert value_of(Metric.MEAN_ABSOLUTE_ERROR, values, labels) == pytest.approx(
        sum(gaps) / len(gaps)
    )
    assert value_of(Metric.ROOT_MEAN_SQUARED_ERROR, values, labels) == pytest.approx(
        (sum(gap * gap for gap in gaps) / len(gaps)) ** 0.5
    )


def test_several_true_values_a_row_are_compared_one_by_one():
    values, labels = np.array([[[1.0, 2.0]], [[3.0, 5.0]]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    assert value_of(Metric.MEAN_ABSOLUTE_ERROR, values, labels) == 0.25
    np.testing.assert_array_equal(faults(Metric.MEAN_ABSOLUTE_ERROR, values, labels), [0.0, 1.0])


def test_how_wrong_a_row_is_follows_its_margin():
    scores = np.array([[0.9, 0.1], [0.4, 0.6], [np.nan, 1.0]])
    found = faults(Metric.ACCURACY, scores, np.array([0, 0, 1]))
    np.testing.assert_allclose(found, [-0.8, 0.2, np.inf])
