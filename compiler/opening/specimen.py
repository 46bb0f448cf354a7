"""A model to try engines with: made here, the same on every box, and nobody's secret.

Knows: how it is made. Rules: its weights come from one seed, so that two reports speak of the same model; it has what
image models are made of. Leaves to others: trying it (`compiler.selftest`).
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from appliance.tensors import Array
from compiler.opening.source import Source

SIDE, CHANNELS, LAYERS, CLASSES = 32, 64, 6, 16
INPUT, OUTPUT = "pixels", "scores"
_SEED, _OPSET = 20, 17


def specimen() -> Source:
    """Convolutions with ReLU, pooled, then a matrix product: `OUTPUT` [rows, CLASSES] of `INPUT` [rows, 3, SIDE, SIDE]."""
    rng = np.random.default_rng(_SEED)
    nodes, weights, before, width = [], {}, INPUT, 3
    for layer in range(LAYERS):
        scale = (2 / (width * 9)) ** 0.5
        weights[f"w{layer}"] = rng.normal(0, scale, (CHANNELS, width, 3, 3)).astype(np.float32)
        weights[f"b{layer}"] = rng.normal(0, 0.1, CHANNELS).astype(np.float32)
        names = [before, f"w{layer}", f"b{layer}"]
        nodes.append(helper.make_node("Conv", names, [f"c{layer}"], f"conv{layer}", pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"], f"relu{layer}"))
        before, width = f"r{layer}", CHANNELS
    weights["w"] = rng.normal(0, 0.2, (CHANNELS, CLASSES)).astype(np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [before], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "w"], [OUTPUT], "classify"),
    ]
    graph = helper.make_graph(
        nodes,
        "specimen",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return Source(data=model.SerializeToString(), model=model)


def pictures(rows: int) -> dict[str, Array]:
    """So many rows of its input."""
    rng = np.random.default_rng(rows)
    return {INPUT: rng.normal(size=(rows, 3, SIDE, SIDE)).astype(np.float32)}
