"""The typed graph as the library's network, and everything that its parser refuses of it, at once.

Knows: how the parser tells its errors. Rules: the network is strongly typed, so that the graph's own types say
what is computed in what and no flag changes it; all refusals are told together, equal ones as one, each with what
to do; the library's numbers of codes and flags are never kept, for they change between releases. Leaves to others:
types and operators that are refused beforehand (`refusals`), building (`building`).

Source: the parser's own errors (IParserError: code, desc, node, node_name, node_operator). It checks every node
and goes on behind one that it refuses, so one parse tells them all (onnx-tensorrt, ModelImporter).
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from appliance.errors import EngineBuild
from appliance.tensors import DataType, Interface
from compiler.targets.target import Refusal
from runtime.gpu.tensorrt_library import failure, log_of

if TYPE_CHECKING:
    from compiler.opening.source import Source

LIBRARY = "TensorRT"
_CURES = {
    "UNSUPPORTED_NODE": "export it with operators that TensorRT has",
    "UNSUPPORTED_NODE_ATTR": "export it with other attributes",
    "UNSUPPORTED_NODE_INPUT": "make this input a constant, or leave it out",
    "UNSUPPORTED_NODE_DATATYPE": "cast its tensors to FLOAT, INT32 or INT64",
    "UNSUPPORTED_NODE_DYNAMIC": "give the axis a fixed length",
    "UNSUPPORTED_NODE_SHAPE": "export it with other shapes",
    "INVALID_NODE": "export it in opset 17 or later",
    "INVALID_GRAPH": "check the model with `holdfast-compile check`",
    "UNSUPPORTED_GRAPH": "export it without nested graphs",
}
# A node behind a refused one lacks its inputs; that is no reason of its own.
_FOLLOWING = ("INVALID_NODE", "INVALID_GRAPH", "INTERNAL_ERROR")
_TEXT_CHARACTERS_MAX = 240
# By TensorRT's names of its types.
DATATYPES = {
    "FLOAT": DataType.FP32,
    "HALF": DataType.FP16,
    "INT8": DataType.INT8,
    "INT32": DataType.INT32,
    "INT64": DataType.INT64,
    "UINT8": DataType.UINT8,
    "BOOL": DataType.BOOL,
}


def parsed(trt: Any, builder: Any, source: "Source", interface: Interface) -> Any:
    """The network of `source`. Raises EngineBuild naming everything that TensorRT refuses of it."""
    log = log_of(trt)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.logger)
    with log.heard() as heard:
        taken = parser.parse(source.data)
    if not taken or parser.num_errors:
        refuse_all(list(_refusals(parser, source)))
        raise failure(f"{LIBRARY} does not take the model", heard, kind=EngineBuild)
    _check_edges(trt, network, interface)
    return network


def refuse_all(refusals: Sequence[Refusal]) -> None:
    """Raise EngineBuild naming all of `refusals`, if there are any: each kind once, with its nodes."""
    if not refusals:
        return
    kinds: dict[tuple[str, str], list[str]] = {}
    for item in refusals:
        kinds.setdefault((item.op, item.reason), []).append(item.node)
    told = [f"{op} {_named(nodes)} {reason}" for (op, reason), nodes in kinds.items()]
    places = len({item.node for item in refusals})
    raise EngineBuild(
        f"{LIBRARY} does not take the model, for {places} of its nodes: {'; '.join(told)}",
        remedy="change these in the model, or leave it to the CPU engines",
    )


def _refusals(parser: Any, source: "Source") -> Iterator[Refusal]:
    """The parser's errors, those that only follow from others left out unless there are no others."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    causes = [item for item in errors if item.code().name not in _FOLLOWING]
    nodes = source.model.graph.node
    for error in causes or errors:
        index = int(error.node())
        known = nodes[index] if 0 <= index < len(nodes) else None
        name = error.node_name() or (known and (known.name or known.output[0])) or f"{index}"
        operator = error.node_operator() or (known.op_type if known else "the graph")
        words = " ".join(str(error.desc()).split())[:_TEXT_CHARACTERS_MAX]
        cure = _CURES.get(error.code().name)
        yield Refusal(node=name, op=operator, reason=f"({words})" + (f": {cure}" if cure else ""))


def _named(nodes: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in dict.fromkeys(nodes))


def _check_edges(trt: Any, network: Any, interface: Interface) -> None:
    """The network has the tensors that are served, lying as arrays do, and reads no input as a shape.

    Raises EngineBuild.
    """
    inputs = [network.get_input(at) for at in range(network.num_inputs)]
    outputs = [network.get_output(at) for at in range(network.num_outputs)]
    for what, specs, found in (
        ("input", interface.inputs, inputs),
        ("output", interface.outputs, outputs),
    ):
        types = {tensor.name: DATATYPES.get(tensor.dtype.name) for tensor in found}
        wanted = {spec.name: spec.datatype for spec in specs}
        if types != wanted:
            raise _edge(f"reads the {what}s as {_shown(types)}, the model has {_shown(wanted)}")
    for tensor in (
        *inputs,
        *outputs,
    ):  # by default "all formats are allowed" (ITensor::setAllowedFormats)
        tensor.allowed_formats = 1 << int(trt.TensorFormat.LINEAR)
    for tensor in inputs:
        if tensor.is_shape_tensor:
            raise _edge(
                f"reads input '{tensor.name}' as a shape, which must be known before the GPU runs"
            )


def _shown(types: dict[str, Any]) -> str:
    return ", ".join(f"'{name}' {kind or 'of a type of its own'}" for name, kind in types.items())


def _edge(what: str) -> EngineBuild:
    return EngineBuild(f"{LIBRARY} {what}", remedy="leave the model to the CPU engines")
