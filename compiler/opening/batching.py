"""Batch handling, derived from the graph and put into words.

Knows: how a batch axis is recognised, and what commonly keeps a model from having one: a fixed first axis,
tensors without it, nodes that write it down as a number. Rules: a batch axis is a first axis of open length
on every input and output; nothing is guessed beyond that, and everything short of it is explained. Leaves
to others: opening a fixed axis (`received`), whether rows are really kept apart (`reference`, `proof`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from appliance.errors import SpecError
from compiler.opening.edges import Axis, Edge, axis_of, computed
from compiler.spec import BATCH_MAX

Shapes: TypeAlias = Mapping[str, tuple[Axis, ...]]
Constants: TypeAlias = Mapping[str, list[int]]

NAMED_MAX = 3  # nodes that a message names
_ENTRIES_MAX = 64  # of a constant that may be a shape
_OPEN_IT = (
    "export the model with a dynamic first axis on every input and output, set open_batch = true in "
    "the spec to have it opened here, or leave batch_max out to serve one request at a time"
)
_EXPORT_OPEN = (
    "export the model with a dynamic first axis on every input and output, "
    "or leave batch_max out to serve one request at a time"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HardCoded:
    """A node that writes the batch down as a number, and what it does."""

    node: str
    op: str
    does: str

    def __str__(self) -> str:
        """As in "node 'flat' (Reshape) fixes its first axis at 1"."""
        return f"node '{self.node}' ({self.op}) {self.does}"


def rows_of(edges: Sequence[Edge], batch_max: int | None, found: Sequence[HardCoded] = ()) -> int:
    """Rows in one engine call, 0 without a batch axis; `batch_max` as in the spec, None for the default.

    found: what `hard_coded` found in the same graph. Raises SpecError saying why, when rows are asked for that the graph cannot take.
    """
    closed = closed_edges(edges)
    if not closed:
        return BATCH_MAX if batch_max is None else batch_max
    if batch_max:
        raise SpecError(
            f"batch_max is {batch_max}, but the first axis is not open on "
            f"{', '.join(map(str, closed))}: {why_closed(edges, found)}",
            remedy=_OPEN_IT if can_open(edges) else _EXPORT_OPEN,
        )
    return 0


def batch_note(
    edges: Sequence[Edge], batch_max: int | None, found: Sequence[HardCoded] = ()
) -> str | None:
    """What the engineer is told when nothing was asked for and requests will be served one by one."""
    if batch_max is not None or not closed_edges(edges):
        return None
    offer = "; open_batch = true in the spec would open it" if can_open(edges) else ""
    return f"requests are served one at a time: {why_closed(edges, found)}{offer}"


def why_closed(edges: Sequence[Edge], found: Sequence[HardCoded] = ()) -> str:
    """Why there is no batch axis, in words; `edges` have one that is not open."""
    culprits = "; ".join(map(str, found[:NAMED_MAX]))
    # Where nothing is open the export fixed it all, and its nodes only follow.
    named = bool(culprits) and len(closed_edges(edges)) < len(edges)
    return _why_edges(edges) + (f" ({culprits})" if named else "")


def closed_edges(edges: Sequence[Edge]) -> list[Edge]:
    """Those without an open first axis."""
    return [edge for edge in edges if not edge.axes or isinstance(edge.axes[0], int)]


def _why_edges(edges: Sequence[Edge]) -> str:
    closed = closed_edges(edges)
    lengths = {edge.axes[0] for edge in closed if edge.axes}
    if len(closed) == len(edges):
        if all(edge.axes for edge in edges) and len(lengths) == 1:
            return (
                f"every tensor's first axis is fixed at {lengths.pop()}, as the model was exported"
            )
        return "no tensor has an open first axis"
    reasons = (
        f"'{edge.name}' " + (f"is fixed at {edge.axes[0]}" if edge.axes else "has no axes")
        for edge in closed
    )
    opened = (f"'{edge.name}'" for edge in edges if edge not in closed)
    return f"the first axis is open on {', '.join(opened)} only; {', '.join(reasons)}"


def can_open(edges: Sequence[Edge]) -> bool:
    """True when every first axis is either open or 1, so that opening it may be tried."""
    return bool(closed_edges(edges)) and all(
        bool(edge.axes) and (edge.axes[0] == 1 or not isinstance(edge.axes[0], int))
        for edge in edges
    )


def hard_coded(graph: onnx.GraphProto) -> list[HardCoded]:
    """The nodes that write down the length of a first axis which is open; shapes must be inferred."""
    values = {item.tensor for item in computed(graph)}
    constants = small_constants(graph)
    values |= {info.name for info in graph.input} - constants.keys()
    shapes = shapes_of(graph)
    found = []
    for node in graph.node:
        judge = _JUDGES.get(node.op_type)
        does = judge and _open_first(node, shapes, values) and judge(node, constants, shapes)
        if does:
            found.append(HardCoded(node=node.name or node.output[0], op=node.op_type, does=does))
    return found


def small_constants(graph: onnx.GraphProto) -> dict[str, list[int]]:
    """Constants that may be shapes or indices, by name: int64 or int32, at most one axis."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1:
            attribute = node.attribute[0]
            if attribute.name == "value":
                tensors[node.output[0]] = attribute.t
            elif attribute.name == "value_ints":
                values = np.array(attribute.ints, np.int64)
                tensors[node.output[0]] = numpy_helper.from_array(values)
    return {
        name: numpy_helper.to_array(tensor).reshape(-1).tolist()
        for name, tensor in tensors.items()
        if tensor.data_type in (TensorProto.INT64, TensorProto.INT32)
        and len(tensor.dims) <= 1
        and sum(tensor.dims) <= _ENTRIES_MAX
    }


def shapes_of(graph: onnx.GraphProto) -> dict[str, tuple[Axis, ...]]:
    """The shapes that are known, by tensor."""
    infos = (*graph.input, *graph.value_info, *graph.output)
    shapes: dict[str, tuple[Axis, ...]] = {
        tensor.name: tuple(tensor.dims) for tensor in graph.initializer
    }
    for info in infos:
        if info.type.tensor_type.HasField("shape"):
            shapes[info.name] = tuple(map(axis_of, info.type.tensor_type.shape.dim))
    return shapes


def _open_first(node: onnx.NodeProto, shapes: Shapes, values: set[str]) -> bool:
    """True when one of the node's inputs is computed from rows and its first axis is not fixed."""
    return any(
        name in values and (name not in shapes or _is_open(shapes[name][:1])) for name in node.input
    )


def _is_open(first: tuple[Axis, ...]) -> bool:
    return bool(first) and not isinstance(first[0], int)


def _reshape(node: onnx.NodeProto, constants: Constants, _: Shapes) -> str:
    shape = constants.get(node.input[1], []) if len(node.input) > 1 else []
    return f"fixes its first axis at {shape[0]}" if shape and shape[0] > 0 else ""


def _expand(node: onnx.NodeProto, constants: Constants, _: Shapes) -> str:
    shape = constants.get(node.input[1], [])
    return f"fixes its first axis at {shape[0]}" if shape and shape[0] > 1 else ""


def _squeeze(node: onnx.NodeProto, constants: Constants, _: Shapes) -> str:
    axes = [axis for item in node.attribute if item.name == "axes" for axis in item.ints]
    if len(node.input) > 1:
        axes = constants.get(node.input[1], [])
    return "drops the first axis, which it takes to be 1" if 0 in axes else ""


def _gather(node: onnx.NodeProto, constants: Constants, _: Shapes) -> str:
    axis = next((item.i for item in node.attribute if item.name == "axis"), 0)
    picked = constants.get(node.input[1], [])
    return f"takes row {picked[0]} only" if axis == 0 and len(picked) == 1 else ""


def _concat(node: onnx.NodeProto, _: Constants, shapes: Shapes) -> str:
    axis = next((item.i for item in node.attribute if item.name == "axis"), 0)
    fixed = [
        (name, shapes[name][0])
        for name in node.input
        if shapes.get(name) and isinstance(shapes[name][0], int)
    ]
    return f"joins '{fixed[0][0]}', whose first axis is {fixed[0][1]}" if axis and fixed else ""


_JUDGES: dict[str, Callable[[onnx.NodeProto, Constants, Shapes], str]] = {
    "Reshape": _reshape,
    "Expand": _expand,
    "Squeeze": _squeeze,
    "Gather": _gather,
    "Concat": _concat,
}
