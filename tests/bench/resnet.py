"""A graph of ResNet-50's shape (v1.5) with random weights: 25.6 M parameters, 8.2 GFLOP an image.

The weights are of no use; the arithmetic is the real one. Source of the shape: He et al. 2015, table 1,
with the stride on the 3x3 convolution. Batch norm is folded, as exporters do.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
EXPANSION = 4


class Graph:
    """Collects nodes and weights; every weight comes from one seeded generator."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(50)

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Add a node and return the name of its output."""
        name = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def weight(self, *shape: int, gain: float = 1.0) -> str:
        """Add a random weight scaled so that values keep their size through the layers."""
        name = f"weight{len(self.weights)}"
        scale = gain * np.sqrt(2.0 / max(int(np.prod(shape[1:])), 1))
        values = self._random.normal(0.0, scale, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, x: str, inputs: int, outputs: int, size: int, stride: int = 1) -> str:
        """Convolution with bias, padded to keep the size but for the stride."""
        weight, bias = self.weight(outputs, inputs, size, size), self.weight(outputs, gain=0.0)
        return self.add(
            "Conv", x, weight, bias, kernel_shape=[size] * 2, strides=[stride] * 2,
            pads=[size // 2] * 4,
        )  # fmt: skip

    def block(self, x: str, inputs: int, width: int, stride: int) -> str:
        """A bottleneck block: 1x1, 3x3, 1x1 and the way around."""
        outputs = width * EXPANSION
        y = self.add("Relu", self.conv(x, inputs, width, 1))
        y = self.add("Relu", self.conv(y, width, width, 3, stride))
        y = self.conv(y, width, outputs, 1)
        if stride != 1 or inputs != outputs:
            x = self.conv(x, inputs, outputs, 1, stride)
        return self.add("Relu", self.add("Add", x, y))


def write_resnet(path: Path) -> None:
    """Write the model: input "pixels" FP32 [N, 3, 224, 224], output "logits" FP32 [N, 1000]."""
    graph = Graph()
    x = graph.add("Relu", graph.conv("pixels", 3, 64, 7, 2))
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for blocks, width, stride in STAGES:
        for number in range(blocks):
            x = graph.block(x, channels, width, stride if number == 0 else 1)
            channels = width * EXPANSION
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x))
    weight, bias = graph.weight(1000, channels, gain=0.1), graph.weight(1000, gain=0.0)
    graph.nodes.append(helper.make_node("Gemm", [x, weight, bias], ["logits"], transB=1))
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, 224, 224])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])
    made = helper.make_graph(graph.nodes, "resnet50", [pixels], [logits], graph.weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(made, opset_imports=opset, ir_version=8), path)
