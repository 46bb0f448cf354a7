"""What arithmetic a graph asks for, and what an engine made of it really uses.

Knows: the operators that count, in ONNX and as ONNX Runtime fuses them. Rules: an engine computes in what
it was asked for when no more of its heavy operators compute otherwise than the graph itself leaves so;
what the engineer quantised stays so in fp32, which is the model as it is. Leaves to others: reading the engine (`compiler.targets`).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from appliance.errors import EngineBuild
from appliance.manifest import Precision
from compiler.opening.source import Source, inner_graphs
from compiler.precision.operators import HEAVY, is_quantised, is_standard, tensor_types

_NAMED_MAX = 3  # operators that a message names
_HIDING = frozenset({"Attention", "Einsum"})  # each holds up to two heavy operators
_ARITHMETIC: dict[int, Precision] = {
    TensorProto.FLOAT: Precision.FP32,
    TensorProto.FLOAT16: Precision.FP16,
    TensorProto.BFLOAT16: Precision.BF16,
}
# As ONNX Runtime calls them after its optimisations (its docs/ContribOperators.md).
_FUSED = HEAVY | {
    "Attention", "FusedConv", "FusedGemm", "FusedMatMul", "MultiHeadAttention", "NhwcFusedConv",
}  # fmt: skip
_INTEGER = frozenset(
    {
        "ConvInteger", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat",
        "QAttention", "QGemm", "QLinearConv", "QLinearConvTranspose", "QLinearMatMul",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """One heavy operator of an engine: its name there, and what it computes in."""

    operator: str
    name: str
    precision: Precision


def check_arithmetic(
    library: str, found: Sequence[Computed], source: Source, precision: Precision
) -> None:
    """Raise EngineBuild when an engine made of the lowered `source` does not compute in `precision`."""
    asked, hidden = _asked(source.model)
    own = {precision}
    if precision is Precision.FP32 and is_quantised(source.model):
        own.add(Precision.INT8)
    others = [item for item in found if item.precision not in own]
    allowed = sum(count for kind, count in asked.items() if kind is not precision) + hidden
    missing = precision is not Precision.FP32 and len(others) == len(found)
    if len(others) <= allowed and not missing:
        return
    kinds = ", ".join(sorted({item.precision for item in others}))
    named = ", ".join(f"{item.operator} '{item.name}'" for item in others[:_NAMED_MAX])
    raise EngineBuild(
        f"{library} computes {len(others)} of {len(found)} of the model's convolutions and matrix "
        f"products in {kinds}, not in {precision}: {named or 'it shows none'}",
        remedy="use another precision, or precision auto to have the fastest one found",
    )


def computed_by_onnxruntime(path: Path) -> list[Computed]:
    """The heavy operators of a model that ONNX Runtime optimised and saved as ONNX."""
    graph = onnx.load(path).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types |= {info.name: info.type.tensor_type.elem_type for info in graph.input}
    return list(_computed(graph, types))


def _computed(graph: onnx.GraphProto, types: dict[str, int]) -> Iterator[Computed]:
    """As above; types follow the nodes, for a saved graph holds none of the tensors between them."""
    for node in graph.node:
        kind = _result_type(node, types)
        types.update((name, kind) for name in node.output)
        if node.op_type in _INTEGER:
            yield Computed(operator=node.op_type, name=node.name, precision=Precision.INT8)
        elif node.op_type in _FUSED and kind in _ARITHMETIC:
            yield Computed(operator=node.op_type, name=node.name, precision=_ARITHMETIC[kind])
        for inner in inner_graphs(node):
            yield from _computed(inner, types)


def _result_type(node: onnx.NodeProto, types: dict[str, int]) -> int:
    """The element type of the node's result, as far as heavy operators depend on it."""
    if node.op_type == "Cast":
        return next(item.i for item in node.attribute if item.name == "to")
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        scaled = node.op_type == "DequantizeLinear"
        return types.get(node.input[1 if scaled else -1], TensorProto.FLOAT)
    known = [types[name] for name in node.input if types.get(name) in _ARITHMETIC]
    return known[0] if known else types.get(next(iter(node.input), ""), 0)


def arithmetic_of(source: Source) -> dict[str, Precision]:
    """What each heavy operator of the graph itself computes in by its types, by node name.

    A node without a name is called after its first output, as TensorRT's parser calls it.
    """
    return {
        node.name or f"node_of_{node.output[0]}": kind for node, kind in _typed_heavy(source.model)
    }


def _typed_heavy(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, Precision]]:
    types = tensor_types(model)
    producers = {name: node.op_type for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if is_standard(node, HEAVY):
            quantised = producers.get(node.input[0]) == "DequantizeLinear"
            kind = types.get(node.input[0], 0)
            if quantised or kind in _ARITHMETIC:
                yield node, Precision.INT8 if quantised else _ARITHMETIC[kind]


def _asked(model: onnx.ModelProto) -> tuple[Counter[Precision], int]:
    """How many heavy operators the graph has by their arithmetic, and how many others may hide."""
    asked = Counter(kind for _, kind in _typed_heavy(model))
    hidden = sum(2 * is_standard(node, _HIDING) + _in_bodies(node) for node in model.graph.node)
    return asked, hidden


def _in_bodies(node: onnx.NodeProto) -> int:
    """Heavy operators in the node's subgraphs, which no rewrite touches."""
    bodies = [inner for body in inner_graphs(node) for inner in body.node]
    return sum(is_standard(inner, HEAVY | _HIDING) + _in_bodies(inner) for inner in bodies)
