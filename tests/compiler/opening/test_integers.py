"""Integers followed through a graph: positions within bounds, what may outgrow 32 bits."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from compiler.opening.integers import INT32, integers_in
from compiler.opening.source import Source

TABLE = np.ones((5, 4), np.float32)
IDS = {"ids": (TensorProto.INT64, ["rows", 3])}
SCORES = {"scores": (TensorProto.FLOAT, None)}


@pytest.fixture
def follow(make_onnx):
    """Follows the integers of a graph: follow(nodes, inputs=..., **constants)."""

    def follow(*nodes, inputs=IDS, outputs=SCORES, **constants):
        model = make_onnx(nodes, inputs=inputs, outputs=outputs, constants=constants)
        return integers_in(Source(data=b"", model=model))

    return follow


def node(op, *inputs, to="out", **options):
    """A node named after its operator; `to` is its output."""
    return helper.make_node(op, inputs, [to], name=op.lower(), **options)


def gather(indices, table="w"):
    return node("Gather", table, indices, to="scores")


def cast(name, result, kind):
    return helper.make_node("Cast", [name], [result], to=kind)


def test_positions_that_are_an_input_are_bounded_by_their_table(follow):
    found = follow(gather("ids"), w=TABLE)
    assert found.bounds == {"ids": (-5, 4)}
    assert not found.unchecked
    assert not found.outgrowing


def test_the_smallest_table_decides_through_what_keeps_every_value(follow):
    found = follow(
        cast("ids", "narrow", TensorProto.INT32),
        node("Gather", "v", "narrow", to="first"),
        gather("ids"),
        w=TABLE,
        v=np.ones((3, 4), np.float32),
    )
    assert found.bounds == {"ids": (-3, 2)}


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Add", "ids", "one", to="moved"), gather("moved")],
        [node("Where", "yes", "ids", "one", to="moved"), gather("moved")],
        [
            cast("ids", "f", TensorProto.FLOAT),
            cast("f", "moved", TensorProto.INT32),
            gather("moved"),
        ],
        [node("GatherND", "w", "ids", to="scores")],
    ],
)
def test_positions_that_no_bound_covers_are_named(follow, nodes):
    one, yes = np.array([1], np.int64), np.array([True])
    found = follow(*nodes, w=TABLE, one=one, yes=yes)
    assert [item.op_type for item in found.unchecked] == [nodes[-1].op_type]
    assert not found.bounds


@pytest.mark.parametrize(("classes", "bounded"), [(5, True), (6, False)])
def test_positions_of_the_largest_are_within_a_table_of_as_many(follow, classes, bounded):
    nodes = [node("ArgMax", "x", to="largest", axis=1, keepdims=0), gather("largest")]
    inputs = {"x": (TensorProto.FLOAT, ["rows", classes])}
    found = follow(*nodes, inputs=inputs, w=TABLE)
    assert not found.outgrowing
    assert bool(found.unchecked) is not bounded


def test_positions_made_from_lengths_are_told_apart(follow):
    nodes = [
        node("Shape", "ids", to="shape"),
        node("Gather", "shape", "second", to="length"),
        node("Range", "zero", "length", "one", to="places"),
        gather("places"),
    ]
    scalars = {"zero": 0, "one": 1, "second": 1}
    found = follow(*nodes, w=TABLE, **{n: np.array(v, np.int64) for n, v in scalars.items()})
    assert [item.input[1] for item in found.grown] == ["places"]
    assert not found.unchecked
    assert not found.outgrowing


def test_what_only_moves_does_not_outgrow_and_what_computes_may(follow):
    outputs = {"y": (TensorProto.INT64, None)}
    moving = [node("Concat", "ids", "c", to="joined", axis=1), node("Max", "joined", "c", to="y")]
    c = np.array([[7]], np.int64)
    assert not follow(*moving, inputs={"ids": (7, [1, 3])}, outputs=outputs, c=c).outgrowing
    (item,) = follow(node("Mul", "ids", "c", to="y"), outputs=outputs, c=c).outgrowing
    assert (item.node, item.tensor) == ("mul", "y")


def test_a_constant_of_64_bits_beside_64_bit_values_is_named(follow):
    outputs = {"y": (TensorProto.BOOL, None)}
    compared = node("Equal", "ids", "c", to="y")
    (item,) = follow(compared, outputs=outputs, c=np.array([2**40])).outgrowing
    assert (item.node, item.tensor) == ("equal", "c")
    assert not follow(compared, outputs=outputs, c=np.array(INT32)).outgrowing


def test_positions_inside_a_branch_are_not_followed(follow):
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Gather", ["w", "ids"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name in ("then", "else")
    }
    branch = helper.make_node("If", ["yes"], ["scores"], name="if", **branches)
    inputs = IDS | {"yes": (TensorProto.BOOL, [])}
    assert len(follow(branch, inputs=inputs, w=TABLE).unchecked) == 2
