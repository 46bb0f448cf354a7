"""The engines that a bundle could get, and what is recorded of each."""

import onnx
import pytest
from onnx import TensorProto, helper

from appliance import errors
from compiler.proof import served_outputs


@pytest.fixture
def packed(workshop):
    """A workshop with its bundle packed."""
    workshop.pack()
    return workshop


def test_both_engines_are_tried_and_the_measurement_is_kept(packed):
    record = packed.build().version.record
    tried = {(item.engine, item.rows) for item in record.measurements}
    assert tried == {("onnxruntime", 1), ("onnxruntime", 8), ("openvino", 1), ("openvino", 8)}
    assert all(item.median_ms > 0 for item in record.measurements)
    kept = {item.engine for item in record.measurements if item.verdict == "kept"}
    assert kept == {record.engine.kind}


def test_an_engine_that_proves_but_does_not_answer_does_not_stop_the_other(packed, monkeypatch):
    failures = [errors.EngineError("no answer", remedy="none")]

    def answers(servable, inputs):
        if failures:
            raise failures.pop()
        return served_outputs(servable, inputs)

    monkeypatch.setattr("compiler.candidates.served_outputs", answers)
    record = packed.build().version.record
    assert record.engine.kind == "openvino"
    assert ("onnxruntime", "[engine.failed] no answer") in {
        (item.engine, item.verdict) for item in record.measurements
    }


def test_a_model_that_openvino_would_narrow_is_built_for_onnx_runtime(packed, make_onnx):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["class"], axis=1, keepdims=0),
    ]
    onnx.save(
        make_onnx(
            nodes,
            outputs={
                "scores": (TensorProto.FLOAT, ["rows", 4]),
                "class": (TensorProto.INT64, ["rows"]),
            },
        ),
        packed.model,
    )
    packed.pack()
    record = packed.build().version.record
    assert record.engine.kind == "onnxruntime"
    (failed,) = [item for item in record.measurements if item.engine == "openvino"]
    assert "'class' INT64" in failed.verdict
