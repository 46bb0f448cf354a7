"""Tiny models in ONNX Runtime's own format: plans for the stand-in of `tests.gpu.sessions`."""

from pathlib import Path

import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from appliance.tensors import DataType, Interface
from runtime.gpu.engine_file import write_engine_file
from tests.gpu.sessions import SILENT

TYPES = {
    DataType.FP32: TensorProto.FLOAT,
    DataType.INT64: TensorProto.INT64,
    DataType.UINT8: TensorProto.UINT8,
}


def plan_of(path: Path, interface: Interface, nodes: list, constants: dict) -> bytes:
    """A model of `nodes` with `interface`, compiled; `path` is a directory for what the library writes."""

    def info(spec):
        shape = [axis if axis != -1 else f"{spec.name}_{at}" for at, axis in enumerate(spec.shape)]
        whole = ["rows", *shape] if interface.batch_max else shape
        return helper.make_tensor_value_info(spec.name, TYPES[spec.datatype], whole)

    graph = helper.make_graph(
        nodes,
        "tiny",
        [info(spec) for spec in interface.inputs],
        [info(spec) for spec in interface.outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    options.optimized_model_filepath = str(path / "tiny.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return (path / "tiny.ort").read_bytes()


def tiny_engine(path: Path, interface: Interface, nodes: list, constants: dict, **told) -> Path:
    """An engine file of such a model; `told` are further words of its header, and modules."""
    told.setdefault("inputs", {spec.name: str(spec.datatype) for spec in interface.inputs})
    told.setdefault("outputs", {spec.name: str(spec.datatype) for spec in interface.outputs})
    plan = plan_of(path, interface, nodes, constants)
    write_engine_file(path / "engine.trt", plan=plan, stamp={"gpu": "a fake"}, **told)
    return path / "engine.trt"
