"""ZipMap taken off a classifier."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from appliance.errors import SourceFormat, SourceUnsupported
from compiler.opening.graph import interface_of
from compiler.opening.source import open_sealed, open_source


def classifier(**labels) -> onnx.ModelProto:
    """Scores of two classes as a list of maps, as scikit-learn's converter makes them."""
    kind = TensorProto.STRING if "classlabels_strings" in labels else TensorProto.INT64
    key = helper.make_map_type_proto(kind, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    graph = helper.make_graph(
        [
            helper.make_node(
                "Scaler", ["x"], ["scores"], domain="ai.onnx.ml", offset=[0.0] * 2, scale=[2.0] * 2
            ),
            helper.make_node(
                "ZipMap", ["scores"], ["probability"], name="zip", domain="ai.onnx.ml", **labels
            ),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 2])],
        [helper.make_value_info("probability", helper.make_sequence_type_proto(key))],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


@pytest.fixture
def saved(tmp_path):
    """Saves a model and tells where."""

    def saved(model):
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        return tmp_path / "m.onnx"

    return saved


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"classlabels_strings": ["no", "yes"]}, "no, yes"),
        ({"classlabels_int64s": [3, 7]}, "3, 7"),
    ],
)
def test_the_probabilities_become_a_tensor_of_the_same_numbers(saved, labels, told):
    path = saved(classifier(**labels))
    source = open_source(path)
    assert source.notes == (
        f"the ZipMap before 'probability' was taken off: it is a tensor, a column a class in the order {told}",
    )
    found = interface_of(source, None)
    assert [(spec.name, spec.shape) for spec in found.outputs] == [("probability", (2,))]
    assert found.batch_max > 0
    x = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
    before, after = (
        onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": x})[
            0
        ]
        for data in (path.read_bytes(), source.data)
    )
    assert [list(row.values()) for row in before] == after.tolist()


def test_a_sealed_model_with_maps_is_refused(saved):
    """Nothing is rewritten a second time."""
    source = open_sealed(saved(classifier(classlabels_int64s=[0, 1])))
    with pytest.raises(SourceUnsupported, match="'probability' is a sequence"):
        interface_of(source, None)


def test_a_map_that_is_read_on_is_left_alone(saved):
    model = classifier(classlabels_int64s=[0, 1])
    model.graph.node.append(helper.make_node("Identity", ["probability"], ["again"]))
    model.graph.output[0].name = "again"
    with pytest.raises(SourceFormat, match="seq"):  # the checker knows no copies of maps
        open_source(saved(model))
