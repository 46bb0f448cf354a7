"""The ONNX file as received: a stranger's bytes until every check has passed."""

import hashlib
import os

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from appliance.errors import SourceError, SourceFormat, SourceLimit, SourceUnsupported
from compiler.opening.source import Limits, open_sealed, open_source


@pytest.fixture
def opened(tmp_path, make_onnx):
    """Saves a model and opens it: opened(model) or opened(b"bytes")."""

    def opened(model, limits: Limits | None = None):
        path = tmp_path / "model.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return open_source(path, limits)

    return opened


def test_a_model_is_opened_and_its_bytes_are_kept(opened, make_onnx):
    model = make_onnx()
    source = opened(model)
    assert source.data == model.SerializeToString()
    assert source.model == model


@pytest.mark.parametrize("opset", [9, 13, 18, 21])
def test_opsets_from_nine_on_are_taken(opened, make_onnx, opset):
    assert opened(make_onnx(opset=opset)).model.opset_import[0].version == opset


def test_an_older_opset_is_refused(opened, make_onnx):
    with pytest.raises(SourceUnsupported) as refused:
        opened(make_onnx(opset=8))
    assert "opset 8" in str(refused.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"not a model at all", b"\x80\x04\x95", b'{"ir_version": 9}', bytes(1000)],
    ids=["empty", "zero", "text", "pickle", "json", "zeros"],
)
def test_what_is_no_onnx_file_is_refused(opened, data):
    with pytest.raises(SourceFormat) as refused:
        opened(data)
    assert refused.value.code == "source.format"


def test_a_model_cut_short_is_refused(opened, make_onnx):
    data = make_onnx().SerializeToString()
    for size in range(0, len(data), 7):
        with pytest.raises(SourceError):
            opened(data[:size])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutilated_model_is_refused_or_still_valid(opened, make_onnx, data):
    """Whatever comes in, it is an error of ours or a model that the checker passes."""
    whole = bytearray(make_onnx().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        source = opened(bytes(whole))
    except SourceError:
        return
    onnx.checker.check_model(source.model, full_check=True)


def test_only_regular_files_are_read(tmp_path, opened, make_onnx):
    opened(make_onnx())
    (tmp_path / "link.onnx").symlink_to(tmp_path / "model.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    for name in ("link.onnx", "pipe.onnx", "missing.onnx", "."):
        with pytest.raises(SourceFormat):
            open_source(tmp_path / name)


def test_graphs_that_contradict_themselves_are_refused(opened, make_onnx):
    wrong_shape = make_onnx(constants={"w": np.zeros((5, 4), np.float32)})
    wrong_input = make_onnx([helper.make_node("MatMul", ["x", "nowhere"], ["scores"])])
    wrong_op = make_onnx([helper.make_node("MadeUp", ["x", "w"], ["scores"])])
    for model in (wrong_shape, wrong_input, wrong_op):
        with pytest.raises(SourceFormat) as refused:
            opened(model)
        assert "not a valid ONNX model" in str(refused.value)


def nested(depth: int) -> onnx.NodeProto:
    """An If whose branches hold an If, `depth` levels in all."""
    inner = helper.make_node("Identity", ["x"], [f"y{depth}"]) if depth == 1 else nested(depth - 1)
    name = inner.output[0]
    branch = helper.make_graph(
        [inner], f"g{depth}", [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)]
    )
    return helper.make_node("If", ["flag"], [f"z{depth}"], then_branch=branch, else_branch=branch)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (Limits(bytes_max=50), "more than 50 bytes"),
        (Limits(nodes_max=2), "3 nodes, over 2"),
        (Limits(tensors_max=0), "1 initialisers, over 0"),
        (Limits(depth_max=1), "deeper than 1"),
        (
            Limits(name_characters_max=7),
            "a name in the model has 11 characters, over 7: else_branch",
        ),
    ],
)
def test_each_limit_is_told(opened, make_onnx, limits, told):
    branch = nested(1)
    model = make_onnx([branch], constants={"flag": np.array(True)})
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("z1", TensorProto.FLOAT, ["rows", 3])
    )
    opened(model)
    with pytest.raises(SourceLimit) as refused:
        opened(model, limits)
    assert told in str(refused.value)
    assert refused.value.code == "source.limit"


def test_deep_nesting_is_refused_before_anything_recursive_reads_it(opened, make_onnx):
    model = make_onnx([nested(12)], constants={"flag": np.array(True)})
    with pytest.raises(SourceLimit):
        opened(model)


def test_foreign_domains_and_training_graphs_are_refused(opened, make_onnx):
    foreign = make_onnx()
    foreign.graph.node[0].domain = "com.microsoft"
    training = make_onnx()
    training.training_info.add()
    for model, told in ((foreign, "'product'"), (training, "training")):
        with pytest.raises(SourceUnsupported) as refused:
            opened(model)
        assert told in str(refused.value)
        assert refused.value.remedy


def test_classical_models_are_taken(opened, make_onnx):
    """ai.onnx.ml, as scikit-learn models are exported."""
    node = helper.make_node(
        "Scaler", ["x"], ["scores"], domain="ai.onnx.ml", offset=[0.0], scale=[2.0]
    )
    model = make_onnx([node], outputs={"scores": (TensorProto.FLOAT, ["rows", 3])}, constants={})
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    assert opened(model).model.graph.node[0].op_type == "Scaler"


def test_limits_hold_for_attributes_and_sparse_tensors_too(opened, make_onnx):
    scaler = helper.make_node(
        "Scaler", ["x"], ["scores"], domain="ai.onnx.ml", offset=[0.0] * 3, scale=[2.0] * 3
    )
    model = make_onnx([scaler], outputs={"scores": (TensorProto.FLOAT, ["rows", 3])}, constants={})
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    opened(model)
    with pytest.raises(SourceLimit, match="attribute 'offset' has 24 bytes, over 20"):
        opened(model, Limits(attribute_bytes_max=20))

    sparse = helper.make_sparse_tensor(
        helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("at", TensorProto.INT64, [1], [5]),
        [10**6, 10**6],
    )
    model = make_onnx(constants={})
    model.graph.sparse_initializer.append(sparse)
    with pytest.raises(SourceLimit, match="stands for 1000000000000 values"):
        opened(model)


def test_the_digest_is_of_the_file_as_it_was_received(opened, make_onnx):
    data = make_onnx().SerializeToString()
    assert opened(data).sha256 == hashlib.sha256(data).hexdigest()


def test_a_sealed_model_is_taken_as_it_is(opened, tmp_path, make_onnx):
    opened(make_onnx())
    assert open_sealed(tmp_path / "model.onnx").data == make_onnx().SerializeToString()


def test_names_that_are_no_text_are_refused(opened, make_onnx):
    data = make_onnx().SerializeToString()
    for name in (b"tiny", b"product", b"MatMul", b"scores"):
        with pytest.raises(SourceFormat, match="is not UTF-8 text"):
            opened(data.replace(name, b"\xff" * len(name)))
