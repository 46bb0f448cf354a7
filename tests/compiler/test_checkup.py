"""A model looked at before it is packed."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from appliance.config import BuildConfig
from appliance.errors import SourceFormat
from compiler.acts import Look
from compiler.checkup import check_up
from compiler.child import Confined, Places
from compiler.progress import Silent
from compiler.seen import checkup_lines, checkup_values

MODELS = Path(__file__).parent.parent / "golden" / "models"


def told(path: Path) -> dict[str, list[str]]:
    """What a person reads, by name."""
    lines: dict[str, list[str]] = {}
    for name, text in checkup_lines(check_up(path)):
        lines.setdefault(name, []).append(text)
    return lines


def test_a_model_with_a_batch_axis_and_open_sizes():
    lines = told(MODELS / "torch_script.onnx")
    assert lines["input"] == ["image FP32 [rows, 1, height, width]"]
    assert lines["output"] == ["scores FP32 [rows, 3]"]
    assert lines["rows"][0].endswith("rows are served in batches")
    assert [text.partition(":")[0] for text in lines["open axis"]] == ["height", "width"]
    assert lines["reference"] == ["ONNX Runtime runs it"]
    assert any("computes in fp32" in text for text in lines["onnxruntime"])


def test_a_batch_of_one_is_told_with_what_would_help():
    seen = check_up(MODELS / "torch_batch_of_one.onnx")
    assert "fixed at 1" in seen.rows
    assert "open_batch = true" in seen.rows
    assert "node '/Reshape' (Reshape) fixes its first axis at 1" in seen.hard_coded


def test_nothing_is_said_of_this_box_for_a_gpu_that_nobody_asked():
    lines = told(MODELS / "torch_batch_of_one.onnx")
    assert any("on this box" in text for text in lines["onnxruntime"])
    assert lines["tensorrt"]
    assert not any("on this box" in text for text in lines["tensorrt"])


def test_texts_and_trees_are_named_as_what_openvino_refuses():
    lines = told(MODELS / "sklearn_categories.onnx")
    assert lines["input"][0] == "site BYTES [?, 1]"
    assert any("'site'" in text for text in lines["openvino"])
    assert "ai.onnx.ml.OneHotEncoder" in lines["operators"][0]
    assert "ZipMap" in lines["note"][0]


def test_what_the_reference_cannot_run_is_told(tmp_path, make_onnx):
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Tan", ["wide"], ["tangent"]),
        helper.make_node("Cast", ["tangent"], ["narrow"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["narrow", "w"], ["scores"]),
    ]
    model = make_onnx(nodes, constants={"w": np.ones((3, 4), np.float32)})
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    seen = check_up(tmp_path / "m.onnx")
    assert seen.runs is not None
    assert "Tan" in seen.runs


def test_values_say_the_same():
    values = checkup_values(check_up(MODELS / "xgboost.onnx"))
    assert values["inputs"][0] == {"name": "X", "datatype": "FP32", "axes": (None, 5)}
    assert values["operators"]["ai.onnx.ml.TreeEnsembleClassifier"] == 1
    assert {target["kind"] for target in values["targets"]} == {
        "onnxruntime",
        "openvino",
        "tensorrt",
    }


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    with pytest.raises(SourceFormat):
        check_up(tmp_path / "m.onnx")


def test_a_child_sees_the_same_and_its_refusals_come_through(tmp_path):
    path = MODELS / "torch_script.onnx"
    places = Places(scratch=tmp_path, readable=(path,), listable=(path.parent,))
    child = Confined(bounds=BuildConfig())
    assert child.do(Look(model=str(path)), places, Silent()).result == check_up(path)
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    with pytest.raises(SourceFormat, match="is not an ONNX file"):
        child.do(Look(model=str(tmp_path / "m.onnx")), places, Silent())
