"""The ONNX file as received, opened within limits.

Knows: what makes a file a model that this release takes. Rules: the file is hostile until it passed every
check here; size first, then structure, then the checker, so that nothing deep or wide reaches a
recursive parser; nothing outside the file is read. Leaves to others: what goes in and out (`graph`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from appliance.errors import SourceFormat, SourceLimit, SourceUnsupported
from appliance.files import open_regular

OPSET_MIN = 9
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_EXPORT_AGAIN = "export the model to ONNX again and check it with onnx.checker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large a model may be; nodes and tensors are counted over all subgraphs."""

    bytes_max: int = (2 << 30) - 1  # what protobuf itself can hold
    nodes_max: int = 100_000
    tensors_max: int = 200_000
    depth_max: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A checked model: the file's bytes, sealed as they are, and the parsed form."""

    data: bytes
    model: onnx.ModelProto


def open_source(path: Path, limits: Limits | None = None) -> Source:
    """Read and check the model at `path`.

    Raises SourceFormat (not a valid ONNX model), SourceLimit, or SourceUnsupported (external data,
    functions, other domains, opset below 9).
    """
    limits = limits or Limits()
    data = _read(path, limits)
    model = _parse(data, path)
    graphs = list(_graphs(model.graph, limits))
    _check_sizes(graphs, limits)
    _check_domains(model, graphs)
    for graph in graphs:
        _check_tensors(graph)
    _check_validity(data, path)
    return Source(data=data, model=model)


def _read(path: Path, limits: Limits) -> bytes:
    try:
        with open_regular(path) as file:
            data = file.read(limits.bytes_max + 1)
    except OSError as error:
        raise SourceFormat(
            f"cannot read {path}: {error.strerror or error}", remedy="check the path"
        ) from error
    if len(data) > limits.bytes_max:
        raise SourceLimit(
            f"{path} has more than {limits.bytes_max} bytes", remedy="use a smaller model"
        )
    return data


def _parse(data: bytes, path: Path) -> onnx.ModelProto:
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise SourceFormat(f"{path} is not an ONNX file", remedy=_EXPORT_AGAIN) from error
    # Almost any few bytes parse as some message; a model names its format and computes something.
    if not model.ir_version or not model.graph.output:
        raise SourceFormat(f"{path} is not an ONNX model", remedy=_EXPORT_AGAIN)
    return model


def _graphs(graph: onnx.GraphProto, limits: Limits) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside its nodes' attributes."""
    level = [graph]
    for _ in range(limits.depth_max):
        yield from level
        level = [inner for outer in level for node in outer.node for inner in inner_graphs(node)]
    if level:
        raise SourceLimit(
            f"subgraphs are nested deeper than {limits.depth_max}",
            remedy="flatten the model's control flow",
        )


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The subgraphs in a node's attributes: branches and loop bodies."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _check_sizes(graphs: list[onnx.GraphProto], limits: Limits) -> None:
    nodes = sum(len(graph.node) for graph in graphs)
    tensors = sum(len(graph.initializer) + len(graph.sparse_initializer) for graph in graphs)
    for what, count, limit in (
        ("nodes", nodes, limits.nodes_max),
        ("initialisers", tensors, limits.tensors_max),
    ):
        if count > limit:
            raise SourceLimit(f"the model has {count} {what}, over {limit}", remedy="simplify it")


def _check_domains(model: onnx.ModelProto, graphs: list[onnx.GraphProto]) -> None:
    opset = max(
        (item.version for item in model.opset_import if item.domain in ("", "ai.onnx")),
        default=None,
    )
    if opset is not None and opset < OPSET_MIN:
        raise SourceUnsupported(
            f"the model uses opset {opset}", remedy=f"export it with opset {OPSET_MIN} or later"
        )
    if model.functions:
        raise SourceUnsupported(
            f"the model defines {len(model.functions)} functions of its own",
            remedy="inline them with onnx.inliner.inline_local_functions",
        )
    if model.training_info:
        raise SourceUnsupported("the model holds training graphs", remedy="export it for inference")
    for node in (node for graph in graphs for node in graph.node):
        if node.domain not in DOMAINS:
            raise SourceUnsupported(
                f"node '{node.name}' ({node.op_type}) is of domain '{node.domain}'",
                remedy="export with standard ONNX operators only (domains ai.onnx and ai.onnx.ml)",
            )


def _check_tensors(graph: onnx.GraphProto) -> None:
    """Refuse tensors kept in other files: their paths come from an untrusted file."""
    for tensor in _tensors(graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise SourceUnsupported(
                f"tensor '{tensor.name}' is kept in another file",
                remedy="save the model as one file: onnx.save(onnx.load(path), path)",
            )


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in (item for node in graph.node for item in node.attribute):
        yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)


def _check_validity(data: bytes, path: Path) -> None:
    try:
        onnx.checker.check_model(data, full_check=True)
    except Exception as error:  # the checker's two error classes and pybind's share no base class
        text = " ".join(str(error).split())[:300]
        raise SourceFormat(
            f"{path} is not a valid ONNX model: {text}", remedy=_EXPORT_AGAIN
        ) from error
