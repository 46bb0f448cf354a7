"""What a graph asks for against what an engine says that it computes in."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from appliance.errors import EngineBuild
from appliance.manifest import Precision
from compiler.precision import lowered
from compiler.precision.arithmetic import Computed, check_arithmetic

RNG = np.random.default_rng(3)
FP32, BF16, INT8 = Precision.FP32, Precision.BF16, Precision.INT8


def layers(*precisions: Precision) -> list[Computed]:
    return [
        Computed(operator="MatMul", name=f"layer{at}", precision=precision)
        for at, precision in enumerate(precisions)
    ]


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture
def product(make_onnx, make_source):
    """One matrix product."""
    return make_source(make_onnx())


@pytest.fixture
def hiding(make_onnx, make_source):
    """A product, an Einsum that may hide two, and one in each branch of an If."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("MatMul", ["mixed", "v"], [f"{name}_out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)],
        )
        for name in ("then", "else")
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Einsum", ["product", "v"], ["mixed"], equation="ij,jk->ik"),
        helper.make_node("If", ["yes"], ["scores"], **branches),
    ]
    model = make_onnx(
        nodes,
        inputs={"x": (TensorProto.FLOAT, ["rows", 3]), "yes": (TensorProto.BOOL, [])},
        constants={"w": weights(3, 4), "v": weights(4, 4)},
    )
    return make_source(model)


def test_all_in_the_precision_asked_for_is_right(product):
    check_arithmetic("It", layers(FP32), product, FP32)
    check_arithmetic("It", layers(BF16, BF16), lowered(product, BF16), BF16)


def test_nothing_left_of_an_fp32_model_is_right(product):
    check_arithmetic("It", [], product, FP32)


@pytest.mark.parametrize("found", [[], [FP32], [BF16, FP32]])
def test_less_than_was_asked_for_is_refused(product, found):
    with pytest.raises(EngineBuild) as refused:
        check_arithmetic("It", layers(*found), lowered(product, BF16), BF16)
    wide = found.count(FP32)
    assert f"It computes {wide} of {len(found)} of the model's" in str(refused.value)
    assert f"not in bf16: {'MatMul ' if found else 'it shows none'}" in str(refused.value)


def test_narrower_than_was_asked_for_is_refused(product):
    with pytest.raises(EngineBuild, match="in bf16, int8, not in fp32: MatMul 'layer0', MatMul"):
        check_arithmetic("It", layers(BF16, INT8, FP32), product, FP32)


def test_what_the_rewrite_leaves_wide_may_be_wide(hiding):
    made = lowered(hiding, BF16)
    check_arithmetic("It", layers(BF16, FP32, FP32, FP32, FP32), made, BF16)
    with pytest.raises(EngineBuild, match="computes 5 of 6"):
        check_arithmetic("It", layers(BF16, *[FP32] * 5), made, BF16)


def test_what_the_engineer_quantised_stays_so_in_fp32(make_onnx, make_source):
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "scale"], ["scores"]),
    ]
    quantised = make_source(make_onnx(nodes, constants={"w": np.eye(3, 4, dtype=np.int8)}))
    check_arithmetic("It", layers(INT8, INT8, FP32), quantised, FP32)
    with pytest.raises(EngineBuild, match="in bf16, not in fp32"):
        check_arithmetic("It", layers(BF16, INT8), quantised, FP32)
