"""Whole numbers on their way through a graph: where they are read as positions, where they outgrow 32 bits.

Knows: which operators only move numbers, which make positions, which read at positions (Gather and its
kin). Rules: what is not known to stay within 32 bits, or within the axis that it points into, is named; a
constant is checked, an input may be checked when it is sent, so its bounds are told. Leaves to others: who
needs this (`targets`: OpenVINO computes 64-bit integers in 32 bits, and reads zeros outside of an axis).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import onnx
from onnx import TensorProto, numpy_helper

from compiler.opening.batching import Shapes, shapes_of
from compiler.opening.edges import Computed, computed, types_from_values
from compiler.opening.inference import inferred
from compiler.opening.source import Source
from compiler.opening.walking import inner_graphs

Span: TypeAlias = tuple[int, int]  # lowest and highest value

INT32: Span = (-(2**31), 2**31 - 1)
_SPANS: dict[str, Span] = {
    "BOOL": (0, 1),
    "INT8": (-(2**7), 2**7 - 1),
    "UINT8": (0, 2**8 - 1),
    "INT16": (-(2**15), 2**15 - 1),
    "UINT16": (0, 2**16 - 1),
    "INT32": INT32,
    "INT64": INT32,  # as an input, where it is checked
}
_WHOLE = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
# Operators whose results are values of these inputs.
_MOVED: dict[str, slice] = {
    **dict.fromkeys(_WHOLE, slice(0, 1)),
    **dict.fromkeys(("Expand", "Gather", "GatherElements", "Slice", "Split", "Tile"), slice(0, 1)),
    **dict.fromkeys(("Concat", "Max", "Min"), slice(None)),
    "Where": slice(1, 3),
}
_INDEXED = ("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND")


@dataclass(frozen=True, slots=True, kw_only=True)
class Integers:
    """What is found: `bounds` that inputs must keep to for being positions, by name.

    `unchecked`: nodes that read at positions for which no bound can be told; `grown`: those where the
    positions follow from lengths alone, which are right as far as lengths were tried; `outgrowing`: what is
    computed in 64 bits and may need them.
    """

    bounds: dict[str, Span] = field(default_factory=dict)
    unchecked: list[onnx.NodeProto] = field(default_factory=list)
    grown: list[onnx.NodeProto] = field(default_factory=list)
    outgrowing: list[Computed] = field(default_factory=list)


def integers_in(source: Source) -> Integers:
    """Follow the integers of the model, which passed inference."""
    return _Following(source).found


class _Following:
    """One graph, followed node by node in order."""

    def __init__(self, source: Source) -> None:
        graph = inferred(source.model)
        self.found = Integers()
        self._shapes: Shapes = shapes_of(graph)
        # Inference sees no large constants.
        self._constants = dict(_constants(source.model.graph))
        self._types = types_from_values(graph)
        inputs = [info.name for info in graph.input if info.name in self._types]
        self._spans = {name: _SPANS[self._types[name]] for name in inputs if self._known(name)}
        self._whole = {name: name for name in inputs}
        for node in graph.node:
            self._follow(node)
        for item in computed(graph):
            if item.type == "INT64" and item.tensor not in self._spans:
                self.found.outgrowing.append(item)

    def _known(self, name: str) -> bool:
        return self._types.get(name, "") in _SPANS

    def _follow(self, node: onnx.NodeProto) -> None:
        self._check_positions(node)
        self._check_constants(node)
        if node.op_type in _WHOLE and node.input[0] in self._whole and _stays_whole(node):
            self._whole[node.output[0]] = self._whole[node.input[0]]
        span = self._span_of(node)
        if span is not None:
            self._keep(node, span)
        if node.op_type == "TopK" and len(node.output) > 1:
            self._spans[node.output[1]] = self._below(node, -1)
        for inner in inner_graphs(node):
            self.found.unchecked.extend(_inner_positions(inner))

    def _keep(self, node: onnx.NodeProto, span: Span) -> None:
        """Note the span of the node's integer results; what a narrower type would wrap may be anything of it."""
        for name in filter(self._known, node.output):
            low, high = _SPANS[self._types[name]]
            self._spans[name] = span if low <= span[0] <= span[1] <= high else (low, high)

    def _span_of(self, node: onnx.NodeProto) -> Span | None:
        """Of the node's results, None where it is not known."""
        if node.op_type in ("ArgMax", "ArgMin"):
            return self._below(node, 0)
        if node.op_type == "NonZero":
            return (0, INT32[1])
        if node.op_type not in _MOVED:
            return None
        moved = [self._span(name) for name in node.input[_MOVED[node.op_type]]]
        known = [span for span in moved if span is not None]
        if len(known) < len(moved) or not known:
            return None
        return min(low for low, _ in known), max(high for _, high in known)

    def _span(self, name: str) -> Span | None:
        if name in self._constants:
            return self._constants[name]
        if name not in self._types:  # it follows from lengths
            return INT32
        kind = self._types[name]
        return self._spans.get(name) or (None if kind == "INT64" else _SPANS.get(kind))

    def _below(self, node: onnx.NodeProto, otherwise: int) -> Span:
        """Positions along the node's axis, which is `otherwise` by default."""
        length = self._length(node, otherwise)
        return (0, INT32[1] if length is None else max(length - 1, 0))

    def _length(self, node: onnx.NodeProto, otherwise: int) -> int | None:
        """Of the axis of the first input that the node names, None where it is open."""
        axis = next((item.i for item in node.attribute if item.name == "axis"), otherwise)
        shape = self._shapes.get(node.input[0], ())
        length = shape[axis] if -len(shape) <= axis < len(shape) else None
        return length if isinstance(length, int) else None

    def _check_positions(self, node: onnx.NodeProto) -> None:
        """Note what the positions that the node reads at must keep to."""
        if node.op_type not in _INDEXED or node.input[1] in self._constants:
            return
        name = node.input[1]
        if name not in self._types:
            self.found.grown.append(node)
            return
        length = self._length(node, 0) if node.op_type in ("Gather", "GatherElements") else None
        span = self._spans.get(name)
        if length is None or not length:
            self.found.unchecked.append(node)
        elif name in self._whole:
            given = self._whole[name]
            low, high = self.found.bounds.get(given, INT32)
            self.found.bounds[given] = max(low, -length), min(high, length - 1)
        elif span is None or not -length <= span[0] <= span[1] < length:
            self.found.unchecked.append(node)

    def _check_constants(self, node: onnx.NodeProto) -> None:
        """Note a node that takes 64-bit values together with a constant that needs 64 bits."""
        if node.op_type == "Slice" or not any(self._types.get(n) == "INT64" for n in node.input):
            return
        spans = {name: self._constants.get(name) for name in node.input}
        for name, span in spans.items():
            if span is not None and not INT32[0] <= span[0] <= span[1] <= INT32[1]:
                self.found.outgrowing.append(Computed(node.name, node.op_type, name, "INT64"))


def _stays_whole(node: onnx.NodeProto) -> bool:
    """True when the result is the input's values one by one, as integers of 32 or 64 bits."""
    targets = [item.i for item in node.attribute if item.name == "to"]
    return node.op_type != "Cast" or targets[0] in (TensorProto.INT32, TensorProto.INT64)


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, Span | None]]:
    """The constants, with their lowest and highest value where they are signed integers."""
    for tensor in graph.initializer:
        yield tensor.name, _extremes(tensor)
    for node in graph.node:
        if node.op_type == "Constant":
            tensors = [item.t for item in node.attribute if item.name == "value"]
            ints = [
                value
                for item in node.attribute
                if item.name in ("value_int", "value_ints")
                for value in (*item.ints, item.i)
            ]
            known = _extremes(tensors[0]) if tensors else (min(ints), max(ints)) if ints else None
            yield node.output[0], known


def _extremes(tensor: onnx.TensorProto) -> Span | None:
    if tensor.data_type not in (TensorProto.INT64, TensorProto.INT32):
        return None
    values = numpy_helper.to_array(tensor)
    return (int(values.min()), int(values.max())) if values.size else (0, 0)


def _inner_positions(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes of a subgraph that read at positions which are no constants of its own."""
    constants = {name for name, _ in _constants(graph)}
    for node in graph.node:
        if node.op_type in _INDEXED and node.input[1] not in constants:
            yield node
        for inner in inner_graphs(node):
            yield from _inner_positions(inner)
