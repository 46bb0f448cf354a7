"""What goes into a model and what comes out, read from its graph.

Knows: ONNX types and shapes, how a batch axis is recognised. Rules: a batch axis is a first axis of open
length on every input and output; nothing is guessed beyond that. Leaves to others: whether the model
really keeps rows apart (`reference` and `proof` run it).
"""

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from appliance.errors import SourceUnsupported, SpecError
from appliance.tensors import DataType, Interface, TensorSpec
from compiler.source import Source, inner_graphs
from compiler.spec import BATCH_MAX

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
}


def interface_of(source: Source, batch_max: int | None) -> Interface:
    """The engine's interface; `batch_max` as in the spec, None for the default.

    Raises SourceUnsupported naming a tensor of a type or shape that is not served, SpecError when rows
    are asked for that the graph cannot take.
    """
    graph = onnx.shape_inference.infer_shapes(source.model).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [_spec(info) for info in graph.input if info.name not in constants]
    outputs = [_spec(info) for info in graph.output]
    if not inputs:
        raise SourceUnsupported(
            "the model takes no input", remedy="give the graph at least one input"
        )
    rows = _rows(inputs + outputs, batch_max)
    return Interface(
        inputs=tuple(_unbatched(spec) if rows else spec for spec in inputs),
        outputs=tuple(_unbatched(spec) if rows else spec for spec in outputs),
        batch_max=rows,
    )


def computed_tensors(source: Source) -> Iterator[tuple[str, DataType | None]]:
    """Every tensor computed from the inputs' values, also inside subgraphs, with its datatype.

    The datatype is None where type inference does not tell it. What is computed from shapes and
    constants alone is left out; a node with subgraphs counts as computing from values.
    """
    graph = onnx.shape_inference.infer_shapes(source.model).graph
    constants = {tensor.name for tensor in graph.initializer}
    yield from _computed(graph, {info.name for info in graph.input} - constants)


def _computed(graph: onnx.GraphProto, values: set[str]) -> Iterator[tuple[str, DataType | None]]:
    """The tensors of `graph` that depend on `values`, to which they are added."""
    types = {
        info.name: _DATATYPES.get(info.type.tensor_type.elem_type)
        for info in (*graph.value_info, *graph.output)
    }
    for node in graph.node:
        inner = list(inner_graphs(node))
        for subgraph in inner:
            yield from _computed(subgraph, values | {info.name for info in subgraph.input})
        from_values = node.op_type not in _OF_SHAPES and not values.isdisjoint(node.input)
        if from_values or inner:
            values.update(node.output)
            yield from ((name, types.get(name)) for name in node.output if name)


def _rows(specs: list[TensorSpec], batch_max: int | None) -> int:
    fixed = [spec for spec in specs if not spec.shape or spec.shape[0] != -1]
    if not fixed:
        return BATCH_MAX if batch_max is None else batch_max
    if batch_max:
        told = ", ".join(f"'{spec.name}' {list(spec.shape)}" for spec in fixed)
        raise SpecError(
            f"batch_max is {batch_max}, but the first axis is not open on {told}",
            remedy="export the model with a dynamic first axis on every input and output, "
            "or leave batch_max out to serve one request at a time",
        )
    return 0


def _unbatched(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(name=spec.name, datatype=spec.datatype, shape=spec.shape[1:])


def _spec(info: onnx.ValueInfoProto) -> TensorSpec:
    """The spec with every axis, -1 for an open one."""
    if info.type.WhichOneof("value") != "tensor_type":
        raise _unsupported(
            info, "is not a tensor", "export it as a tensor (scikit-learn: zipmap=False)"
        )
    tensor = info.type.tensor_type
    datatype = _DATATYPES.get(tensor.elem_type)
    if datatype is None:
        name = TensorProto.DataType.Name(tensor.elem_type)
        raise _unsupported(info, f"is of type {name}", "cast it to FLOAT at the edge of the graph")
    if not tensor.HasField("shape"):
        raise _unsupported(info, "has no known number of axes", "export it with a shape")
    return TensorSpec(
        name=info.name,
        datatype=datatype,
        shape=tuple(
            axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim
        ),
    )


def _unsupported(info: onnx.ValueInfoProto, why: str, remedy: str) -> SourceUnsupported:
    return SourceUnsupported(f"tensor '{info.name}' {why}", remedy=remedy)
