"""The interface, read from the graph."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from appliance.errors import SourceUnsupported, SpecError
from appliance.tensors import DataType
from compiler.opening.graph import computed_tensors, graph_notes, interface_of
from compiler.opening.source import Source
from compiler.spec import BATCH_MAX


@pytest.fixture
def derive(make_onnx):
    """Derives the interface of a model made by `make_onnx`."""

    def derive(batch_max=None, **parts):
        return interface_of(Source(data=b"", model=make_onnx(**parts)), batch_max)

    return derive


def test_an_open_first_axis_everywhere_is_the_batch_axis(derive):
    found = derive(batch_max=4)
    assert found.batch_max == 4
    assert [(spec.name, spec.datatype, spec.shape) for spec in found.inputs] == [
        ("x", DataType.FP32, (3,))
    ]
    assert [(spec.name, spec.shape) for spec in found.outputs] == [("scores", (4,))]


def test_the_batch_is_limited_by_default_and_can_be_declined(derive):
    assert derive().batch_max == BATCH_MAX
    unbatched = derive(batch_max=0)
    assert unbatched.batch_max == 0
    assert unbatched.inputs[0].shape == (-1, 3)


def test_an_axis_without_a_name_is_open_too(derive):
    assert derive(inputs={"x": (TensorProto.FLOAT, [None, 3])}).inputs[0].shape == (3,)


@pytest.mark.parametrize("rows", [1, 5])
def test_a_fixed_first_axis_means_one_request_at_a_time(derive, rows):
    fixed = {
        "inputs": {"x": (TensorProto.FLOAT, [rows, 3])},
        "outputs": {"scores": (TensorProto.FLOAT, [rows, 4])},
    }
    assert derive(**fixed).batch_max == 0
    assert derive(batch_max=0, **fixed).inputs[0].shape == (rows, 3)
    with pytest.raises(SpecError) as refused:
        derive(batch_max=8, **fixed)
    assert f"'x' [{rows}, 3], 'scores' [{rows}, 4]" in str(refused.value)
    assert f"fixed at {rows}, as the model was exported" in str(refused.value)
    assert "dynamic first axis" in refused.value.remedy


def test_one_tensor_without_the_axis_is_enough_to_have_none_and_is_told(derive, make_onnx):
    parts = {
        "nodes": [
            helper.make_node("MatMul", ["x", "w"], ["scores"]),
            helper.make_node("ReduceSum", ["scores"], ["total"], keepdims=0),
        ],
        "outputs": {
            "scores": (TensorProto.FLOAT, ["rows", 4]),
            "total": (TensorProto.FLOAT, []),
        },
    }
    assert derive(**parts).batch_max == 0
    (note,) = graph_notes(Source(data=b"", model=make_onnx(**parts)), None)
    assert "served one at a time: the first axis is open on 'x', 'scores' only" in note
    with pytest.raises(SpecError) as refused:
        derive(batch_max=2, **parts)
    assert "'total' []" in str(refused.value)


def test_shapes_left_out_are_inferred(derive):
    assert derive(outputs={"scores": (TensorProto.FLOAT, None)}).outputs[0].shape == (4,)


def test_initialisers_listed_as_inputs_are_none(make_onnx):
    model = make_onnx()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 4]))
    found = interface_of(Source(data=b"", model=model), None)
    assert [spec.name for spec in found.inputs] == ["x"]


@pytest.mark.parametrize(
    ("kind", "datatype"),
    [
        (TensorProto.FLOAT16, DataType.FP16),
        (TensorProto.DOUBLE, DataType.FP64),
        (TensorProto.INT8, DataType.INT8),
        (TensorProto.UINT64, DataType.UINT64),
        (TensorProto.BOOL, DataType.BOOL),
        (TensorProto.STRING, DataType.BYTES),
    ],
)
def test_datatypes_have_the_protocols_names(derive, kind, datatype):
    found = derive(
        nodes=[helper.make_node("Identity", ["x"], ["y"])],
        inputs={"x": (kind, ["rows"])},
        outputs={"y": (kind, ["rows"])},
        constants={},
    )
    assert found.inputs[0].datatype is datatype


@pytest.mark.parametrize(
    "kind", [TensorProto.BFLOAT16, TensorProto.FLOAT8E5M2, TensorProto.COMPLEX64]
)
def test_datatypes_that_are_not_served_are_refused_by_name(derive, kind):
    with pytest.raises(SourceUnsupported) as refused:
        derive(
            nodes=[helper.make_node("Identity", ["x"], ["y"])],
            inputs={"x": (kind, ["rows"])},
            outputs={"y": (kind, ["rows"])},
            constants={},
        )
    assert f"'x' is of type {TensorProto.DataType.Name(kind)}" in str(refused.value)


def test_what_is_no_tensor_is_refused(make_onnx):
    model = make_onnx()
    model.graph.output[0].CopyFrom(
        helper.make_tensor_sequence_value_info("scores", TensorProto.FLOAT, ["rows", 4])
    )
    model.graph.node[0].CopyFrom(helper.make_node("SequenceConstruct", ["x"], ["scores"]))
    with pytest.raises(SourceUnsupported) as refused:
        interface_of(Source(data=b"", model=model), None)
    assert "zipmap=False" in refused.value.remedy


def test_an_output_of_unknown_rank_is_refused(make_onnx):
    model = make_onnx(
        [helper.make_node("Reshape", ["x", "shape"], ["scores"])],
        inputs={
            "x": (TensorProto.FLOAT, ["rows", 3]),
            "shape": (TensorProto.INT64, ["axes"]),
        },
        outputs={"scores": (TensorProto.FLOAT, None)},
        constants={},
    )
    with pytest.raises(SourceUnsupported) as refused:
        interface_of(Source(data=b"", model=model), None)
    assert "number of axes" in str(refused.value)


def test_a_model_that_takes_nothing_is_refused(make_onnx):
    model = make_onnx([helper.make_node("Identity", ["w"], ["scores"])])
    model.graph.ClearField("input")
    with pytest.raises(SourceUnsupported) as refused:
        interface_of(Source(data=b"", model=model), None)
    assert "no input" in str(refused.value)


def computed(model) -> dict[str, str]:
    found = computed_tensors(Source(data=b"", model=model))
    return {item.tensor: item.type for item in found}


def test_what_is_computed_from_shapes_is_not_computed_from_values(make_onnx):
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Mul", ["shape", "two"], ["wanted"]),
        helper.make_node("Concat", ["x", "x"], ["twice"], axis=1),
        helper.make_node("Reshape", ["twice", "wanted"], ["scores"]),
    ]
    constants = {"two": np.array([1, 2], np.int64)}
    assert computed(make_onnx(nodes, constants=constants)) == {
        "twice": "FLOAT",
        "scores": "FLOAT",
    }


def test_a_tensor_inside_a_branch_is_computed_too(make_onnx):
    info = helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Cast", ["wide"], ["inside"], to=TensorProto.FLOAT),
    ]
    branch = helper.make_graph(nodes, "branch", [], [info])
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["outside"])],
        "other",
        [],
        [helper.make_tensor_value_info("outside", TensorProto.FLOAT, None)],
    )
    choose = helper.make_node(
        "If", ["condition"], ["scores"], then_branch=branch, else_branch=other
    )
    found = computed(make_onnx([choose], constants={"condition": np.array(True)}))
    assert found["wide"] in ("INT64", "")
    assert found["scores"] == "FLOAT"
