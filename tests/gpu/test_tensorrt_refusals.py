"""What TensorRT cannot serve of a model, told on any machine and without the library."""

import sys

import numpy as np
import pytest
from onnx import TensorProto, helper

from appliance.errors import EngineBuild
from appliance.manifest import Precision
from appliance.tensors import AxisRange, Interface
from compiler.opening.graph import interface_of
from compiler.targets.tensorrt.shapes import Range, ranges_of
from compiler.targets.tensorrt.target import TensorRTTarget
from tests.gpu.building import gpu, model, opened
from tests.gpu.fake_tensorrt import FakeTensorRT

FLOATS = (TensorProto.FLOAT, ["rows", 4])


def told(proto, directory, *, ranges=None):
    source, interface = opened(proto, directory)
    if ranges is not None:
        interface = interface_of(source, 8, ranges)
    assert not {"tensorrt", "tensorrt_bindings"} & set(sys.modules)
    return [str(item) for item in TensorRTTarget().refusals(source, interface, Precision.FP32)]


def one(operator, *, inputs=None, outputs=None, constants=None, domain="", **attributes):
    names = list(inputs or {"x": FLOATS}) + list(constants or {})
    node = helper.make_node(
        operator, names, list(outputs or {"y": FLOATS}), "step", domain=domain, **attributes
    )
    return model([node], inputs or {"x": FLOATS}, outputs or {"y": FLOATS}, constants)


def test_a_plain_model_is_taken(tmp_path):
    assert told(one("Relu"), tmp_path) == []


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        (
            one("Identity", inputs={"x": (TensorProto.STRING, ["rows", 4])},
                outputs={"y": (TensorProto.STRING, ["rows", 4])}),
            "input 'x' is text, which TensorRT does not take",
        ),
        (
            one("Relu", inputs={"x": (TensorProto.DOUBLE, ["rows", 4])},
                outputs={"y": (TensorProto.DOUBLE, ["rows", 4])}),
            "Relu 'step' makes 'y', which is DOUBLE and would be computed in FP32",
        ),
        (
            one("Identity", inputs={"x": (TensorProto.UINT16, ["rows", 4])},
                outputs={"y": (TensorProto.UINT16, ["rows", 4])}),
            "output 'y' is UINT16, a type that TensorRT lacks",
        ),
        (
            one("Normalizer", domain="ai.onnx.ml", norm="L2"),
            "Normalizer 'step' is of classical machine learning",
        ),
        (
            one("NonZero", outputs={"y": (TensorProto.INT64, [2, None])}),
            "NonZero 'step' makes results as long as the values decide",
        ),
        (
            one("Gather", inputs={"x": FLOATS, "at": (TensorProto.INT64, ["rows"])},
                outputs={"y": (TensorProto.FLOAT, ["rows", 4])}),
            "Gather 'step' reads at computed positions, which a GPU does not check",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_named_with_its_reason(proto, expected, tmp_path):
    source, _ = opened(proto, tmp_path, batch_max=0)
    interface = interface_of(source, 0)
    found = TensorRTTarget().refusals(source, interface, Precision.FP32)
    assert any(expected in str(item) for item in found), list(map(str, found))


def test_positions_within_a_table_are_taken_and_checked_at_every_call(tmp_path):
    proto = one(
        "Gather",
        inputs={"ids": (TensorProto.INT64, ["rows", 2])},
        outputs={"y": (TensorProto.FLOAT, ["rows", 2, 3])},
        constants={"table": np.ones((5, 3), np.float32)},
    )
    proto.graph.node[0].input[:] = ["table", "ids"]
    source, interface = opened(proto, tmp_path)
    with FakeTensorRT("10.16").installed():
        entry = TensorRTTarget(gpu=gpu()).compile(source, tmp_path, interface, 1, Precision.FP32)
    assert entry.bounds == {"ids": (-5, 4)}


def test_an_axis_of_any_length_needs_a_range(tmp_path):
    proto = one(
        "Relu",
        inputs={"x": (TensorProto.FLOAT, ["rows", "length"])},
        outputs={"y": (TensorProto.FLOAT, ["rows", "length"])},
    )
    assert told(proto, tmp_path) == [
        "input 'x' has an axis of any length: give it a range in [model.axes]"
    ]
    ranges = {"length": AxisRange(min=2, opt=16, max=64)}
    assert told(proto, tmp_path, ranges=ranges) == []


def test_every_refusal_is_told_at_once_and_equal_ones_as_one(tmp_path):
    nodes = [
        helper.make_node("Normalizer", ["x"], ["a"], "first", domain="ai.onnx.ml", norm="L2"),
        helper.make_node("Normalizer", ["a"], ["b"], "second", domain="ai.onnx.ml", norm="L2"),
        helper.make_node("Cast", ["b"], ["c"], "wide", to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["c"], ["y"], "narrow", to=TensorProto.FLOAT),
    ]
    source, interface = opened(model(nodes, {"x": FLOATS}, {"y": FLOATS}), tmp_path)
    with (
        FakeTensorRT("11.0").installed() as fake,
        pytest.raises(EngineBuild, match=r"for 3 of its nodes") as caught,
    ):
        TensorRTTarget(gpu=gpu()).compile(source, tmp_path, interface, 1, Precision.FP32)
    assert "Normalizer 'first', 'second' is of classical" in str(caught.value)
    assert "Cast 'wide' makes 'c', which is DOUBLE" in str(caught.value)
    assert fake.alive == []


def test_ranges_reach_from_one_row_to_the_most(tmp_path):
    proto = one(
        "Relu",
        inputs={"x": (TensorProto.FLOAT, ["rows", "length"])},
        outputs={"y": (TensorProto.FLOAT, ["rows", "length"])},
    )
    source, _ = opened(proto, tmp_path)
    axis = {"length": AxisRange(min=2, opt=16, max=64)}
    assert ranges_of(interface_of(source, 8, axis)) == {"x": Range((1, 2), (8, 16), (8, 64))}
    assert ranges_of(interface_of(source, 1, axis)) == {"x": Range((1, 2), (1, 16), (1, 64))}
    fixed = one(
        "Relu",
        inputs={"x": (TensorProto.FLOAT, [2, 4])},
        outputs={"y": (TensorProto.FLOAT, [2, 4])},
    )
    source, _ = opened(fixed, tmp_path, batch_max=0)
    found: Interface = interface_of(source, 0)
    assert ranges_of(found) == {}
