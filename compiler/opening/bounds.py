"""How large a model may be.

Knows: every limit of a source, and how each is told. Rules: what is counted here is counted before anything
recursive or greedy reads the model; functions count as if they were written out. Leaves to others: bytes
on the disk (`source`, `external`), what a tensor holds (`declared`), writing functions out (`functions`).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx

from appliance.errors import SourceFormat, SourceLimit
from compiler.opening.walking import Body, all_bodies, attributes_of, sparse_of, tensors_of

_SHOWN_CHARACTERS = 60  # of a name that is too long


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large a model may be; nodes, tensors and functions are counted over the whole model.

    `bytes_max`: the file with its external data, and the model with its functions written out; it is
    what protobuf itself can hold. `depth_max`: graphs inside graphs. `calls_max`: functions that call
    functions. `attribute_bytes_max`: one attribute without its tensors and graphs, such as the
    thresholds of a forest. `elements_max`: what a sparse tensor would have written out.
    """

    bytes_max: int = (2 << 30) - 1
    nodes_max: int = 100_000
    tensors_max: int = 200_000
    functions_max: int = 5_000
    depth_max: int = 8
    calls_max: int = 32
    attribute_bytes_max: int = 1 << 30
    elements_max: int = 1 << 29
    name_characters_max: int = 1024


def check_bounds(model: onnx.ModelProto, limits: Limits) -> None:
    """Count the parsed model, functions as they stand.

    Raises SourceLimit at the first excess, SourceFormat at a name that is no text.
    """
    bodies = all_bodies(model, limits.depth_max)
    tensors = (
        len(body.initializer) + len(body.sparse_initializer)
        for body in bodies
        if isinstance(body, onnx.GraphProto)
    )
    check_count("functions", len(model.functions), limits.functions_max)
    check_count("nodes", sum(len(body.node) for body in bodies), limits.nodes_max)
    check_count("initialisers", sum(tensors), limits.tensors_max)
    _check_names((item.domain for item in model.opset_import), limits.name_characters_max)
    for body in bodies:
        _check_names(_names(body), limits.name_characters_max)
        _check_attributes(body, limits)
        _check_sparse(body, limits)


def check_count(what: str, count: int, limit: int) -> None:
    """Raise SourceLimit when the model has more than `limit` of something."""
    if count > limit:
        raise SourceLimit(f"the model has {count} {what}, over {limit}", remedy="simplify it")


def _check_attributes(body: Body, limits: Limits) -> None:
    for attribute in attributes_of(body):
        size = 8 * (len(attribute.floats) + len(attribute.ints)) + len(attribute.s)
        size += sum(map(len, attribute.strings))
        if size > limits.attribute_bytes_max:
            raise SourceLimit(
                f"attribute '{_shown(attribute.name)}' has {size} bytes, "
                f"over {limits.attribute_bytes_max}",
                remedy="keep large tables as initialisers, or use a smaller model",
            )


def _check_sparse(body: Body, limits: Limits) -> None:
    for sparse in sparse_of(body):
        elements = math.prod(sparse.dims)
        if elements > limits.elements_max or min(sparse.dims, default=0) < 0:
            raise SourceLimit(
                f"sparse tensor '{_shown(sparse.values.name)}' {list(sparse.dims)[:8]} stands for "
                f"{elements} values, over {limits.elements_max}",
                remedy="export it as a dense tensor of a size that fits in memory",
            )


def _check_names(names: Iterable[str | bytes], limit: int) -> None:
    for name in names:
        if not isinstance(name, str):  # protobuf hands out bytes where a text is not UTF-8
            raise SourceFormat(
                f"a name in the model is not UTF-8 text: {name[:_SHOWN_CHARACTERS]!r}",
                remedy="export the model again; the file is damaged or was tampered with",
            )
        if len(name) > limit:
            raise SourceLimit(
                f"a name in the model has {len(name)} characters, over {limit}: {_shown(name)}",
                remedy="give nodes and tensors shorter names",
            )


def _names(body: Body) -> Iterator[str | bytes]:
    yield body.name
    for node in body.node:
        yield from (node.name, node.op_type, node.domain, node.overload)
        yield from node.input
        yield from node.output
    for attribute in attributes_of(body):
        yield from (attribute.name, attribute.ref_attr_name)
    for tensor in tensors_of(body):
        yield tensor.name
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)
    if isinstance(body, onnx.FunctionProto):
        yield from (body.domain, body.overload, *body.input, *body.output, *body.attribute)
        return
    for info in (*body.input, *body.output, *body.value_info):
        yield info.name
        for axis in info.type.tensor_type.shape.dim:
            yield axis.dim_param


def _shown(name: str) -> str:
    return name if len(name) <= _SHOWN_CHARACTERS else name[:_SHOWN_CHARACTERS] + "..."
