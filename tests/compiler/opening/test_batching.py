"""Batch handling: what is wrong is told with the node, and a batch of 1 is opened where that is right."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from appliance.errors import SourceUnsupported, SpecError
from appliance.manifest import Tolerance
from appliance.recipe import Recipe
from compiler.opening.graph import edges, graph_notes, interface_of
from compiler.opening.received import opened, received_source
from compiler.opening.source import Source
from compiler.reference import Reference
from compiler.rows.samples import Rows
from compiler.spec import ModelTable

FLOAT = TensorProto.FLOAT


def source_of(model: onnx.ModelProto) -> Source:
    onnx.checker.check_model(model, full_check=True)
    return Source(data=model.SerializeToString(), model=model)


@pytest.fixture
def shaped(make_onnx):
    """A model of identities with the given shapes: shaped({"x": ["rows"]}, {"y": [1]})."""

    def shaped(inputs, outputs):
        nodes = [
            helper.make_node("Identity", [a], [b]) for a, b in zip(inputs, outputs, strict=True)
        ]
        return Source(
            data=b"",
            model=make_onnx(
                nodes,
                inputs={name: (FLOAT, shape) for name, shape in inputs.items()},
                outputs={name: (FLOAT, shape) for name, shape in outputs.items()},
                constants={},
            ),
        )

    return shaped


@pytest.mark.parametrize(
    ("inputs", "outputs", "told"),
    [
        (
            {"x": [1, 3]},
            {"y": [1, 3]},
            "every tensor's first axis is fixed at 1, as the model was exported; "
            "open_batch = true in the spec would open it",
        ),
        ({"x": [4, 3]}, {"y": [4, 3]}, "every tensor's first axis is fixed at 4"),
        ({"x": [3]}, {"y": [3]}, "fixed at 3"),
        ({"x": []}, {"y": []}, "no tensor has an open first axis"),
        (
            {"x": ["n", 3], "z": []},
            {"y": ["n", 3], "w": []},
            "the first axis is open on 'x', 'y' only; 'z' has no axes, 'w' has no axes",
        ),
        (
            {"x": ["n", 3], "z": [1, 2]},
            {"y": ["n", 3], "w": [1, 2]},
            "open on 'x', 'y' only; 'z' is fixed at 1, 'w' is fixed at 1; open_batch = true",
        ),
    ],
)
def test_why_requests_are_served_one_at_a_time_is_told(shaped, inputs, outputs, told):
    source = shaped(inputs, outputs)
    (note,) = graph_notes(source, None)
    assert note.startswith("requests are served one at a time: ")
    assert told in note
    assert graph_notes(source, 0) == ()
    with pytest.raises(SpecError) as refused:
        interface_of(source, 8)
    assert ("open_batch" in refused.value.remedy) == ("open_batch" in note)


def test_nothing_is_told_of_a_model_with_a_batch_axis(shaped):
    assert graph_notes(shaped({"x": ["n"]}, {"y": ["n"]}), None) == ()


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        (
            [helper.make_node("Reshape", ["x", "one_three"], ["scores"], name="flat")],
            "node 'flat' (Reshape) fixes its first axis at 1",
        ),
        (
            [
                helper.make_node("Squeeze", ["x", "zero"], ["s"], name="sq"),
                helper.make_node("Unsqueeze", ["s", "zero"], ["scores"]),
            ],
            "node 'sq' (Squeeze) drops the first axis, which it takes to be 1",
        ),
        (
            [
                helper.make_node("Gather", ["x", "first"], ["g"], name="pick", axis=0),
                helper.make_node("Unsqueeze", ["g", "zero"], ["scores"]),
            ],
            "node 'pick' (Gather) takes row 0 only",
        ),
        (
            [
                helper.make_node("Concat", ["token", "x"], ["c"], name="join", axis=1),
                helper.make_node("Slice", ["c", "zero", "three", "axis"], ["scores"]),
            ],
            "node 'join' (Concat) joins 'token', whose first axis is 1",
        ),
        (
            [helper.make_node("Expand", ["x", "two_three"], ["scores"], name="wide")],
            "node 'wide' (Expand) fixes its first axis at 2",
        ),
    ],
)
def test_the_node_that_hard_codes_the_batch_is_named(make_onnx, nodes, told):
    model = make_onnx(
        nodes,
        outputs={"scores": (FLOAT, ["rows", 3])},
        constants={
            "one_three": np.array([1, 3]),
            "two_three": np.array([2, 3]),
            "zero": np.array([0]),
            "three": np.array([3]),
            "axis": np.array([1]),
            "first": np.array(0),
            "token": np.ones((1, 1), np.float32),
        },
    )
    source = Source(data=model.SerializeToString(), model=model)
    assert [str(found) for found in edges(source).hard_coded] == [told]
    with pytest.raises(SpecError) as refused:
        interface_of(source, 3)
    assert told in str(refused.value)
    assert told in graph_notes(source, None)[0]


def test_a_node_that_fails_in_a_batch_is_named(make_onnx):
    """The output's shape comes from the input's, so that only running the rows shows it."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["flat"], name="flat"),
        helper.make_node("Shape", ["x"], ["lengths"]),
        helper.make_node("Reshape", ["flat", "lengths"], ["scores"]),
    ]
    model = make_onnx(
        nodes,
        outputs={"scores": (FLOAT, ["rows", 3])},
        constants={"shape": np.array([1, 3])},
    )
    source = Source(data=model.SerializeToString(), model=model)
    sample = Rows(inputs={"x": np.eye(3, dtype=np.float32)})
    with pytest.raises(SourceUnsupported, match=r"node 'flat' \(Reshape\) fixes"):
        list(Reference(source, Recipe(), interface_of(source, 3)).calls(sample))


def test_shapes_of_other_things_are_not_suspected(make_onnx):
    nodes = [
        helper.make_node("Reshape", ["w", "shape"], ["v"]),
        helper.make_node("Reshape", ["x", "free"], ["z"]),
        helper.make_node("MatMul", ["z", "v"], ["scores"]),
    ]
    constants = {
        "w": np.ones((4, 3), np.float32),
        "shape": np.array([3, 4]),
        "free": np.array([-1, 3]),
    }
    assert edges(source_of(make_onnx(nodes, constants=constants))).hard_coded == ()


@settings(max_examples=20)
@given(rows=st.integers(2, 9), batch_max=st.integers(2, 5))
def test_an_opened_model_answers_rows_as_the_original_does(exported_for_one_model, rows, batch_max):
    source = source_of(exported_for_one_model)
    wide = opened(source)
    assert wide.received == source.data
    assert wide.notes[0] == "the first axis of 'x' [1, 6], 'scores' [1, 4] was opened"
    assert wide.notes[1] == "node 'split' (Reshape) was given an open first axis"
    engine = interface_of(wide, batch_max)
    assert engine.inputs[0].shape == (6,)
    sample = Rows(inputs={"x": np.random.default_rng(rows).normal(size=(rows, 6)).astype("f4")})
    reference = Reference(wide, Recipe(), engine)
    reference.check_rewritten(sample, Tolerance(absolute=1e-6))
    assert reference.joined(reference.calls(sample)).outputs["scores"].shape == (rows, 4)


@pytest.fixture(scope="module")
def exported_for_one_model() -> onnx.ModelProto:
    """One model for all examples."""
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "heads"], ["h"], name="split"),
            helper.make_node("Transpose", ["h"], ["t"], perm=[0, 2, 1]),
            helper.make_node("Reshape", ["t", "flat"], ["f"], name="flat"),
            helper.make_node("MatMul", ["f", "w"], ["m"]),
            helper.make_node("Reshape", ["m", "rest"], ["scores"], name="rest"),
        ],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [1, 6])],
        [helper.make_tensor_value_info("scores", FLOAT, [1, 4])],
        [
            onnx.numpy_helper.from_array(array, name)
            for name, array in {
                "heads": np.array([1, 2, 3]),
                "flat": np.array([1, 6]),
                "rest": np.array([1, -1]),
                "w": np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32),
            }.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_reshape_that_merges_the_batch_is_opened_too(make_onnx):
    """Attention in PyTorch's manner: [1, 2 heads, 3] as [2, 3] and back."""
    nodes = [
        helper.make_node("Reshape", ["x", "merged"], ["m"], name="merge"),
        helper.make_node("Softmax", ["m"], ["s"], axis=-1),
        helper.make_node("Reshape", ["s", "back"], ["scores"], name="back"),
    ]
    source = source_of(
        make_onnx(
            nodes,
            inputs={"x": (FLOAT, [1, 6])},
            outputs={"scores": (FLOAT, [1, 6])},
            constants={"merged": np.array([2, 3]), "back": np.array([1, 6])},
        )
    )
    wide = opened(source)
    sample = Rows(inputs={"x": np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)})
    Reference(wide, Recipe(), interface_of(wide, 4)).check_rewritten(sample, Tolerance())


def test_rows_that_come_out_otherwise_are_found_by_comparing(make_onnx):
    """Over all rows at once: with a batch of 1 the mean of the rows is the row itself."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Add", ["x", "mean"], ["scores"]),
    ]
    source = source_of(
        make_onnx(
            nodes,
            inputs={"x": (FLOAT, [1, 3])},
            outputs={"scores": (FLOAT, [1, 3])},
            constants={},
        )
    )
    wide = opened(source)
    reference = Reference(wide, Recipe(), interface_of(wide, 4))
    with pytest.raises(SourceUnsupported, match="does not answer as it was received"):
        reference.check_rewritten(Rows(inputs={"x": np.eye(3, dtype=np.float32)}), Tolerance())


def test_what_holds_on_to_one_row_is_named(make_onnx):
    nodes = [
        helper.make_node("Concat", ["token", "x"], ["joined"], name="join", axis=1),
        helper.make_node("MatMul", ["joined", "w"], ["scores"]),
    ]
    source = source_of(
        make_onnx(
            nodes,
            inputs={"x": (FLOAT, [1, 3])},
            outputs={"scores": (FLOAT, [1, 4])},
            constants={"token": np.ones((1, 1), np.float32), "w": np.ones((4, 4), np.float32)},
        )
    )
    with pytest.raises(SourceUnsupported, match=r"node 'join' \(Concat\) joins 'token'"):
        opened(source)


def test_opening_what_has_no_batch_of_one_is_refused(shaped):
    for inputs, outputs in (({"x": [4, 3]}, {"y": [4, 3]}), ({"x": []}, {"y": []})):
        with pytest.raises(SourceUnsupported, match="no batch of 1 to open"):
            opened(shaped(inputs, outputs))


def test_an_open_model_is_left_as_it_is(make_onnx):
    source = source_of(make_onnx())
    assert opened(source) is source


def test_a_shape_shared_with_something_else_is_not_changed_there(make_onnx):
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["a"], name="first"),
        helper.make_node("Reshape", ["w", "shape"], ["b"], name="weights"),
        helper.make_node("Add", ["a", "b"], ["scores"]),
    ]
    source = source_of(
        make_onnx(
            nodes,
            inputs={"x": (FLOAT, [1, 4])},
            outputs={"scores": (FLOAT, [1, 2, 2])},
            constants={"shape": np.array([1, 2, 2]), "w": np.ones(4, np.float32)},
        )
    )
    wide = opened(source)
    assert wide.model.graph.node[1].input[1] == "shape"
    sample = Rows(inputs={"x": np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)})
    Reference(wide, Recipe(), interface_of(wide, 2)).check_rewritten(sample, Tolerance())


@pytest.mark.parametrize("batch_max", [0, 1])
def test_opening_for_one_row_makes_no_sense(tmp_path, make_onnx, batch_max):
    (tmp_path / "m.onnx").write_bytes(make_onnx().SerializeToString())
    table = ModelTable(name="m", release_notes="r", open_batch=True, batch_max=batch_max)
    with pytest.raises(SpecError, match=f"batch_max is {batch_max}"):
        received_source(tmp_path / "m.onnx", table)
