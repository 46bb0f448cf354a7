"""Mutants of ONNX models: fields changed by their meaning.

Knows: ONNX's messages, and what in them is worth lying about. Rules: as in `mutants`; every change
here is small enough to reach the checks behind the parser. Leaves to others: what becomes of mutants.
"""

import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

from model_growth import GROWTH, buried
from mutants import LENGTHS, bytes_mutant
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

NAMES = ("", "x", "input", "a/b", "../x", "\n", "\x00", "é" * 40, "n" * 300, "nan", "label", "-1")
OPERATORS = (
    *("Identity", "Reshape", "MatMul", "Conv", "Loop", "If", "Scan", "Concat", "Gather", "Tile"),
    *("ConstantOfShape", "Range", "Expand", "Softmax", "RandomNormalLike", "NonZero", "Shape"),
    *("Bogus", "", "StringNormalizer", "SequenceConstruct", "Resize", "TopK", "Unique", "Einsum"),
)


def model_mutant(data: bytes, rng: random.Random) -> bytes:
    """The ONNX model `data` with one to three of its fields changed, now and then buried deep."""
    model = ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(_MODEL)(model, rng)
    return (
        buried(model, rng.choice((20, 90, 5000)))
        if rng.random() < 0.02
        else model.SerializeToString()
    )


def _graph(model: ModelProto, rng: random.Random) -> GraphProto:
    """The main graph, or one inside it."""
    graphs = [model.graph]
    for node in model.graph.node:
        graphs.extend(attribute.g for attribute in node.attribute if attribute.HasField("g"))
    return rng.choice(graphs)


def _node(model: ModelProto, rng: random.Random) -> NodeProto:
    nodes = _graph(model, rng).node
    return rng.choice(nodes) if nodes else nodes.add()


def _some(items: Sequence[Any], rng: random.Random) -> Any:
    return rng.choice(items) if items else None


def _tensor(model: ModelProto, rng: random.Random) -> TensorProto:
    graph = _graph(model, rng)
    tensors = [
        *graph.initializer,
        *(a.t for n in graph.node for a in n.attribute if a.HasField("t")),
    ]
    return _some(tensors, rng) or graph.initializer.add()


def _shape_length(model: ModelProto, rng: random.Random) -> None:
    info = _some([*model.graph.input, *model.graph.output, *model.graph.value_info], rng)
    if info is None:
        return
    shape = info.type.tensor_type.shape
    axis = _some(shape.dim, rng) or shape.dim.add()
    match rng.randrange(4):
        case 0:
            axis.dim_param = rng.choice(NAMES)
        case 1:
            shape.dim.add().dim_value = rng.choice(LENGTHS)
        case 2:
            del shape.dim[rng.randrange(len(shape.dim))]
        case _:
            axis.dim_value = rng.choice(LENGTHS)


def _type_of_edge(model: ModelProto, rng: random.Random) -> None:
    info = _some([*model.graph.input, *model.graph.output], rng)
    if info is None:
        return
    match rng.randrange(5):
        case 0:
            info.type.sequence_type.elem_type.tensor_type.elem_type = 1
        case 1:
            info.type.optional_type.elem_type.tensor_type.elem_type = 1
        case 2:
            info.ClearField("type")
        case 3:
            info.type.tensor_type.ClearField("shape")
        case _:
            info.type.tensor_type.elem_type = rng.randrange(0, 30)


def _tensor_field(model: ModelProto, rng: random.Random) -> None:
    tensor = _tensor(model, rng)
    match rng.randrange(7):
        case 0:
            tensor.dims.append(rng.choice(LENGTHS))
        case 1 if tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(LENGTHS)
        case 2:
            tensor.data_type = rng.randrange(0, 30)
        case 3:
            tensor.raw_data = bytes_mutant(tensor.raw_data, rng)
        case 4:
            tensor.data_location = TensorProto.EXTERNAL
            entry = tensor.external_data.add()
            entry.key, entry.value = "location", rng.choice(("/etc/hostname", "../x", "tiny.onnx"))
        case 5:
            tensor.float_data.extend([float("nan"), 1.0])
        case _:
            tensor.name = rng.choice(NAMES)


def _values(model: ModelProto, rng: random.Random) -> None:
    """Weights of the right type and length, and of no sense."""
    tensor = _tensor(model, rng)
    if tensor.data_type == TensorProto.FLOAT and tensor.raw_data:
        number = struct.pack("<f", rng.choice((float("nan"), float("inf"), 1e38, -1e-40, 0.0)))
        at = 4 * rng.randrange(len(tensor.raw_data) // 4)
        tensor.raw_data = tensor.raw_data[:at] + number + tensor.raw_data[at + 4 :]


def _edge_name(model: ModelProto, rng: random.Random) -> None:
    """Rename an end of a node: dangling, tied into a ring, or given twice."""
    node = _node(model, rng)
    side = node.input if rng.random() < 0.6 else node.output
    graph = model.graph
    known = [name for each in graph.node for name in (*each.input, *each.output)]
    known += [info.name for info in (*graph.input, *graph.output)]
    name = rng.choice([*NAMES, *known])
    if side and rng.random() < 0.8:
        side[rng.randrange(len(side))] = name
    else:
        side.append(name)


def _graph_end(model: ModelProto, rng: random.Random) -> None:
    """Inputs and outputs of the model taken away, doubled or renamed."""
    ends = rng.choice((model.graph.input, model.graph.output))
    match rng.randrange(4):
        case 0 if ends:
            del ends[rng.randrange(len(ends))]
        case 1 if ends:
            ends.add().CopyFrom(rng.choice(ends))
        case 2 if ends:
            rng.choice(ends).name = rng.choice(NAMES)
        case _:
            ends.append(helper.make_tensor_value_info(rng.choice(NAMES), 1, [rng.choice((1, 2))]))


def _node_order(model: ModelProto, rng: random.Random) -> None:
    nodes = _graph(model, rng).node
    if not nodes:
        return
    at = rng.randrange(len(nodes))
    if rng.random() < 0.5:
        del nodes[at]
    else:
        nodes.add().CopyFrom(nodes[at])


def _operator(model: ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    if rng.random() < 0.8:
        node.op_type = rng.choice(OPERATORS)
    else:
        node.domain = rng.choice(("com.microsoft", "ai.onnx.ml", "ai.onnx.preview.training", "x"))


def _attribute(model: ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    attribute = _some(node.attribute, rng)
    if attribute is None or rng.random() < 0.2:
        names = ("axis", "shape", "to", "perm", "value", "strides", "pads", "group")
        node.attribute.append(helper.make_attribute(rng.choice(names), rng.choice(LENGTHS)))
        return
    match rng.randrange(5):
        case 0:
            attribute.name = rng.choice(NAMES)
        case 1:
            attribute.type = rng.choice(list(AttributeProto.AttributeType.values()))
        case 2:
            attribute.ints.append(rng.choice(LENGTHS))
        case 3 if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(LENGTHS)
        case _:
            attribute.i, attribute.f = rng.choice(LENGTHS), rng.choice((0.0, float("nan"), 1e38))


def _versions(model: ModelProto, rng: random.Random) -> None:
    match rng.randrange(5):
        case 0:
            model.ir_version = rng.choice(LENGTHS)
        case 1:
            del model.opset_import[:]
        case 2:
            model.opset_import.append(helper.make_opsetid(rng.choice(("", "x", "ai.onnx.ml")), 3))
        case _:
            versions = (0, 1, 8, 9, 12, 21, 26, 99, 1 << 62, -1)
            for each in model.opset_import:
                each.version = rng.choice(versions)


def _extras(model: ModelProto, rng: random.Random) -> None:
    """Parts that this release does not take."""
    match rng.randrange(4):
        case 0:
            model.functions.add(name="f", domain="x")
        case 1:
            model.training_info.add()
        case 2:
            sparse = model.graph.sparse_initializer.add()
            sparse.dims.extend([rng.choice(LENGTHS)])
            sparse.values.name = rng.choice(NAMES)
        case _:
            helper.set_model_props(model, {rng.choice(NAMES): "v"})


_MODEL: tuple[Callable[[ModelProto, random.Random], None], ...] = (
    *(_shape_length, _type_of_edge, _tensor_field, _edge_name, _graph_end, _node_order),
    *(_operator, _attribute, _versions, _extras, _values, *GROWTH),
)
