"""Walking through an ONNX model: the graphs inside graphs, and every tensor that is kept anywhere.

Knows: where ONNX may hide a graph or a tensor: attributes, branches, function bodies, sparse tensors. Rules:
level by level, never by recursion, so that depth is counted before it can do harm. Leaves to others: what
is allowed there (`bounds`, `declared`, `external`).
"""

from collections.abc import Iterator
from typing import TypeAlias

import onnx

from appliance.errors import SourceLimit

Body: TypeAlias = onnx.GraphProto | onnx.FunctionProto


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The subgraphs in a node's attributes: branches and loop bodies."""
    for attribute in node.attribute:
        yield from _graphs_in(attribute)


def bodies_within(root: Body, depth_max: int) -> list[Body]:
    """`root` and every graph inside its nodes' attributes. Raises SourceLimit below `depth_max`."""
    found: list[Body] = []
    level: list[Body] = [root]
    for _ in range(depth_max):
        found += level
        level = [
            inner
            for outer in level
            for attribute in attributes_of(outer)
            for inner in _graphs_in(attribute)
        ]
    if level:
        raise SourceLimit(
            f"subgraphs are nested deeper than {depth_max}",
            remedy="flatten the model's control flow",
        )
    return found


def all_bodies(model: onnx.ModelProto, depth_max: int) -> list[Body]:
    """Every graph of the model, its functions' bodies included. Raises SourceLimit."""
    roots: list[Body] = [model.graph, *model.functions]
    return [body for root in roots for body in bodies_within(root, depth_max)]


def attributes_of(body: Body) -> Iterator[onnx.AttributeProto]:
    """The attributes of a body's own nodes, and the default ones of a function."""
    for node in body.node:
        yield from node.attribute
    if isinstance(body, onnx.FunctionProto):
        yield from body.attribute_proto


def tensors_of(body: Body) -> Iterator[onnx.TensorProto]:
    """The tensors kept in a body itself: initialisers, and those in attributes."""
    if isinstance(body, onnx.GraphProto):
        yield from body.initializer
        for sparse in body.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for attribute in attributes_of(body):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in sparse_in(attribute):
            yield from (sparse.values, sparse.indices)


def sparse_of(body: Body) -> Iterator[onnx.SparseTensorProto]:
    """The sparse tensors kept in a body itself."""
    if isinstance(body, onnx.GraphProto):
        yield from body.sparse_initializer
    for attribute in attributes_of(body):
        yield from sparse_in(attribute)


def sparse_in(attribute: onnx.AttributeProto) -> Iterator[onnx.SparseTensorProto]:
    """The sparse tensors of one attribute."""
    if attribute.HasField("sparse_tensor"):
        yield attribute.sparse_tensor
    yield from attribute.sparse_tensors


def _graphs_in(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs
