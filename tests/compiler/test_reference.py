"""What the reference refuses: models that do not compute what they declare, or mix rows."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from appliance.errors import SourceUnsupported, SpecError
from appliance.manifest import Tolerance
from appliance.recipe import Recipe
from compiler.opening.graph import interface_of
from compiler.opening.source import Source
from compiler.progress import Silent
from compiler.reference import Reference
from compiler.rows.samples import Rows
from compiler.sealing import Sealing


def sealing_of(model: onnx.ModelProto, batch_max: int) -> Sealing:
    source = Source(data=model.SerializeToString(), model=model)
    engine = interface_of(source, batch_max)
    return Sealing(Reference(source, Recipe(), engine), Recipe(), engine, Silent())


def golden(model, rows, *, count=2, batch_max=8):
    sample = Rows(inputs={"x": np.asarray(rows, np.float32)})
    return sealing_of(model, batch_max).golden(sample, count, Tolerance())[0]


@pytest.fixture
def mixing(make_onnx) -> onnx.ModelProto:
    """scores = x - the mean of all rows."""
    return make_onnx(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["scores"]),
        ],
        outputs={"scores": (TensorProto.FLOAT, ["rows", 3])},
        constants={},
    )


@pytest.fixture
def lying(make_onnx):
    """Makes a model that declares (rows, 6) or [1, 6] and gives 12 columns: lying("rows")."""

    def make(rows) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Mul", ["shape", "factors"], ["wanted"]),
            helper.make_node("Concat", ["x", "x"], ["twice"], axis=1),
            helper.make_node("Reshape", ["twice", "wanted"], ["scores"]),
        ]
        return make_onnx(
            nodes,
            inputs={"x": (TensorProto.FLOAT, [rows, 6])},
            outputs={"scores": (TensorProto.FLOAT, [rows, 6])},
            constants={"factors": np.array([1, 2], np.int64)},
        )

    return make


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(-99, 99), min_size=2, max_size=20, unique=True), st.integers(2, 9))
def test_a_model_that_mixes_rows_is_refused(mixing, values, batch_max):
    """The golden rows are run alone too; 1 row a call, or one alone in the sample, shows nothing."""
    rows = [[value] * 3 for value in values]
    with pytest.raises(SourceUnsupported) as refused:
        golden(mixing, rows, count=len(rows), batch_max=batch_max)
    assert "does not keep rows apart" in str(refused.value)
    assert "batch_max = 0" in refused.value.remedy


@pytest.mark.parametrize("value", [1.0, np.nan])
@pytest.mark.parametrize("count", [1, 3])
def test_golden_rows_that_are_all_alike_are_refused(make_onnx, count, value):
    with pytest.raises(SpecError) as refused:
        golden(make_onnx(), np.full((5, 3), value), count=count)
    assert "all alike" in str(refused.value)
    golden(make_onnx(), np.ones((5, 3)), count=count, batch_max=1)


def test_one_request_at_a_time_may_mix_its_own_rows(mixing):
    sample = Rows(inputs={"x": np.ones((1, 2, 3), np.float32)})
    vectors, _ = sealing_of(mixing, 0).golden(sample, 1, Tolerance())
    np.testing.assert_array_equal(vectors.outputs["scores"], np.zeros((1, 2, 3)))


@pytest.mark.parametrize(("rows", "batch_max"), [("rows", 8), (1, 0)])
def test_what_comes_out_must_be_what_the_graph_declares(lying, rows, batch_max):
    shape = (2, 6) if batch_max else (2, 1, 6)
    sample = np.arange(12).reshape(shape)
    with pytest.raises(SourceUnsupported) as refused:
        golden(lying(rows), sample, batch_max=batch_max)
    assert "12], the graph declares FP32" in str(refused.value)


def test_batches_whose_shape_depends_on_their_values_are_refused(make_onnx):
    """x sliced to as many columns as its largest value says."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["count"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["count", "zero"], ["end"]),
        helper.make_node("Slice", ["x", "zero", "end", "one"], ["scores"]),
    ]
    model = make_onnx(
        nodes,
        outputs={"scores": (TensorProto.FLOAT, ["rows", "columns"])},
        constants={"zero": np.array([0], np.int64), "one": np.array([1], np.int64)},
    )
    sample = [[1, 1, 1], [1, 0, 1], [3, 1, 1], [1, 1, 1]]
    with pytest.raises(SourceUnsupported, match="depends on its values"):
        golden(model, sample, batch_max=2)
