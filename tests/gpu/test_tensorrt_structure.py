"""What makes two graphs one structure, whose engines can take each other's weights."""

import numpy as np
from onnx import TensorProto, helper

from compiler.targets.tensorrt.refitting import structure_of
from tests.gpu.building import model, opened


def resized(scale):
    nodes = [helper.make_node("Resize", ["x", "", "scales"], ["y"], "larger")]
    scales = np.array([1, 1, scale, scale], np.float32)
    size = 8 * scale
    return model(
        nodes,
        {"x": (TensorProto.FLOAT, ["rows", 3, 8, 8])},
        {"y": (TensorProto.FLOAT, ["rows", 3, size, size])},
        {"scales": scales},
    )


def test_constants_that_shape_the_engine_are_no_weights(tmp_path):
    one, other = (opened(resized(scale), tmp_path)[0] for scale in (2, 3))
    assert structure_of(one, {}) != structure_of(other, {})
