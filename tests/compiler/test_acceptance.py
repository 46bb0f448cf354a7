"""Task metrics and thresholds."""

import numpy as np
import pytest

from appliance.errors import SpecError, ThresholdMissed
from appliance.manifest import Acceptance, Metric
from appliance.tensors import DataType, Interface, TensorSpec
from compiler.acceptance import accuracy, check_acceptance, reached


def threshold(minimum: float = 0.5, output: str = "y") -> Acceptance:
    return Acceptance(metric=Metric.ACCURACY, output=output, minimum=minimum)


def interface(*shape: int, datatype: DataType = DataType.FP32) -> Interface:
    return Interface(
        inputs=(), outputs=(TensorSpec(name="y", datatype=datatype, shape=shape),), batch_max=8
    )


def test_accuracy_is_the_share_of_rows_whose_largest_score_is_the_labels():
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5], [0.0, 1.0]])
    assert accuracy(scores, np.array([1, 0, 0, 0])) == 0.75


def test_a_row_with_nan_counts_as_wrong():
    scores = np.array([[np.nan, 0.1], [0.1, np.nan], [1.0, 0.0]])
    assert accuracy(scores, np.array([0, 1, 0])) == pytest.approx(1 / 3)


@pytest.mark.parametrize("shape", [(4, 2), (4, 1, 2)])
def test_a_threshold_is_reached_or_missed_with_its_value(shape):
    scores = np.array([[0.0, 1.0]] * 4).reshape(shape)
    labels = np.array([1, 1, 1, 0])
    (value,) = reached((threshold(0.75),), {"y": scores}, labels)
    assert value.value == 0.75
    with pytest.raises(ThresholdMissed) as missed:
        reached((threshold(0.76),), {"y": scores}, labels)
    assert "accuracy of 'y' on 4 held-out rows is 0.7500" in str(missed.value)


def test_no_threshold_needs_nothing():
    assert reached((), {}, None) == ()
    check_acceptance((), interface(2), None)


@pytest.mark.parametrize("engine", [interface(3), interface(1, 3), interface(-1)])
def test_thresholds_that_can_be_computed_pass(engine):
    check_acceptance((threshold(),), engine, np.array([0, 2]))


@pytest.mark.parametrize(
    ("engine", "output", "labels", "told"),
    [
        (interface(3), "z", [0], "'z'"),
        (interface(), "y", [0], "one value a class"),
        (interface(2, 3), "y", [0], "one value a class"),
        (interface(3, datatype=DataType.BYTES), "y", [0], "one value a class"),
        (interface(3), "y", None, "true classes"),
        (interface(3), "y", [0, 3], "from 0 to 3"),
        (interface(3), "y", [-1, 0], "from -1 to 0"),
    ],
)
def test_thresholds_that_cannot_be_computed_are_refused(engine, output, labels, told):
    given = None if labels is None else np.array(labels)
    with pytest.raises(SpecError) as refused:
        check_acceptance((threshold(output=output),), engine, given)
    assert told in str(refused.value)
