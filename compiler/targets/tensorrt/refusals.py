"""What TensorRT cannot serve of a model, told from its graph before the library is asked.

Knows: the types and operators that TensorRT computes otherwise than ONNX says, or not at all, and what this
software asks on top: a greatest length of every axis, and results whose lengths follow from what is sent.
Rules: each is named by node, operator and reason, with what to do; nothing here needs a GPU or the library, so
that an engineer learns of it anywhere. Leaves to others: what the library's own parser refuses (`network`).

Sources: NVIDIA/TensorRT, Python API "DataType"; onnx/onnx-tensorrt docs/operators.md (DOUBLE is cast to FLOAT,
wide unsigned integers have no type); the developer guide, "Dynamically Shaped Output".
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from appliance.tensors import Interface, TensorSpec
from compiler.opening.graph import computed_tensors
from compiler.opening.integers import integers_in
from compiler.targets.target import Refusal

if TYPE_CHECKING:
    from compiler.opening.source import Source

_REASONS = {
    **dict.fromkeys(("FP64", "DOUBLE"), "is {} and would be computed in FP32: cast it to FLOAT"),
    **dict.fromkeys(
        ("UINT64", "UINT32", "UINT16", "INT16"),
        "is {}, a type that TensorRT lacks: cast it to INT32 or INT64",
    ),
    **dict.fromkeys(
        ("BYTES", "STRING"), "is text, which TensorRT does not take: leave it to a CPU engine"
    ),
}
_CLASSICAL = "ai.onnx.ml"
# Their results are as long as the values make them (ONNX's definitions of these operators).
_AS_LONG_AS_VALUES_MAKE_IT = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})


def refused(source: "Source", interface: Interface) -> Iterator[Refusal]:
    """Everything in the model that is known not to be served as `interface` promises."""
    yield from _by_type(source, interface)
    yield from _by_operator(source)
    yield from _without_a_range(interface)
    yield from _positions(source)
    yield from _as_long_as_values(source, interface)


def _by_type(source: "Source", interface: Interface) -> Iterator[Refusal]:
    for what, specs in (("input", interface.inputs), ("output", interface.outputs)):
        for spec in specs:
            if spec.datatype in _REASONS:
                reason = _REASONS[spec.datatype].format(spec.datatype)
                yield Refusal(node=spec.name, op=what, reason=reason)
    for item in computed_tensors(source):
        if item.type in _REASONS:
            reason = _REASONS[item.type].format(item.type)
            yield Refusal(
                node=item.node, op=item.op, reason=f"makes '{item.tensor}', which {reason}"
            )


def _by_operator(source: "Source") -> Iterator[Refusal]:
    for node in source.model.graph.node:
        if node.domain == _CLASSICAL:
            reason = "is of classical machine learning (trees, scalers), which runs on a CPU engine"
            yield Refusal(node=node.name or node.output[0], op=node.op_type, reason=reason)


def _without_a_range(interface: Interface) -> Iterator[Refusal]:
    """Inputs with an axis of any length: an engine is built for lengths up to a greatest."""
    for spec in interface.inputs:
        if has_endless_axis(spec):
            reason = "has an axis of any length: give it a range in [model.axes]"
            yield Refusal(node=spec.name, op="input", reason=reason)


def has_endless_axis(spec: TensorSpec) -> bool:
    """True when an axis of `spec` is open and has no range."""
    ranges = spec.ranges or (None,) * len(spec.shape)
    return any(axis == -1 and not given for axis, given in zip(spec.shape, ranges, strict=True))


def _positions(source: "Source") -> Iterator[Refusal]:
    for node in integers_in(source).unchecked:
        reason = "reads at computed positions, which a GPU does not check"
        yield Refusal(node=node.name or node.output[0], op=node.op_type, reason=reason)


def _as_long_as_values(source: "Source", interface: Interface) -> Iterator[Refusal]:
    """Nodes whose lengths only the values decide, where an output that is open depends on them.

    What pads or cuts such a result to a fixed length again is served; whether it does is asked of the
    built engine (`plan`).
    """
    open_outputs = {spec.name for spec in interface.outputs if -1 in spec.shape}
    if not open_outputs:
        return
    reached: dict[str, set[str]] = {}  # by tensor, the names of the nodes that it depends on
    guilty = {}
    for node in source.model.graph.node:
        causes = set().union(*(reached.get(name, set()) for name in node.input))
        if node.op_type in _AS_LONG_AS_VALUES_MAKE_IT and not node.domain:
            guilty[node.output[0]] = node
            causes.add(node.output[0])
        reached |= dict.fromkeys(node.output, causes)
    causes = set().union(*(reached.get(name, set()) for name in open_outputs))
    for name in sorted(causes):
        reason = (
            "makes results as long as the values decide: do that after the engine, in the recipe"
        )
        yield Refusal(node=guilty[name].name or name, op=guilty[name].op_type, reason=reason)
