"""Functions of the model's own: written out faithfully, and bombs counted before they go off."""

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import AttributeProto, TensorProto, helper

from appliance.errors import SourceFormat, SourceLimit, SourceUnsupported
from compiler.opening.source import Limits, open_sealed, open_source

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]


def call(name: str, inputs=("x",), outputs=("y",), **attributes) -> onnx.NodeProto:
    return helper.make_node(name, inputs, outputs, domain="own", name=f"call_{name}", **attributes)


def taken_over(node: onnx.NodeProto, name: str, kind: int) -> onnx.NodeProto:
    """The node with attribute `name` taken from the function's call."""
    node.attribute.add(name=name, ref_attr_name=name, type=kind)
    return node


def function(name: str, nodes, *, opsets=OPSETS, **options) -> onnx.FunctionProto:
    return helper.make_function("own", name, ["x"], ["y"], nodes, opsets, **options)


@pytest.fixture
def saved(tmp_path):
    """Saves a model whose one node calls F: saved([functions], **attributes of the call)."""

    def saved(functions, **attributes):
        graph = helper.make_graph(
            [call("F", **attributes)],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])],
        )
        model = helper.make_model(graph, functions=functions, opset_imports=OPSETS, ir_version=10)
        path = tmp_path / "m.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return saved


def run(data: bytes) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    x = np.linspace(-3, 3, 12, dtype=np.float32).reshape(4, 3)
    return session.run(None, {"x": x})[0]


def test_a_function_is_written_out_and_told(saved):
    inner = function("G", [helper.make_node("Relu", ["x"], ["y"])])
    outer = function("F", [call("G", outputs=["z"]), helper.make_node("Neg", ["z"], ["y"])])
    path = saved([outer, inner])
    source = open_source(path)
    assert [node.op_type for node in source.model.graph.node] == ["Relu", "Neg"]
    assert not source.model.functions
    assert [item.domain for item in source.model.opset_import] == [""]
    assert source.notes == ("2 functions of the model's own were written out",)
    assert source.received == path.read_bytes()
    np.testing.assert_array_equal(run(source.data), run(path.read_bytes()))


@pytest.mark.parametrize("attributes", [{}, {"alpha": 0.7}])
def test_default_attributes_are_kept(saved, attributes):
    """onnx.inliner alone loses them: LeakyRelu would fall back to its own 0.01."""
    leaky = taken_over(helper.make_node("LeakyRelu", ["x"], ["y"]), "alpha", AttributeProto.FLOAT)
    default = [helper.make_attribute("alpha", 0.3)]
    path = saved([function("F", [leaky], attribute_protos=default)], **attributes)
    source = open_source(path)
    np.testing.assert_array_equal(run(source.data), run(path.read_bytes()))
    assert source.model.graph.node[0].attribute[0].f == pytest.approx(attributes.get("alpha", 0.3))


def test_default_attributes_reach_calls_inside_functions_and_branches(saved):
    leaky = taken_over(helper.make_node("LeakyRelu", ["x"], ["y"]), "alpha", AttributeProto.FLOAT)
    inner = function("G", [leaky], attribute_protos=[helper.make_attribute("alpha", 0.3)])
    branch = helper.make_graph(
        [call("G", outputs=["z"])],
        "b",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    flag = helper.make_node("Constant", [], ["flag"], value_int=1)
    nodes = [
        flag,
        helper.make_node("Cast", ["flag"], ["sure"], to=TensorProto.BOOL),
        helper.make_node("If", ["sure"], ["y"], then_branch=branch, else_branch=branch),
    ]
    path = saved([function("F", nodes), inner])
    np.testing.assert_array_equal(run(open_source(path).data), run(path.read_bytes()))


def test_a_function_of_another_opset_is_written_out_or_refused(saved):
    older = [helper.make_opsetid("", 16)]
    path = saved([function("F", [helper.make_node("Relu", ["x"], ["y"])], opsets=older)])
    source = open_source(path)
    np.testing.assert_array_equal(run(source.data), run(path.read_bytes()))
    older = [helper.make_opsetid("", 12)]
    nodes = [helper.make_node("Softmax", ["x"], ["y"])]  # means another thing since 13
    with pytest.raises(SourceFormat, match="not compatible"):
        open_source(saved([function("F", nodes, opsets=older)]))


def bomb(levels: int, width: int = 10) -> list[onnx.FunctionProto]:
    """F calls the next function `width` times, and so on: width ** levels nodes."""
    names = ["F", *(f"F{level}" for level in range(1, levels))]
    functions = []
    for name, called in zip(names, [*names[1:], None], strict=True):
        steps = [f"s{i}" for i in range(width - 1)]
        inputs, outputs = ["x", *steps], [*steps, "y"]
        functions.append(
            function(
                name,
                [
                    call(called, [a], [b]) if called else helper.make_node("Relu", [a], [b])
                    for a, b in zip(inputs, outputs, strict=True)
                ],
            )
        )
    return functions


def test_an_expansion_bomb_is_counted_before_it_goes_off(saved, monkeypatch):
    monkeypatch.setattr(
        "onnx.inliner.inline_local_functions", lambda *_a, **_k: pytest.fail("inlined")
    )
    with pytest.raises(SourceLimit, match="nodes with its functions written out, over 100000"):
        open_source(saved(bomb(30)))
    with pytest.raises(SourceLimit, match="more than 32 deep"):
        open_source(saved(bomb(40, 1)))
    with pytest.raises(SourceLimit, match="41 functions, over 40"):
        open_source(saved(bomb(41, 1)), Limits(functions_max=40))


def test_a_bomb_that_fits_is_written_out(saved):
    assert len(open_source(saved(bomb(3))).model.graph.node) == 1000


def test_bytes_and_depth_are_multiplied_too(saved):
    table = helper.make_node("Constant", [], ["c"], value_floats=[1.0] * 1000)
    small = function("G", [table, helper.make_node("Relu", ["x"], ["y"])])
    names = ["x", *(f"s{i}" for i in range(99)), "y"]
    calls = [call("G", [a], [b]) for a, b in itertools.pairwise(names)]
    path = saved([function("F", calls), small])
    with pytest.raises(SourceLimit, match="bytes with its functions written out"):
        open_source(path, Limits(bytes_max=100_000))
    handed = taken_over(
        helper.make_node("Constant", [], ["c"]), "value_floats", AttributeProto.FLOATS
    )
    several = [handed]
    several += [
        taken_over(helper.make_node("Constant", [], [f"c{at}"]), "value_floats", 6)
        for at in range(99)
    ]
    path = saved(
        [
            function(
                "F", [*several, helper.make_node("Relu", ["x"], ["y"])], attributes=["value_floats"]
            )
        ],
        value_floats=[1.0] * 1000,
    )
    with pytest.raises(SourceLimit, match="bytes with its functions written out"):
        open_source(path, Limits(bytes_max=100_000))

    def branching(name: str, inner: onnx.NodeProto) -> onnx.FunctionProto:
        info = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
        branch = helper.make_graph([inner], "b", [], [info])
        chosen = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
        return function(name, [chosen])

    deep = [branching(f"F{i}", call(f"F{i + 1}", outputs=["z"])) for i in range(1, 9)]
    deep.append(function("F9", [helper.make_node("Relu", ["x"], ["y"])]))
    first = branching("F", call("F1", outputs=["z"]))
    with pytest.raises(SourceLimit, match="levels of subgraphs with its functions written out"):
        open_source(saved([first, *deep]))


def test_functions_that_call_each_other_in_a_circle_are_refused(saved):
    circle = [function("F", [call("G")]), function("G", [call("F")])]
    with pytest.raises(SourceFormat, match=r"calls itself|recursive"):
        open_source(saved(circle))


def test_functions_that_contradict_each_other_are_refused(saved):
    twice = function("F", [helper.make_node("Relu", ["x"], ["y"])])
    with pytest.raises(SourceFormat):
        open_source(saved([twice, twice]))
    with pytest.raises(SourceUnsupported, match="of domain 'own'"):
        open_source(saved([]))


def test_a_graph_handed_to_a_function_is_refused(saved):
    """Each place it is handed on to would hold a copy."""
    info = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["z"])], "b", [], [info])
    chosen = helper.make_node("If", ["x"], ["y"], else_branch=branch)
    taken_over(chosen, "then_branch", AttributeProto.GRAPH)
    path = saved([function("F", [chosen], attributes=["then_branch"])], then_branch=branch)
    with pytest.raises((SourceUnsupported, SourceFormat)):
        open_source(path)


def test_a_sealed_model_has_no_functions(saved):
    path = saved([function("F", [helper.make_node("Relu", ["x"], ["y"])])])
    with pytest.raises(SourceUnsupported, match="1 functions"):
        open_sealed(path)
    path.write_bytes(open_source(path).data)
    open_sealed(path)
