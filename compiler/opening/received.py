"""A fixed batch of 1 opened, where the engineer asks for it.

Knows: what an exporter writes down as 1 that means the rows: the first axis of inputs and outputs, and of
the constant shapes of Reshape. Rules: only what depends on the inputs is touched; the result passes the
checker's strict inference here, and counts for nothing until its rows were compared with those of the model
as received (`reference`). Leaves to others: saying why there is no batch axis (`batching`).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from appliance.errors import SourceFormat, SourceUnsupported, SpecError
from compiler.opening.batching import (
    NAMED_MAX,
    Constants,
    Shapes,
    can_open,
    closed_edges,
    hard_coded,
    shapes_of,
    small_constants,
    why_closed,
)
from compiler.opening.edges import Edge, computed, edges_of
from compiler.opening.inference import inferred
from compiler.opening.source import Source, check_validity, open_source
from compiler.opening.walking import inner_graphs
from compiler.spec import ModelTable

_ROWS = "rows"


def received_source(path: Path, wanted: ModelTable) -> Source:
    """The model at `path`, its batch of 1 opened where the spec's [model] wants it.

    Raises as `open_source` and `opened`, and SpecError when an axis would be opened for one row.
    """
    source = open_source(path)
    if not wanted.open_batch:
        return source
    if wanted.batch_max is not None and wanted.batch_max < 2:
        raise SpecError(
            f"open_batch is set, but batch_max is {wanted.batch_max}",
            remedy="leave open_batch out, or let batch_max be 2 or more",
        )
    return opened(source)


def opened(source: Source) -> Source:
    """The model with an open first axis on every input and output, and a note of what was rewritten.

    The source itself when there is nothing to open. Raises SourceUnsupported when a tensor's first axis
    is neither open nor 1, or the result contradicts itself, naming the nodes that hold on to the number.
    """
    known = inferred(source.model)
    inputs, outputs = edges_of(known)
    edges = inputs + outputs
    closed = closed_edges(edges)
    if closed and not can_open(edges):
        raise SourceUnsupported(
            f"open_batch is set, but there is no batch of 1 to open: {why_closed(edges)}",
            remedy="export the model with a dynamic first axis on every input and output",
        )
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    rows = _rows_name(edges)
    for info in (*model.graph.input, *model.graph.output):
        if info.name in {edge.name for edge in edges}:
            _open_first(info, rows)
    reshaped = list(_open_reshapes(model.graph, known))
    if not closed and not reshaped:
        return source
    _forget_shapes(model.graph)
    data = model.SerializeToString(deterministic=True)
    _check(data, model)
    notes = [f"the first axis of {', '.join(map(str, closed))} was opened"] if closed else []
    notes += [f"node '{name}' (Reshape) was given an open first axis" for name in reshaped]
    return Source(
        data=data,
        model=model,
        sha256=source.sha256,
        files=source.files,
        received=source.received or source.data,
        notes=(*source.notes, *notes),
    )


def _rows_name(edges: list[Edge]) -> str:
    """The name that open first axes already have, else one that no axis has."""
    named = {edge.axes[0] for edge in edges if edge.axes and isinstance(edge.axes[0], str)}
    if len(named) == 1:
        return str(named.pop())
    taken = {axis for edge in edges for axis in edge.axes}
    name = _ROWS
    while name in taken:
        name += "_"
    return name


def _open_first(info: onnx.ValueInfoProto, rows: str) -> None:
    shape = info.type.tensor_type.shape
    if shape.dim:  # one without a shape gets it from inference
        shape.dim[0].Clear()
        shape.dim[0].dim_param = rows


def _forget_shapes(graph: onnx.GraphProto) -> None:
    """Drop the shapes noted between the edges: they were inferred for one row."""
    graph.ClearField("value_info")
    for node in graph.node:
        for inner in inner_graphs(node):
            _forget_shapes(inner)


def _open_reshapes(graph: onnx.GraphProto, known: onnx.GraphProto) -> Iterator[str]:
    """Give every Reshape of what depends on the inputs a shape of its own without the batch's length."""
    values = {item.tensor for item in computed(known)} | {info.name for info in known.input}
    constants, shapes = small_constants(graph), shapes_of(known)
    taken = {tensor.name for tensor in graph.initializer} | set(shapes)
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[0] not in values:
            continue
        shape = _open_shape(node, constants, shapes)
        if shape is not None:
            name = f"{node.output[0]}_rows"
            while name in taken:
                name += "_"
            taken.add(name)
            graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
            node.input[1] = name
            yield node.name or node.output[0]


def _open_shape(node: onnx.NodeProto, constants: Constants, shapes: Shapes) -> list[int] | None:
    """The constant shape with its first length left open, None when it is not fixed.

    Where the whole shape is known, the first axis becomes -1, what is left over, since every row brings
    the same number of values; where another axis is -1, it is copied from the input (0).
    """
    shape = constants.get(node.input[1])
    if not shape or shape[0] <= 0:
        return None
    known = shapes.get(node.output[0], ())
    rest = [axis for axis in known[1:] if isinstance(axis, int)]
    if len(rest) == len(shape) - 1 and 0 not in rest:
        return [-1, *rest]
    return [0, *shape[1:]] if shape[0] == 1 and -1 in shape[1:] else [-1, *shape[1:]]


def _check(data: bytes, model: onnx.ModelProto) -> None:
    """The result keeps to the standard, and its outputs' first axes came out open."""
    graph = inferred(model)
    inputs, outputs = edges_of(graph)
    try:
        check_validity(data, "the model with an open batch axis", full=True)
    except SourceFormat as error:
        raise _cannot(graph, str(error)) from error
    if closed_edges(inputs + outputs):
        raise _cannot(graph, why_closed(inputs + outputs))


def _cannot(graph: onnx.GraphProto, why: str) -> SourceUnsupported:
    culprits = "; ".join(map(str, hard_coded(graph)[:NAMED_MAX]))
    return SourceUnsupported(
        f"the batch of 1 cannot be opened: {culprits or why}",
        remedy="export the model with a dynamic first axis on every input and output",
    )
