"""A graph of a BERT encoder's shape with random weights: attention, GELU, layer norms, residual sums.

The weights are of no use; the arithmetic is the real one. Source of the shape: Devlin et al. 2018, section 3,
norms behind the sums; GELU by the error function. It takes embedded tokens, as ids would be INT64, which
not every engine takes.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(slots=True, kw_only=True)
class Encoder:
    """Collects nodes and weights; every weight comes from one seeded generator."""

    layers: int = 6
    width: int = 768
    heads: int = 12
    tokens: int = 128
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(6))

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Add a node and return the name of its output."""
        name = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, values: object, kind: type = np.float32) -> str:
        """Add a constant."""
        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        """A product with a random matrix, and a bias."""
        scale = 1.0 / np.sqrt(inputs)
        weight = self.constant(self.random.normal(0.0, scale, (inputs, outputs)))
        bias = self.constant(self.random.normal(0.0, 0.1, outputs))
        return self.add("Add", self.add("MatMul", x, weight), bias)

    def norm(self, x: str) -> str:
        """A layer norm."""
        scale = self.constant(self.random.uniform(0.5, 1.5, self.width))
        return self.add("LayerNormalization", x, scale, self.constant(np.zeros(self.width)))

    def attention(self, x: str) -> str:
        """Self-attention of all heads."""
        each = self.width // self.heads
        apart = self.constant([0, 0, self.heads, each], np.int64)
        query, key, value = (
            self.add("Reshape", self.linear(x, self.width, self.width), apart) for _ in range(3)
        )
        query = self.add("Transpose", query, perm=[0, 2, 1, 3])
        key = self.add("Transpose", key, perm=[0, 2, 3, 1])
        value = self.add("Transpose", value, perm=[0, 2, 1, 3])
        scores = self.add("MatMul", query, key)
        scores = self.add("Mul", scores, self.constant(1.0 / np.sqrt(each)))
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), value)
        mixed = self.add("Transpose", mixed, perm=[0, 2, 1, 3])
        joined = self.constant([0, 0, self.width], np.int64)
        return self.linear(self.add("Reshape", mixed, joined), self.width, self.width)

    def gelu(self, x: str) -> str:
        """x/2 (1 + erf(x / sqrt 2))."""
        half = self.add("Mul", x, self.constant(0.5))
        error = self.add("Erf", self.add("Div", x, self.constant(np.sqrt(2.0))))
        return self.add("Mul", half, self.add("Add", error, self.constant(1.0)))

    def model(self) -> onnx.ModelProto:
        """The model: "embedded" FP32 [N, tokens, width] to "hidden" of the same shape."""
        x = self.norm("embedded")
        for _ in range(self.layers):
            x = self.norm(self.add("Add", x, self.attention(x)))
            inner = self.gelu(self.linear(x, self.width, 4 * self.width))
            x = self.norm(self.add("Add", x, self.linear(inner, 4 * self.width, self.width)))
        self.nodes[-1].output[0] = "hidden"
        shape = ["N", self.tokens, self.width]
        edges = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name in ("embedded", "hidden")
        ]
        graph = helper.make_graph(self.nodes, "bert", edges[:1], edges[1:], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_bert(path: Path) -> None:
    """Write the model of six layers."""
    onnx.save(Encoder().model(), path)
