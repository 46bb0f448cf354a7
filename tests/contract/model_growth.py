"""Mutants of ONNX models: graphs that grew.

Knows: what a graph can be made to hold or to ask for. Rules: as in `mutants`; most of what is added is
valid, so that it reaches what computes. Leaves to others: what becomes of mutants.
"""

import itertools
import random

from onnx import GraphProto, ModelProto, TensorProto, helper

NESTED_BYTES_MAX = 1 << 20
UNARY = (
    *("Exp", "Log", "Sqrt", "Reciprocal", "Neg", "Erf", "Round", "Softmax", "Sigmoid", "Identity"),
    *("Dropout", "Shape", "NonZero", "Transpose", "RandomNormalLike", "Bernoulli", "IsNaN", "Not"),
    *("ReduceMax", "Flatten", "CumSum", "Unique", "Det", "Sign", "Celu", "LogSoftmax", "Hardmax"),
)


def buried(model: ModelProto, depth: int) -> bytes:
    """The model with its graph in an attribute of a node of a graph, `depth` times.

    Written by hand (protobuf encoding, "Length-Delimited Records"): the library itself does not nest
    deeper than it reads. Fields: GraphProto.node 1, NodeProto.attribute 5, AttributeProto.g 6, ModelProto
    .graph 7.
    """
    graph = model.graph.SerializeToString()
    for _ in range(depth):
        for field in (6, 5, 1):
            graph = _record(field, graph)
    outside = ModelProto()
    outside.CopyFrom(model)
    outside.ClearField("graph")
    return outside.SerializeToString() + _record(7, graph)


def _record(field: int, content: bytes) -> bytes:
    size, left = bytearray(), len(content)
    while left > 0x7F:
        size.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([field << 3 | 2, *size, left]) + content


def nesting(model: ModelProto, rng: random.Random) -> None:
    """The graph put into both branches of a condition, and that again; every time it doubles."""
    for _ in range(rng.choice((1, 3, 9))):
        if model.ByteSize() > NESTED_BYTES_MAX:
            return
        inner = GraphProto()
        inner.CopyFrom(model.graph)
        del inner.input[:]
        condition = helper.make_tensor("truth", TensorProto.BOOL, [], [True])
        node = helper.make_node(
            *("If", ["truth"], [info.name for info in inner.output]),
            then_branch=inner,
            else_branch=inner,
        )
        del model.graph.node[:]
        del model.graph.initializer[:]
        model.graph.node.append(node)
        model.graph.initializer.append(condition)


def width(model: ModelProto, rng: random.Random) -> None:
    """Many nodes behind the first output, or many tensors."""
    count = rng.choice((10, 1000, 20000))
    if rng.random() < 0.5 and model.graph.output:
        last = _inner(model, "wide")
        names = [last, *(f"{last}-{at}" for at in range(count)), model.graph.output[0].name]
        model.graph.node.extend(
            helper.make_node("Identity", [a], [b]) for a, b in itertools.pairwise(names)
        )
    else:
        model.graph.initializer.extend(
            helper.make_tensor(f"t{at}", TensorProto.FLOAT, [1], [0.0]) for at in range(count)
        )


def hunger(model: ModelProto, rng: random.Random) -> None:
    """The first output asks for more memory or time than there is."""
    if not model.graph.output:
        return
    last, out = _inner(model, "hungry"), model.graph.output[0].name
    many = rng.choice((1 << 20, 1 << 28, 1 << 33, 1 << 40))
    nodes, constants = model.graph.node, model.graph.initializer
    if rng.random() < 0.5:
        constants.append(helper.make_tensor("many", TensorProto.INT64, [1], [many]))
        nodes.append(helper.make_node("ConstantOfShape", ["many"], ["wide"]))
        nodes.append(helper.make_node("ReduceSum", ["wide"], ["sum"], keepdims=0))
        nodes.append(helper.make_node("Add", [last, "sum"], [out]))
    else:
        constants.append(helper.make_tensor("truth", TensorProto.BOOL, [], [True]))
        constants.append(helper.make_tensor("trips", TensorProto.INT64, [], [many]))
        nodes.append(helper.make_node("Loop", ["trips", "truth", last], [out], body=_body()))


def behind(model: ModelProto, rng: random.Random) -> None:
    """One to three operators more before the first output, perhaps of a type that nobody declared."""
    for at in range(rng.randint(1, 3)):
        if not model.graph.output:
            return
        output = model.graph.output[0]
        inner = _inner(model, f"inner{at}")
        kind = rng.choice((TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT64, 1))
        if rng.random() < 0.3:
            node = helper.make_node("Cast", [inner], [output.name], to=kind)
            output.type.tensor_type.elem_type = kind
        else:
            node = helper.make_node(rng.choice(UNARY), [inner], [output.name])
        model.graph.node.append(node)


def _inner(model: ModelProto, name: str) -> str:
    """Call what the first output is made from `name`, so that its own name is free for another node."""
    old = model.graph.output[0].name
    for node in model.graph.node:
        for names in (node.input, node.output):
            for at, each in enumerate(names):
                if each == old:
                    names[at] = name
    return name


def _body() -> GraphProto:
    """A loop's body: the sine of the state, and on it goes."""
    return helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["still"]),
            helper.make_node("Sin", ["before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("at", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )


GROWTH = (nesting, width, hunger, behind, behind)
