"""Nodes on which the reference itself is wrong or random are refused by name; their honest kin are not."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.errors import SourceUnsupported
from compiler.opening.deviations import check_deviations
from compiler.opening.source import open_source


def model_of(node: onnx.NodeProto, shape=("n", 1, 4, 4), **constants) -> onnx.ModelProto:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def resize(scales, **options) -> onnx.ModelProto:
    options = {"coordinate_transformation_mode": "align_corners", "mode": "linear"} | options
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], name="node", **options)
    return model_of(node, scales=np.array(scales, np.float32))


def dropout(*more: str, **constants) -> onnx.ModelProto:
    inputs = ["x", "ratio", *more]
    node = helper.make_node("Dropout", inputs, ["y"], name="node")
    return model_of(node, ratio=np.array(0.5, np.float32), **constants)


def attention(*mask: str, **options) -> onnx.ModelProto:
    inputs = ["x", "x", "x", *mask]
    node = helper.make_node("Attention", inputs, ["y", "", "", "qk"], name="node", **options)
    model = model_of(node)
    model.graph.output.add(name="qk")
    return model


def unpool(*more: str) -> onnx.ModelProto:
    node = helper.make_node(
        "MaxUnpool", ["x", "at", *more], ["y"], name="node", kernel_shape=[2, 2]
    )
    return model_of(node, at=np.zeros((1, 1, 4, 4), np.int64), shape_=np.array([1, 1, 8, 8]))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (resize([1, 1, 0.6, 0.6]), "is given scales under align_corners"),
        (dropout("on", on=np.array(True)), "may draw random numbers"),
        (dropout("x"), "may draw random numbers"),
        (attention("x", is_causal=1), "where ONNX says -inf"),
        (unpool("shape_"), "has an output_shape"),
        (
            model_of(helper.make_node("RandomNormalLike", ["x"], ["y"], name="node")),
            "draws random numbers",
        ),
    ],
)
def test_what_the_reference_gets_wrong_is_refused(model, told):
    with pytest.raises(SourceUnsupported) as refused:
        check_deviations(model, 4)
    assert "node 'node' (" in str(refused.value)
    assert told in str(refused.value)
    assert refused.value.remedy


@pytest.mark.parametrize(
    "model",
    [
        resize([1, 1, 2, 0.5]),
        resize([1, 1, 0.6, 0.6], coordinate_transformation_mode="half_pixel"),
        resize([]),
        dropout(),
        dropout("off", off=np.array(False)),
        attention("x"),
        attention(is_causal=1),
        unpool(),
    ],
)
def test_what_it_gets_right_is_taken(model):
    check_deviations(model, 4)


def test_a_node_inside_a_branch_is_found():
    branch = helper.make_graph(
        [helper.make_node("RandomUniform", [], ["z"], name="inner", shape=[1])],
        "b",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])],
    )
    node = helper.make_node("If", ["sure"], ["y"], then_branch=branch, else_branch=branch)
    with pytest.raises(SourceUnsupported, match="'inner'"):
        check_deviations(model_of(node, sure=np.array(True)), 4)


@pytest.mark.parametrize(("opset", "ir_version"), [(27, 10), (18, 14)])
def test_what_the_engines_cannot_read_is_told_before_they_try(tmp_path, opset, ir_version):
    model = model_of(helper.make_node("Relu", ["x"], ["y"]))
    model.opset_import[0].version, model.ir_version = opset, ir_version
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(SourceUnsupported, match="the engines read"):
        open_source(tmp_path / "m.onnx")


def division(op: str, *inputs: str, kind=TensorProto.INT32, **constants) -> onnx.ModelProto:
    """An integer division of the inputs x and d."""
    graph = helper.make_graph(
        [helper.make_node(op, inputs, ["y"], name="node")],
        "g",
        [helper.make_tensor_value_info(name, kind, ["n"]) for name in ("x", "d")],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.array(c, np.int32), name) for name, c in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("op", ["Div", "Mod"])
def test_a_division_that_may_end_the_process_is_refused(op):
    """The lowest integer by -1 traps on x86; a request could hold both."""
    for model in (division(op, "x", "d"), division(op, "x", "c", c=[3] * 70 + [-1])):
        with pytest.raises(SourceUnsupported, match="ends the process that computes it"):
            check_deviations(model, 8)
    check_deviations(division(op, "x", "c", c=[3]), 8)
    check_deviations(division(op, "x", "d", kind=TensorProto.UINT32), 8)
    check_deviations(division("Div", "x", "d", kind=TensorProto.FLOAT), 8)
