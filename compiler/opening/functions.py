"""Model-local functions written out, so that what is sealed holds standard operators only.

Knows: how calls and functions are matched (domain, name, overload), and what writing them out will cost.
Rules: the cost is counted, with every call multiplied, before anything is written out; a call gets the
default attributes of its function first, which onnx.inliner would lose. Leaves to others: whether the
result computes the same (`reference` compares both on the golden rows).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import onnx
from onnx import inliner

from appliance.errors import SourceFormat, SourceLimit, SourceUnsupported
from compiler.opening.bounds import Limits, check_count
from compiler.opening.walking import Body, bodies_within, inner_graphs
from runtime.engines.loading import library_text

Key: TypeAlias = tuple[str, str, str]

_GRAPH_TYPES = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
_INLINE = "inline them with onnx.inliner.inline_local_functions, or export without functions"


class Cost(NamedTuple):
    """What a body has once every call in it is written out.

    `calls` is how deep calls go, `handed_on` in how many places a call's attributes end up.
    """

    nodes: int
    bytes: int
    depth: int
    calls: int
    handed_on: int


_PLAIN_NODE = Cost(nodes=1, bytes=0, depth=1, calls=0, handed_on=1)


def inlined(model: onnx.ModelProto, limits: Limits) -> onnx.ModelProto:
    """The model with every function written out where it is called.

    Raises SourceFormat for functions that contradict each other, SourceLimit for what would be too
    large, SourceUnsupported when onnx.inliner cannot write one out.
    """
    functions = _by_key(model)
    _check_cost(_Costs(functions, limits).of(model.graph, ()), limits)
    with_defaults = onnx.ModelProto()
    with_defaults.CopyFrom(model)
    _add_defaults(with_defaults, functions, limits)
    try:
        written = inliner.inline_local_functions(with_defaults, convert_version=True)
    except Exception as error:  # pybind's errors share no base class
        raise SourceUnsupported(
            f"the model's own functions cannot be written out: {library_text(error)}",
            remedy=_INLINE,
        ) from error
    if written.functions:
        names = ", ".join(f"'{item.name}'" for item in written.functions[:3])
        raise SourceUnsupported(f"the functions {names} cannot be written out", remedy=_INLINE)
    called = {domain for domain, _, _ in functions}
    used = {
        node.domain for body in bodies_within(written.graph, limits.depth_max) for node in body.node
    }
    for at in reversed(range(len(written.opset_import))):
        domain = written.opset_import[at].domain
        if domain in called - used - {"", "ai.onnx"}:
            del written.opset_import[at]
    return written


def _by_key(model: onnx.ModelProto) -> dict[Key, onnx.FunctionProto]:
    functions: dict[Key, onnx.FunctionProto] = {}
    for function in model.functions:
        key = (_domain(function.domain), function.name, function.overload)
        if key in functions:
            raise SourceFormat(
                f"the model defines the function '{function.name}' twice",
                remedy="export the model again",
            )
        functions[key] = function
    return functions


def _called(node: onnx.NodeProto) -> Key:
    return (_domain(node.domain), node.op_type, node.overload)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _check_cost(cost: Cost, limits: Limits) -> None:
    check_count("nodes with its functions written out", cost.nodes, limits.nodes_max)
    check_count("bytes with its functions written out", cost.bytes, limits.bytes_max)
    check_count("levels of subgraphs with its functions written out", cost.depth, limits.depth_max)


@dataclass(frozen=True, slots=True)
class _Costs:
    """Counts bodies, each function once."""

    functions: dict[Key, onnx.FunctionProto]
    limits: Limits
    known: dict[Key, Cost] = field(default_factory=dict)

    def of(self, body: Body, callers: tuple[Key, ...]) -> Cost:
        """The cost of `body`, reached through `callers`."""
        nodes, size, depth, calls, handed_on = 0, body.ByteSize(), 0, 0, 0
        for level, node in _nodes_by_level(body, self.limits.depth_max):
            called = self._call(_called(node), callers)
            nodes += max(called.nodes, 1)
            size += called.bytes + self._attribute_bytes(node) * called.handed_on
            depth = max(depth, level + max(called.depth - 1, 0))
            calls = max(calls, called.calls)
            handed_on += called.handed_on * _references(node)
        return Cost(nodes, size, depth, calls, handed_on)

    def _attribute_bytes(self, node: onnx.NodeProto) -> int:
        """What a call hands to its function; a plain node's attributes are counted with its body."""
        function = self.functions.get(_called(node))
        if function is None:
            return 0
        attributes = (*node.attribute, *function.attribute_proto)
        return sum(attribute.ByteSize() for attribute in attributes)

    def _call(self, key: Key, callers: tuple[Key, ...]) -> Cost:
        function = self.functions.get(key)
        if function is None:
            return _PLAIN_NODE
        if key in callers:
            raise SourceFormat(
                f"the function '{function.name}' calls itself", remedy="export the model again"
            )
        if key not in self.known:
            cost = (
                self.of(function, (*callers, key)) if len(callers) < self.limits.calls_max else None
            )
            if cost is None or cost.calls >= self.limits.calls_max:
                raise SourceLimit(
                    f"functions call functions more than {self.limits.calls_max} deep",
                    remedy=_INLINE,
                )
            self.known[key] = cost._replace(calls=cost.calls + 1)
        return self.known[key]


def _references(node: onnx.NodeProto) -> int:
    """How many attributes a node inside a function takes over from the function's call."""
    taken = [attribute for attribute in node.attribute if attribute.ref_attr_name]
    if any(attribute.type in _GRAPH_TYPES for attribute in taken):
        raise SourceUnsupported(
            f"node '{node.name}' ({node.op_type}) takes a graph from its function's call",
            remedy=_INLINE,
        )
    return len(taken)


def _nodes_by_level(body: Body, depth_max: int) -> Iterator[tuple[int, onnx.NodeProto]]:
    """Every node within `body`, with how deep its graph lies; the body itself is level 1."""
    level: list[Body] = [body]
    for depth in range(1, depth_max + 1):
        inner: list[Body] = []
        for outer in level:
            for node in outer.node:
                yield depth, node
                inner += inner_graphs(node)
        level = inner


def _add_defaults(
    model: onnx.ModelProto, functions: dict[Key, onnx.FunctionProto], limits: Limits
) -> None:
    """Write into each call what its function would assume for the attributes left out."""
    roots: list[Body] = [model.graph, *model.functions]
    for root in roots:
        for body in bodies_within(root, limits.depth_max):
            for node in body.node:
                function = functions.get(_called(node))
                given = {attribute.name for attribute in node.attribute}
                for default in function.attribute_proto if function else ():
                    if default.name not in given:
                        node.attribute.add().CopyFrom(default)
