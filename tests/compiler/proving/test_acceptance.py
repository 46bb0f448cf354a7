"""Thresholds: whether each can be computed, and whether it was reached."""

import sys

import numpy as np
import pytest

from appliance.errors import SpecError, ThresholdMissed
from appliance.manifest import Acceptance, Metric
from appliance.tensors import DataType, Interface, TensorSpec
from compiler.proving.acceptance import check_acceptance, reached, value_text
from compiler.rows.truth import Truth

MEAN, ROOT = Metric.MEAN_ABSOLUTE_ERROR, Metric.ROOT_MEAN_SQUARED_ERROR


def threshold(minimum: float | None = 0.5, output: str = "y", **changes) -> Acceptance:
    return Acceptance(
        **{"metric": Metric.ACCURACY, "output": output, "minimum": minimum, **changes}
    )


def error_threshold(maximum: float | None = 1.0, metric: Metric = MEAN, **changes) -> Acceptance:
    return Acceptance(**{"metric": metric, "output": "y", "maximum": maximum, **changes})


def interface(*shape: int, datatype: DataType = DataType.FP32) -> Interface:
    return Interface(
        inputs=(), outputs=(TensorSpec(name="y", datatype=datatype, shape=shape),), batch_max=8
    )


def truth(labels=None, **segments) -> Truth:
    return Truth(
        labels=None if labels is None else np.array(labels),
        segments={name: np.array(column) for name, column in segments.items()},
    )


@pytest.mark.parametrize("shape", [(4, 2), (4, 1, 2)])
def test_a_threshold_is_reached_or_missed_with_its_value(shape):
    scores = np.array([[0.0, 1.0]] * 4).reshape(shape)
    known = truth([1, 1, 1, 0])
    (value,) = reached((threshold(0.75),), {"y": scores}, known)
    assert (value.value, value.rows, value.segment) == (0.75, 4, None)
    with pytest.raises(ThresholdMissed) as missed:
        reached((threshold(0.76),), {"y": scores}, known)
    assert (
        str(missed.value)
        == "accuracy of 'y' on 4 held-out rows is 0.7500, which misses at least 0.76"
    )


def test_each_value_of_a_segment_must_reach_its_threshold():
    scores = np.eye(2)[[0, 0, 1, 1, 1]]
    known = truth([0, 0, 1, 1, 0], site=["b", "a", "b", "b", "a"])
    values = reached((threshold(0.5, segment="site"), threshold(0.8)), {"y": scores}, known)
    assert [(v.segment, v.rows, v.value) for v in values] == [
        ("a", 2, 0.5),
        ("b", 3, 1.0),
        (None, 5, 0.8),
    ]
    with pytest.raises(ThresholdMissed, match=r"on 2 held-out rows with site = a is 0.5000"):
        reached((threshold(0.6, segment="site"),), {"y": scores}, known)


def test_many_missed_segments_are_told_in_a_few_words():
    known = truth([0] * 9, device=np.arange(9))
    with pytest.raises(ThresholdMissed) as missed:
        reached((threshold(0.5, segment="device"),), {"y": np.eye(2)[[1] * 9]}, known)
    assert "on 1 held-out row with device = 0 is 0.0000" in str(missed.value)
    assert str(missed.value).endswith("; and 4 more")


@pytest.mark.parametrize(("metric", "value"), [(MEAN, 1.0), (ROOT, 2.0**0.5)])
def test_an_error_must_stay_under_its_maximum(metric, value):
    outputs, known = {"y": np.array([[1.0], [2.0]])}, truth([1.0, 4.0])
    (found,) = reached((error_threshold(1.5, metric),), outputs, known)
    assert found.value == pytest.approx(value)
    with pytest.raises(ThresholdMissed, match=r"which misses at most 0.5"):
        reached((error_threshold(0.5, metric),), outputs, known)


def test_an_error_over_nan_reaches_no_threshold():
    with pytest.raises(ThresholdMissed) as missed:
        reached((error_threshold(1e300),), {"y": np.array([[np.nan]])}, truth([1.0]))
    assert "is 1.8e+308" in str(missed.value)
    assert value_text(sys.float_info.max) == "1.8e+308"


def test_no_threshold_needs_nothing():
    assert reached((), {}, Truth()) == ()
    check_acceptance((), interface(2), Truth())


@pytest.mark.parametrize(
    ("item", "engine", "labels"),
    [
        (threshold(), interface(3), [0, 2]),
        (threshold(metric=Metric.MACRO_F1), interface(1, 3), [0, 2]),
        (threshold(), interface(-1), [0, 2]),
        (error_threshold(), interface(1), [0.5, 2.0]),
        (error_threshold(), interface(), [0, 2]),
        (error_threshold(), interface(2), [[0.5, 2.0]]),
        (threshold(segment="site"), interface(3), [0, 2]),
    ],
)
def test_thresholds_that_can_be_computed_pass(item, engine, labels):
    check_acceptance((item,), engine, truth(labels, site=["a"] * len(labels)))


@pytest.mark.parametrize(
    ("item", "engine", "labels", "told"),
    [
        (threshold(output="z"), interface(3), [0], "'z'"),
        (threshold(), interface(), [0], "one value a class"),
        (threshold(), interface(2, 3), [0], "one value a class"),
        (threshold(), interface(3, datatype=DataType.BYTES), [0], "of numbers"),
        (threshold(), interface(3), None, "true classes"),
        (threshold(), interface(3), [0.0], "'label' is float64"),
        (threshold(), interface(3), [[0]], "'label' is int64 [1, 1]"),
        (threshold(), interface(3), [0, 3], "from 0 to 3"),
        (threshold(), interface(3), [-1, 0], "from -1 to 0"),
        (threshold(None), interface(3), [0], "must have a minimum and no maximum"),
        (threshold(maximum=1.0), interface(3), [0], "must have a minimum and no maximum"),
        (error_threshold(None), interface(1), [0.5], "must have a maximum and no minimum"),
        (error_threshold(minimum=0.5), interface(1), [0.5], "a maximum and no minimum"),
        (error_threshold(float("inf")), interface(1), [0.5], "a maximum and no minimum"),
        (error_threshold(), interface(1), None, "true values"),
        (error_threshold(), interface(2), [0.5], "'y' has shape [2] a row, 'label' []"),
        (error_threshold(), interface(-1), [0.5], "'y' has shape [-1]"),
        (threshold(segment="Site"), interface(3), [0], "which have ['site']"),
    ],
)
def test_thresholds_that_cannot_be_computed_are_refused(item, engine, labels, told):
    known = truth(labels, site=["a"])
    with pytest.raises(SpecError) as refused:
        check_acceptance((item,), engine, known)
    assert told in str(refused.value)
    assert refused.value.remedy
