"""The drift vector of tables and plain outputs, and what a batch axis changes."""

import numpy as np

from appliance.layout import Floats, OutputValues, TableValues, VectorLayout
from appliance.tensors import Array
from runtime.kernels.vector import DriftVector

NAN, INF = float("nan"), float("inf")


def compute(layout: VectorLayout, **tensors: Array) -> Floats:
    """The vectors of some rows of inputs `x` and outputs `y`."""
    prepared = {name: tensor for name, tensor in tensors.items() if name != "y"}
    vectors = DriftVector(layout).compute(prepared, {"y": tensors["y"]})
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    return vectors


def test_columns_of_a_table_are_the_values_themselves() -> None:
    layout = VectorLayout(batch_axis=True, parts=(TableValues(input="x", columns=("age", "dose")),))
    rows = np.asarray([[1, 2, 3], [NAN, INF, 6]], np.float64)
    np.testing.assert_array_equal(compute(layout, x=rows, y=rows), [[1, 2], [NAN, INF]])


def test_parts_stand_side_by_side() -> None:
    parts = (OutputValues(output="y", columns=2), TableValues(input="x", columns=("age",)))
    found = compute(
        VectorLayout(batch_axis=True, parts=parts),
        x=np.asarray([[1], [2]]),
        y=np.asarray([[3, 4, 5], [6, 7, 8]]),
    )
    assert found.tolist() == [[3.0, 4.0, 1.0], [6.0, 7.0, 2.0]]


def test_a_value_too_large_for_float32_becomes_infinite() -> None:
    layout = VectorLayout(batch_axis=True, parts=(TableValues(input="x", columns=("age",)),))
    assert compute(layout, x=np.asarray([[1e300]]), y=np.zeros(1)).tolist() == [[INF]]


def test_without_a_batch_axis_a_run_is_one_row() -> None:
    parts = (TableValues(input="x", columns=("a", "b")), OutputValues(output="y", columns=1))
    layout = VectorLayout(batch_axis=False, parts=parts)
    assert compute(layout, x=np.asarray([1, 2]), y=np.asarray(3.0)).tolist() == [[1.0, 2.0, 3.0]]


def test_an_empty_layout_gives_rows_without_values() -> None:
    layout = VectorLayout(batch_axis=True, parts=())
    assert compute(layout, y=np.zeros((5, 2))).shape == (5, 0)
