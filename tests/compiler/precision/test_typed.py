"""fp16 and bf16 as explicit types."""

from collections import Counter

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from appliance.errors import EngineBuild
from appliance.manifest import Calibration, CalibrationMethod, Precision
from compiler.opening.source import Source
from compiler.precision import Ranges, lowered
from compiler.precision.operators import tensor_types

RNG = np.random.default_rng(4)
SIXTEEN = (Precision.FP16, Precision.BF16)
ELEMENT = {Precision.FP16: TensorProto.FLOAT16, Precision.BF16: TensorProto.BFLOAT16}
# Of the output's range: the numbers' half step (2^-11, 2^-8) over the few layers of these graphs.
BOUND = {Precision.FP16: 0.004, Precision.BF16: 0.03}
HEAVY = ("Conv", "MatMul", "Gemm")
NOTHING = Calibration(method=CalibrationMethod.MINMAX, rows=1, data_sha256="0" * 64)

each = pytest.mark.parametrize("precision", SIXTEEN)


def kinds(source, operators=None) -> set[tuple[str, int]]:
    """Operators and the type of their first output."""
    types = tensor_types(source.model)
    return {
        (node.op_type, types[node.output[0]])
        for node in source.model.graph.node
        if operators is None or node.op_type in operators
    }


def evaluate(source, inputs) -> dict[str, np.ndarray]:
    """The lowered graph in onnx's own reference, which rounds wherever the graph says so."""
    names = [info.name for info in source.model.graph.output]
    return dict(zip(names, ReferenceEvaluator(source.model).run(names, inputs), strict=True))


def error(got: np.ndarray, wanted: np.ndarray) -> float:
    """The largest error, of the wanted values' range."""
    return float(np.abs(got - wanted).max() / np.ptp(wanted))


def weights(*shape: int, scale: float = 0.5) -> np.ndarray:
    return RNG.normal(0, scale, shape).astype(np.float32)


@each
def test_heavy_operators_take_16_bits_and_delicate_ones_stay_wide(transformer, precision):
    made = lowered(transformer, precision)
    low = ELEMENT[precision]
    assert kinds(made, HEAVY) == {("MatMul", low)}
    delicate = ("Softmax", "LayerNormalization", "Div")
    assert kinds(made, delicate) - {("Div", low)} == {
        ("Softmax", TensorProto.FLOAT),
        ("LayerNormalization", TensorProto.FLOAT),
        ("Div", TensorProto.FLOAT),
    }
    edges = (*made.model.graph.input, *made.model.graph.output)
    assert {info.type.tensor_type.elem_type for info in edges} == {TensorProto.FLOAT}
    assert len(made.data) < 0.6 * len(transformer.data)


@each
def test_every_node_has_a_name_of_its_own(digits, precision):
    made = lowered(digits, precision)
    assert max(Counter(node.name for node in made.model.graph.node).values()) == 1


@each
def test_a_transformer_computes_the_same_within_the_bound(transformer, run_source, precision):
    inputs = {"embedded": RNG.normal(size=(3, 8, 32)).astype(np.float32)}
    got = evaluate(lowered(transformer, precision), inputs)["hidden"]
    assert got.dtype == np.float32
    assert error(got, run_source(transformer, inputs)["hidden"]) < BOUND[precision]


@each
def test_batch_norms_are_folded_so_that_no_cast_parts_them_from_their_convolution(
    make_onnx, make_source, run_source, precision
):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["scores"]),
    ]
    norm = {name: RNG.uniform(0.5, 1.5, 4).astype(np.float32) for name in "sbmv"}
    model = make_onnx(
        nodes,
        inputs={"x": (TensorProto.FLOAT, ["rows", 2, 6, 6])},
        outputs={"scores": (TensorProto.FLOAT, ["rows", 4, 6, 6])},
        constants={"w": weights(4, 2, 3, 3), **norm},
    )
    source = make_source(model)
    made = lowered(source, precision)
    assert [node.op_type for node in made.model.graph.node] == ["Cast", "Conv", "Relu", "Cast"]
    inputs = {"x": RNG.normal(size=(2, 2, 6, 6)).astype(np.float32)}
    wanted = run_source(source, inputs)["scores"]
    assert error(evaluate(made, inputs)["scores"], wanted) < BOUND[precision]


def masked(make_onnx):
    """softmax(x w + (1 - x) * -1e9): an attention mask made of the input."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Sub", ["one", "x"], ["left"]),
        helper.make_node("Mul", ["left", "low"], ["mask"]),
        helper.make_node("Add", ["product", "mask"], ["sum"]),
        helper.make_node("Softmax", ["sum"], ["scores"], axis=-1),
    ]
    constants = {
        "w": weights(3, 3),
        "one": np.float32(1).reshape(()),
        "low": np.float32(-1e9).reshape(()),
    }
    return make_onnx(
        nodes, outputs={"scores": (TensorProto.FLOAT, ["rows", 3])}, constants=constants
    )


def test_a_mask_is_not_cast_down_on_its_way_to_the_softmax(make_onnx, make_source):
    source = make_source(masked(make_onnx))
    made = lowered(source, Precision.FP16)
    assert kinds(made, ("Add", "Mul", "Sub", "Softmax")) == {
        (operator, TensorProto.FLOAT) for operator in ("Add", "Mul", "Sub", "Softmax")
    }
    masks = {"x": np.array([[1, 1, 0], [0, 0, 0]], np.float32)}
    assert np.isfinite(evaluate(made, masks)["scores"]).all()


def test_what_overflows_behind_a_product_does_so_in_fp32(make_onnx, make_source, run_source):
    """Squares and exponents of values that fp16 holds: their results it does not."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Pow", ["product", "two"], ["square"]),
        helper.make_node("ReduceMean", ["square"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sqrt", ["mean"], ["root"]),
        helper.make_node("Div", ["product", "root"], ["scores"]),
    ]
    constants = {"w": weights(3, 4, scale=400.0), "two": np.float32(2).reshape(())}
    source = make_source(make_onnx(nodes, constants=constants))
    inputs = {"x": np.array([[3, -2, 1], [0.5, 2, -3]], np.float32)}
    wanted = run_source(source, inputs)["scores"]
    assert np.square(inputs["x"] @ constants["w"]).max() > 65504
    got = evaluate(lowered(source, Precision.FP16), inputs)["scores"]
    assert error(got, wanted) < BOUND[Precision.FP16]


def test_a_softmax_of_large_values_is_computed_in_fp32(make_onnx, make_source, run_source):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Mul", ["product", "scale"], ["large"]),
        helper.make_node("Softmax", ["large"], ["scores"], axis=-1),
    ]
    constants = {"w": weights(3, 4), "scale": np.float32(1e5).reshape(())}
    source = make_source(make_onnx(nodes, constants=constants))
    made = lowered(source, Precision.FP16)
    assert ("Mul", TensorProto.FLOAT) in kinds(made)
    inputs = {"x": np.array([[2, 1, -1]], np.float32)}
    got = evaluate(made, inputs)["scores"]
    np.testing.assert_allclose(got, run_source(source, inputs)["scores"], atol=1e-3)


def test_weights_that_fp16_cannot_hold_keep_their_operator_in_fp32(make_onnx, make_source):
    nodes = [
        helper.make_node("MatMul", ["x", "large"], ["wide"]),
        helper.make_node("MatMul", ["wide", "w"], ["scores"]),
    ]
    constants = {"large": np.full((3, 3), 1e5, np.float32), "w": weights(3, 4)}
    made = lowered(make_source(make_onnx(nodes, constants=constants)), Precision.FP16)
    types = tensor_types(made.model)
    found = [types[node.output[0]] for node in made.model.graph.node if node.op_type == "MatMul"]
    assert found == [TensorProto.FLOAT, TensorProto.FLOAT16]


def test_a_calibrated_range_that_fp16_cannot_hold_does_so_too(make_onnx, make_source):
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["between"]),
        helper.make_node("MatMul", ["between", "w"], ["scores"]),
    ]
    constants = {"v": weights(3, 3), "w": weights(3, 4)}
    source = make_source(make_onnx(nodes, constants=constants))
    ranges = Ranges(calibration=NOTHING, tensors={"scores": (-1e6, 1.0)})
    made = lowered(source, Precision.FP16, ranges)
    types = tensor_types(made.model)
    found = [types[node.output[0]] for node in made.model.graph.node if node.op_type == "MatMul"]
    assert found == [TensorProto.FLOAT16, TensorProto.FLOAT]
    assert kinds(lowered(source, Precision.BF16, ranges), HEAVY) == {
        ("MatMul", TensorProto.BFLOAT16)
    }


@pytest.fixture
def branching(make_onnx, make_source) -> Source:
    """A product, then one of two branches that read it from outside."""
    info = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    branches = {
        f"{name}_branch": helper.make_graph(
            [
                helper.make_node("MatMul", ["product", "v"], [f"{name}1"]),
                helper.make_node(operator, [f"{name}1", "product"], ["out"]),
            ],
            name,
            [],
            [info],
        )
        for name, operator in (("then", "Add"), ("else", "Mul"))
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["scores"], **branches),
    ]
    constants = {"w": weights(3, 4), "v": weights(4, 4), "zero": np.float32(0).reshape(())}
    return make_source(make_onnx(nodes, constants=constants))


@pytest.mark.parametrize("precision", [*SIXTEEN, Precision.INT8])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_branches_stay_in_fp32_and_read_what_was_lowered(
    branching, run_source, ranges_of, precision, sign
):
    inputs = {"x": np.array([[1, 2, 3], [0.5, 1, 0]], np.float32) * np.float32(sign)}
    wanted = run_source(branching, inputs)["scores"]
    made = lowered(branching, precision, ranges_of(branching, inputs))
    if precision is Precision.INT8:
        got = run_source(made, inputs)["scores"]
        assert "DequantizeLinear" in {node.op_type for node in made.model.graph.node}
    else:
        got = evaluate(made, inputs)["scores"]
        assert ("MatMul", ELEMENT[precision]) in kinds(made)
    assert error(got, wanted) < 0.03


@each
def test_an_output_that_is_read_on_keeps_its_name_and_type(
    make_onnx, make_source, run_source, precision
):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Relu", ["scores"], ["positive"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
    ]
    shape = (TensorProto.FLOAT, ["rows", 4])
    outputs = dict.fromkeys(("scores", "positive", "shares"), shape)
    source = make_source(make_onnx(nodes, outputs=outputs))
    made = lowered(source, precision)
    inputs = {"x": RNG.normal(size=(5, 3)).astype(np.float32)}
    got, wanted = evaluate(made, inputs), run_source(source, inputs)
    assert {name: array.dtype for name, array in got.items()} == dict.fromkeys(
        outputs, np.dtype(np.float32)
    )
    assert all(error(got[name], wanted[name]) < BOUND[precision] for name in outputs)


@each
def test_wide_numbers_stay_as_they_are(make_onnx, make_source, precision):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Cast", ["x"], ["double"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["double", "d"], ["exact"]),
        helper.make_node("ArgMax", ["exact"], ["class"], axis=1, keepdims=0),
    ]
    outputs = {
        "scores": (TensorProto.FLOAT, ["rows", 4]),
        "exact": (TensorProto.DOUBLE, ["rows", 4]),
        "class": (TensorProto.INT64, ["rows"]),
    }
    constants = {"w": weights(3, 4), "d": weights(3, 4).astype(np.float64)}
    made = lowered(make_source(make_onnx(nodes, outputs=outputs, constants=constants)), precision)
    assert kinds(made, HEAVY) == {("MatMul", ELEMENT[precision]), ("MatMul", TensorProto.DOUBLE)}


@pytest.mark.parametrize("precision", [*SIXTEEN, Precision.INT8])
@pytest.mark.parametrize("kind", ["tree", "text", "double"])
def test_a_model_with_nothing_to_lower_is_refused_and_told(make_onnx, make_source, precision, kind):
    nodes = {
        "tree": [helper.make_node("Relu", ["x"], ["scores"])],
        "text": [helper.make_node("StringNormalizer", ["x"], ["scores"])],
        "double": [helper.make_node("MatMul", ["x", "w"], ["scores"])],
    }[kind]
    element = {
        "tree": TensorProto.FLOAT,
        "text": TensorProto.STRING,
        "double": TensorProto.DOUBLE,
    }[kind]
    shape = [2] if kind == "text" else ["rows", 3]
    edge = (element, shape)
    model = make_onnx(
        nodes,
        inputs={"x": edge},
        outputs={"scores": edge},
        constants={"w": np.eye(3)} if kind == "double" else {},
    )
    with pytest.raises(EngineBuild) as refused:
        lowered(make_source(model), precision)
    assert f"nothing to compute in {precision}" in str(refused.value)
    assert "fp32" in refused.value.remedy


def test_a_model_that_is_quantised_already_is_refused(digits, ranges_of):
    inputs = {"pixels": RNG.normal(size=(4, 1, 16, 16)).astype(np.float32)}
    made = lowered(digits, Precision.INT8, ranges_of(digits, inputs))
    for precision in (*SIXTEEN, Precision.INT8):
        with pytest.raises(EngineBuild, match="types of its own"):
            lowered(made, precision)


def test_fp32_is_the_source_itself(digits):
    assert lowered(digits, Precision.FP32) is digits
