"""Random stacks of layers: every rewrite computes what the network computes, within its bound."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from appliance.manifest import Precision
from compiler.precision import lowered

# Of the sizes that occur: the numbers' half step (2^-11, 2^-8) over a few layers.
BOUND = {Precision.FP16: 0.004, Precision.BF16: 0.03}


def evaluate(source, inputs) -> dict[str, np.ndarray]:
    """The lowered graph in onnx's own reference, which rounds wherever the graph says so."""
    names = [info.name for info in source.model.graph.output]
    return dict(zip(names, ReferenceEvaluator(source.model).run(names, inputs), strict=True))


@st.composite
def networks(draw):
    """A random stack of layers on vectors: its nodes, weights and width."""
    width = draw(st.integers(2, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    nodes, constants, x = [], {}, "x"
    for number in range(draw(st.integers(1, 5))):
        layer, y = (
            draw(st.sampled_from(["linear", "gemm", "relu", "skip", "norm", "tanh"])),
            f"t{number}",
        )
        if layer in ("linear", "gemm"):
            constants[f"w{number}"] = random.normal(0, width**-0.5, (width, width)).astype(
                np.float32
            )
            constants[f"b{number}"] = random.normal(0, 0.2, width).astype(np.float32)
        if layer == "linear":
            nodes.append(helper.make_node("MatMul", [x, f"w{number}"], [f"{y}p"]))
            nodes.append(helper.make_node("Add", [f"{y}p", f"b{number}"], [y]))
        elif layer == "gemm":
            beta = draw(st.sampled_from([1.0, 0.5]))
            nodes.append(helper.make_node("Gemm", [x, f"w{number}", f"b{number}"], [y], beta=beta))
        elif layer == "norm":
            nodes.append(helper.make_node("Softmax", [x], [y], axis=-1))
        elif layer == "skip":
            nodes.append(helper.make_node("Add", [x, "x"], [y]))
        else:
            nodes.append(helper.make_node(layer.capitalize(), [x], [y]))
        x = y
    constants["w"] = random.normal(0, 1, (width, 3)).astype(np.float32)
    return [*nodes, helper.make_node("MatMul", [x, "w"], ["scores"])], constants, width


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=st.tuples(networks(), st.integers(0, 2**16)))
def test_any_network_computes_the_same_within_the_bound(
    make_onnx, make_source, run_source, ranges_of, case
):
    (nodes, constants, width), seed = case
    source = make_source(
        make_onnx(
            nodes,
            inputs={"x": (TensorProto.FLOAT, ["rows", width])},
            outputs={"scores": (TensorProto.FLOAT, ["rows", 3])},
            constants=constants,
        )
    )
    inputs = {"x": np.random.default_rng(seed).normal(size=(16, width)).astype(np.float32)}
    wanted = run_source(source, inputs)["scores"]
    scale = np.abs(constants["w"]).sum() + np.ptp(wanted)
    for precision, bound in BOUND.items():
        got = evaluate(lowered(source, precision), inputs)["scores"]
        assert np.abs(got - wanted).max() <= bound * scale
    quantised = lowered(source, Precision.INT8, ranges_of(source, inputs))
    got = run_source(quantised, inputs)["scores"]
    assert np.abs(got - wanted).max() <= 0.1 * scale
