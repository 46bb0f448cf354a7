"""int8 as explicit types."""

import logging
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from appliance.errors import EngineBuild
from appliance.manifest import Precision
from compiler.precision import Ranges, lowered
from compiler.precision.ordering import sort_nodes

RNG = np.random.default_rng(9)


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def error(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(got - wanted).max() / np.ptp(wanted))


@pytest.fixture
def pixels():
    """Rows of the digits CNN."""
    return {"pixels": RNG.uniform(-1, 1, size=(8, 1, 16, 16)).astype(np.float32)}


def test_it_is_symmetric_signed_and_per_channel_with_biases_in_fp32(digits, pixels, ranges_of):
    graph = lowered(digits, Precision.INT8, ranges_of(digits, pixels)).model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    scales = {}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = constants[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
            scales[node.input[0]] = constants[node.input[1]].shape
    (first,) = [node for node in graph.node if node.name == "/first/Conv"]
    (weight,) = [node for node in graph.node if node.output[0] == first.input[1]]
    assert scales[weight.input[0]] == (constants[weight.input[0]].shape[0],)
    assert constants[first.input[2]].dtype == np.float32
    assert Counter(node.op_type for node in graph.node)["Conv"] == 2


def test_the_digits_network_computes_the_same_within_the_bound(
    digits, pixels, ranges_of, run_source
):
    made = lowered(digits, Precision.INT8, ranges_of(digits, pixels))
    assert len(made.data) < len(digits.data)
    wanted = run_source(digits, pixels)["logits"]
    assert error(run_source(made, pixels)["logits"], wanted) < 0.03


def test_a_transformer_computes_the_same_within_the_bound(transformer, ranges_of, run_source):
    inputs = {"embedded": RNG.normal(size=(4, 8, 32)).astype(np.float32)}
    made = lowered(transformer, Precision.INT8, ranges_of(transformer, inputs))
    wanted = run_source(transformer, inputs)["hidden"]
    assert error(run_source(made, inputs)["hidden"], wanted) < 0.05


@pytest.mark.parametrize("case", [(b, c) for b in (1.0, 0.25, -2.0) for c in (True, False)])
def test_a_gemm_keeps_its_beta(make_onnx, make_source, ranges_of, run_source, case):
    """The library's quantiser resets beta to 1 whether or not it quantised the bias with it."""
    beta, constant = case
    bias = weights(4) * 3
    inputs = {"x": RNG.normal(size=(8, 3)).astype(np.float32)}
    edges = {"x": (TensorProto.FLOAT, ["rows", 3])}
    if not constant:
        edges["bias"] = (TensorProto.FLOAT, ["rows", 4])
        inputs["bias"] = np.repeat(bias[None], 8, axis=0)
    source = make_source(
        make_onnx(
            [helper.make_node("Gemm", ["x", "w", "bias"], ["scores"], beta=beta)],
            inputs=edges,
            constants={"w": weights(3, 4)} | ({"bias": bias} if constant else {}),
        )
    )
    wanted = run_source(source, inputs)["scores"]
    made = lowered(source, Precision.INT8, ranges_of(source, inputs))
    assert error(run_source(made, inputs)["scores"], wanted) < 0.02


def test_two_gemms_that_share_a_bias_each_scale_their_own(
    make_onnx, make_source, ranges_of, run_source
):
    nodes = [
        helper.make_node("Gemm", ["x", "v", "bias"], ["hidden"], beta=3.0),
        helper.make_node("Gemm", ["hidden", "w", "bias"], ["scores"]),
    ]
    constants = {"v": weights(3, 4), "w": weights(4, 4), "bias": weights(4)}
    source = make_source(make_onnx(nodes, constants=constants))
    inputs = {"x": RNG.normal(size=(8, 3)).astype(np.float32)}
    wanted = run_source(source, inputs)["scores"]
    made = lowered(source, Precision.INT8, ranges_of(source, inputs))
    assert error(run_source(made, inputs)["scores"], wanted) < 0.03


def test_a_weight_without_channels_stays_in_fp32(make_onnx, make_source, ranges_of, run_source):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("MatMul", ["product", "v"], ["scores"]),
    ]
    source = make_source(
        make_onnx(
            nodes,
            outputs={"scores": (TensorProto.FLOAT, ["rows"])},
            constants={"w": weights(3, 4), "v": weights(4)},
        )
    )
    inputs = {"x": RNG.normal(size=(8, 3)).astype(np.float32)}
    made = lowered(source, Precision.INT8, ranges_of(source, inputs))
    (last,) = [node for node in made.model.graph.node if node.input[1:2] == ["v"]]
    assert last.op_type == "MatMul"
    wanted = run_source(source, inputs)["scores"]
    assert error(run_source(made, inputs)["scores"], wanted) < 0.02


def test_an_older_opset_is_raised_to_the_one_that_knows_channels(
    make_onnx, make_source, ranges_of, run_source
):
    source = make_source(make_onnx(opset=11))
    inputs = {"x": RNG.normal(size=(8, 3)).astype(np.float32)}
    made = lowered(source, Precision.INT8, ranges_of(source, inputs))
    assert made.model.opset_import[0].version == 13
    wanted = run_source(source, inputs)["scores"]
    assert error(run_source(made, inputs)["scores"], wanted) < 0.02


def test_without_calibration_it_is_refused(digits):
    with pytest.raises(EngineBuild) as refused:
        lowered(digits, Precision.INT8)
    assert "no calibration" in str(refused.value)
    assert "pack" in refused.value.remedy


def test_ranges_of_another_graph_are_refused(digits, pixels, ranges_of):
    ranges = ranges_of(digits, pixels)
    fewer = Ranges(calibration=ranges.calibration, tensors={"pixels": ranges.tensors["pixels"]})
    with pytest.raises(EngineBuild) as refused:
        lowered(digits, Precision.INT8, fewer)
    assert "no range of '/first/Conv_output_0'" in str(refused.value)


def test_a_tensor_that_is_always_zero_is_no_division_by_zero(
    make_onnx, make_source, ranges_of, run_source
):
    source = make_source(make_onnx())
    made = lowered(source, Precision.INT8, ranges_of(source, {"x": np.zeros((4, 3), np.float32)}))
    got = run_source(made, {"x": np.zeros((2, 3), np.float32)})["scores"]
    np.testing.assert_array_equal(got, 0)


def test_constants_that_are_also_inputs_stay_what_they_are(
    make_onnx, make_source, ranges_of, run_source
):
    """Before IR version 4 every constant was listed among the inputs."""
    model = make_onnx(opset=9)
    model.ir_version = 3
    weight = model.graph.initializer[0]
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, weight.dims))
    source = make_source(model)
    inputs = {"x": RNG.normal(size=(8, 3)).astype(np.float32)}
    wanted = run_source(source, inputs)["scores"]
    for precision in (Precision.FP16, Precision.INT8):
        made = lowered(source, precision, ranges_of(source, inputs))
        assert error(run_source(made, inputs)["scores"], wanted) < 0.02


def test_the_quantiser_says_nothing_and_sets_no_logger_up(digits, pixels, ranges_of, capfd):
    before = list(logging.root.handlers)
    lowered(digits, Precision.INT8, ranges_of(digits, pixels))
    assert logging.root.handlers == before
    assert capfd.readouterr() == ("", "")


def test_nodes_in_a_loop_are_left_for_the_checker():
    nodes = [helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    graph = helper.make_graph(nodes, "loop", [], [])
    sort_nodes(graph)
    assert [node.output[0] for node in graph.node] == ["a", "b"]


@given(st.permutations(range(8)))
def test_nodes_are_sorted_whatever_their_order(order):
    nodes = [helper.make_node("Relu", [f"t{at}"], [f"t{at + 1}"]) for at in range(8)]
    graph = helper.make_graph([nodes[at] for at in order], "chain", [], [])
    sort_nodes(graph)
    assert [node.output[0] for node in graph.node] == [f"t{at + 1}" for at in range(8)]
