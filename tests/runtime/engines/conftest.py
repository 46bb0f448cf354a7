"""Tiny models, compiled once a session for every kind of engine."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.manifest import Precision
from appliance.tensors import DataType, Interface, TensorSpec
from compiler.opening.source import open_source
from compiler.targets import FALLBACK, TARGETS
from runtime.engines import Engine, load_engine

FILES = {
    "onnxruntime": "engine.fp32.ort",
    "onnxruntime-portable": "engine.portable.ort",
    "openvino": "engine.fp32.blob",
}
WEIGHTS = np.random.default_rng(7).normal(size=(64, 32)).astype(np.float32)

MATMUL = Interface(
    inputs=(TensorSpec(name="x", datatype=DataType.FP32, shape=(64,)),),
    outputs=(TensorSpec(name="y", datatype=DataType.FP32, shape=(32,)),),
    batch_max=8,
)
MIXED = Interface(
    inputs=(
        TensorSpec(name="count", datatype=DataType.INT32, shape=(2,)),
        TensorSpec(name="image", datatype=DataType.UINT8, shape=(2,)),
    ),
    outputs=(
        TensorSpec(name="sum", datatype=DataType.INT32, shape=(2,)),
        TensorSpec(name="large", datatype=DataType.BOOL, shape=(2,)),
    ),
    batch_max=0,
)
_TYPES = {
    DataType.FP32: TensorProto.FLOAT,
    DataType.INT32: TensorProto.INT32,
    DataType.UINT8: TensorProto.UINT8,
    DataType.BOOL: TensorProto.BOOL,
}


def save(path: Path, interface: Interface, nodes: list, constants: dict) -> Path:
    def info(spec: TensorSpec):
        shape = ["rows", *spec.shape] if interface.batch_max else spec.shape
        return helper.make_tensor_value_info(spec.name, _TYPES[spec.datatype], shape)

    graph = helper.make_graph(
        nodes,
        "tiny",
        [info(spec) for spec in interface.inputs],
        [info(spec) for spec in interface.outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def engine_files(tmp_path_factory) -> dict[str, Path]:
    """Directories with model.onnx and an engine file a kind, by the model's name."""
    models = {
        "matmul": (MATMUL, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": WEIGHTS}),
        "mixed": (
            MIXED,
            [
                helper.make_node("Add", ["count", "one"], ["sum"]),
                helper.make_node("Greater", ["image", "limit"], ["large"]),
            ],
            {
                "one": np.array([1, 1], np.int32),
                "limit": np.array([100], np.uint8),
            },
        ),
    }
    directories = {}
    for name, (interface, nodes, constants) in models.items():
        directory = tmp_path_factory.mktemp(name)
        model = save(directory / "model.onnx", interface, nodes, constants)
        for target in (*TARGETS, FALLBACK):
            target.compile(open_source(model), directory, interface, 1, Precision.FP32)
        directories[name] = directory
    return directories


@pytest.fixture(params=sorted(FILES))
def kind(request) -> str:
    """Each kind of engine in turn."""
    return request.param


@pytest.fixture
def load(engine_files, kind) -> Callable[..., Engine]:
    """Loads a tiny model's engine: load("matmul"), load("matmul", threads=2)."""

    def load(
        name: str, *, threads: int = 1, lanes: int = 1, interface: Interface | None = None
    ) -> Engine:
        given = interface or {"matmul": MATMUL, "mixed": MIXED}[name]
        path = engine_files[name] / FILES[kind]
        return load_engine(
            kind, path, interface=given, threads=threads, precision=Precision.FP32, lanes=lanes
        )

    return load


@pytest.fixture
def engine_path(engine_files, kind) -> Path:
    """The compiled matmul."""
    return engine_files["matmul"] / FILES[kind]
