"""Which operators are computed in fewer bits, and which never are.

Knows: the operators that the time goes to, and those that may follow them. Rules: a list of what is
lowered, so that an operator nobody thought of stays in fp32: with it every one that sums, divides or
exponentiates its inputs (Softmax, LayerNormalization, Pow, Exp, ReduceMean, pooling by average), where
fp16 overflows. Leaves to others: lowering (`typed`, `quantised`).
"""

from collections.abc import Iterator, Mapping

import onnx
from onnx import TensorProto

from appliance.errors import EngineBuild
from appliance.manifest import Precision
from compiler.opening.source import inner_graphs
from compiler.precision.opsets import STANDARD

ELEMENT = {Precision.FP16: TensorProto.FLOAT16, Precision.BF16: TensorProto.BFLOAT16}
HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
QUANTISED = frozenset({"Conv", "Gemm", "MatMul"})
FOLLOWING = frozenset(
    {
        "Add", "Clip", "Concat", "DepthToSpace", "Erf", "Expand", "Flatten", "Gather", "Gelu",
        "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Max", "MaxPool", "Min", "Mul", "Neg",
        "Pad", "PRelu", "Relu", "Reshape", "Sigmoid", "Slice", "SpaceToDepth", "Split", "Squeeze",
        "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip


def is_standard(node: onnx.NodeProto, operators: frozenset[str]) -> bool:
    """True for one of the standard `operators`."""
    return node.domain in STANDARD and node.op_type in operators


def heavy_in(precision: Precision) -> frozenset[str]:
    """The operators that `precision` is meant for."""
    return QUANTISED if precision is Precision.INT8 else HEAVY


def heavy_nodes(
    graph: onnx.GraphProto, types: Mapping[str, int], precision: Precision
) -> list[onnx.NodeProto]:
    """The nodes of `graph` itself that compute in fp32 and that `precision` would lower."""
    return [
        node
        for node in graph.node
        if is_standard(node, heavy_in(precision))
        and all(
            types.get(name) == TensorProto.FLOAT for name in (*node.input, *node.output) if name
        )
    ]


def tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor of the main graph that type inference tells."""
    # Not strict: behind operators of ai.onnx.ml, which tell no types, strict inference fails.
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.HasField("tensor_type"):
            types[info.name] = info.type.tensor_type.elem_type
    return types


def captured(node: onnx.NodeProto) -> Iterator[str]:
    """Every name that the subgraphs of `node` read, at any depth: also those they make themselves."""
    for graph in inner_graphs(node):
        yield from (info.name for info in graph.output)
        for inner in graph.node:
            yield from inner.input
            yield from captured(inner)


def typed_nodes(model: onnx.ModelProto, precision: Precision) -> list[onnx.NodeProto]:
    """The heavy nodes of a lowered model that compute in the 16-bit type of `precision`."""
    types, wanted = tensor_types(model), ELEMENT[precision]
    return [
        node
        for node in model.graph.node
        if is_standard(node, HEAVY) and types.get(node.input[0]) == wanted
    ]


def is_quantised(model: onnx.ModelProto) -> bool:
    """True when the model's engineer quantised it: by scales, or by operators on integers."""
    return next(_quantising(model), None) is not None


def check_plain(model: onnx.ModelProto, precision: Precision) -> None:
    """Refuse a model that somebody lowered before: its scales and types are meant as they are."""
    node = next(_quantising(model), None)
    if node is not None:
        raise EngineBuild(
            f"the model has quantised types of its own (node '{node.name}', {node.op_type}), "
            f"so it is not rewritten for {precision}",
            remedy="use precision fp32, which leaves every type of the model as it is",
        )


def _quantising(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for node in model.graph.node:
        if "Quantize" in node.op_type or "QLinear" in node.op_type or "Integer" in node.op_type:
            yield node
