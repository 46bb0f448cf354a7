"""The tensors at the edge of a graph, and what is computed between them.

Knows: ONNX's value types and shapes. Rules: every axis is kept, with the name it has; what is no tensor, or
of a datatype that no client can send, is refused by name. Leaves to others: which axis is the batch
(`batching`) and the interface that follows (`graph`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import onnx
from onnx import TensorProto

from appliance.errors import SourceUnsupported
from appliance.tensors import DataType
from compiler.opening.declared import datatype_name
from compiler.opening.walking import inner_graphs

Axis: TypeAlias = (
    int | str | None
)  # a length, the name of an open axis, an open axis without a name

_OF_SHAPES = ("Shape", "Size")  # operators that read no values
_DATATYPES: dict[int, DataType] = {
    TensorProto.BOOL: DataType.BOOL,
    TensorProto.UINT8: DataType.UINT8,
    TensorProto.UINT16: DataType.UINT16,
    TensorProto.UINT32: DataType.UINT32,
    TensorProto.UINT64: DataType.UINT64,
    TensorProto.INT8: DataType.INT8,
    TensorProto.INT16: DataType.INT16,
    TensorProto.INT32: DataType.INT32,
    TensorProto.INT64: DataType.INT64,
    TensorProto.FLOAT16: DataType.FP16,
    TensorProto.FLOAT: DataType.FP32,
    TensorProto.DOUBLE: DataType.FP64,
    TensorProto.STRING: DataType.BYTES,
}
_NO_TENSOR = {
    "sequence_type": ("is a sequence", "export it as a tensor (scikit-learn: zipmap=False)"),
    "map_type": ("is a map", "export it as a tensor (scikit-learn: zipmap=False)"),
    "optional_type": ("may be absent", "make it a tensor that is always there"),
    "sparse_tensor_type": ("is a sparse tensor", "export it as a dense tensor"),
    None: ("has no known type", "export it with a type"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An input or output of a graph, with every axis of the graph's own."""

    name: str
    datatype: DataType
    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths, -1 for an open axis."""
        return tuple(axis if isinstance(axis, int) else -1 for axis in self.axes)

    def __str__(self) -> str:
        """As in "'x' [rows, 3]"."""
        axes = ("?" if axis is None else str(axis) for axis in self.axes)
        return f"'{self.name}' [{', '.join(axes)}]"


def edges_of(graph: onnx.GraphProto) -> tuple[list[Edge], list[Edge]]:
    """Inputs and outputs of a graph whose shapes were inferred.

    Raises SourceUnsupported naming a tensor of a type or shape that is not served.
    """
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [_edge(info) for info in graph.input if info.name not in constants]
    if not inputs:
        raise SourceUnsupported(
            "the model takes no input", remedy="give the graph at least one input"
        )
    return inputs, [_edge(info) for info in graph.output]


class Computed(NamedTuple):
    """A tensor that a node computes, with ONNX's name of its type, empty where inference tells none."""

    node: str
    op: str
    tensor: str
    type: str


def computed(graph: onnx.GraphProto) -> Iterator[Computed]:
    """Every tensor computed from the inputs' values, also inside subgraphs.

    What is computed from shapes and constants alone is left out; a node with subgraphs counts as
    computing from values.
    """
    constants = {tensor.name for tensor in graph.initializer}
    yield from _computed(graph, {info.name for info in graph.input} - constants)


def types_from_values(graph: onnx.GraphProto) -> dict[str, str]:
    """ONNX's type name of every input, and of every tensor computed from their values."""
    constants = {tensor.name for tensor in graph.initializer}
    types = {
        info.name: datatype_name(info.type.tensor_type.elem_type)
        for info in graph.input
        if info.name not in constants
    }
    return types | {item.tensor: item.type for item in computed(graph)}


def _computed(graph: onnx.GraphProto, values: set[str]) -> Iterator[Computed]:
    """The tensors of `graph` that depend on `values`, to which they are added."""
    types = {
        info.name: datatype_name(info.type.tensor_type.elem_type)
        for info in (*graph.value_info, *graph.output)
        if info.type.tensor_type.elem_type
    }
    for node in graph.node:
        inner = list(inner_graphs(node))
        for subgraph in inner:
            yield from _computed(subgraph, values | {info.name for info in subgraph.input})
        from_values = node.op_type not in _OF_SHAPES and not values.isdisjoint(node.input)
        if from_values or inner:
            values.update(node.output)
            for name in node.output:
                if name:
                    yield Computed(node.name, node.op_type, name, types.get(name, ""))


def axis_of(dimension: onnx.TensorShapeProto.Dimension) -> Axis:
    """The axis that a dimension of a shape stands for; some exporters write -1 for an open one."""
    if dimension.HasField("dim_value") and dimension.dim_value >= 0:
        return dimension.dim_value
    return dimension.dim_param or None


def _edge(info: onnx.ValueInfoProto) -> Edge:
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        raise _unsupported(info, *_NO_TENSOR[kind])
    tensor = info.type.tensor_type
    datatype = _DATATYPES.get(tensor.elem_type)
    if datatype is None:
        why = f"is of type {datatype_name(tensor.elem_type)}"
        raise _unsupported(info, why, "cast it to FLOAT at the edge of the graph")
    if not tensor.HasField("shape"):
        raise _unsupported(info, "has no known number of axes", "export it with a shape")
    axes = tuple(axis_of(dimension) for dimension in tensor.shape.dim)
    return Edge(name=info.name, datatype=datatype, axes=axes)


def _unsupported(info: onnx.ValueInfoProto, why: str, remedy: str) -> SourceUnsupported:
    return SourceUnsupported(f"tensor '{info.name}' {why}", remedy=remedy)
