"""What tests of building for a GPU share: models, a GPU that is told of, and running what was built.

Knows: the fake of TensorRT over the fake GPU, in this very process. Rules: what runs a plan is the serving code. Leaves
to others: the fakes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from appliance.config import GpuBuildConfig, GpuConfig
from appliance.errors import GpuUnusable
from appliance.manifest import CalibrationMethod, Precision
from appliance.store import EngineEntry
from appliance.tensors import Interface
from compiler.gpu import BoxGpu
from compiler.opening.graph import interface_of
from compiler.opening.source import Source, open_source
from compiler.precision import lowered
from compiler.precision.calibration import calibrate
from runtime.engines import load_engine
from runtime.gpu import current
from runtime.gpu.device import Device
from runtime.gpu.engine_file import Header
from runtime.gpu.execution import Execution
from runtime.gpu.execution import open_execution as real
from runtime.kernels.cuda import KernelSource, Module
from tests.gpu.fake_tensorrt import FakeTensorRT

STAMP = {"library": "TensorRT of a test", "gpu": "Fake GPU"}
RNG = np.random.default_rng(3)
_installed: list[FakeTensorRT] = []


def gpu(capability: tuple[int, int] = (9, 0), *, timings: str = "", **settings: Any) -> BoxGpu:
    """A GPU that a driver has told of, with these settings of [build.gpu]."""
    return BoxGpu(
        settings=GpuBuildConfig(**settings),
        uuid="GPU-0",
        name="Fake GPU",
        capability=capability,
        stamp=STAMP,
        timings=timings,
    )


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, Sequence[Any]]],
    outputs: dict[str, tuple[int, Sequence[Any]]],
    constants: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """An ONNX model of opset 17; tensors by name with their type and shape."""
    told = [
        [
            helper.make_tensor_value_info(name, kind, shape)
            for name, (kind, shape) in tensors.items()
        ]
        for tensors in (inputs, outputs)
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "tested", *told, weights)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def convolutions(seed: int = 0) -> onnx.ModelProto:
    """Two convolutions with a ReLU between, pooled, then a linear layer: scores of "x" [rows, 3, 8, 8]."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "stem", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "bend"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "second", pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["c2"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "w3"], ["scores"], "classify"),
    ]
    constants = {
        "w1": weights(8, 3, 3, 3), "b1": weights(8), "w2": weights(8, 8, 3, 3), "b2": weights(8),
        "w3": weights(8, 4),
    }  # fmt: skip
    return model(
        nodes,
        {"x": (TensorProto.FLOAT, ["rows", 3, 8, 8])},
        {"scores": (TensorProto.FLOAT, ["rows", 4])},
        constants,
    )


def opened(proto: onnx.ModelProto, directory: Path, batch_max: int = 8) -> tuple[Source, Interface]:
    """The model as the compiler opens it, with so many rows at once."""
    path = directory / "model.onnx"
    onnx.save(proto, path)
    source = open_source(path)
    return source, interface_of(source, batch_max)


def images(rows: int = 8) -> dict[str, np.ndarray]:
    """Inputs of `convolutions`."""
    return {"x": RNG.normal(size=(rows, 3, 8, 8)).astype(np.float32)}


def typed(source: Source, precision: Precision) -> Source:
    """The source of `convolutions` with the types of `precision`."""
    ranges = None
    if precision is Precision.INT8:
        ranges = calibrate(source, images(32), CalibrationMethod.MINMAX, batch_max=8)
    return lowered(source, precision, ranges)


def no_kernels(sources: Sequence[KernelSource], *, capability: tuple[int, int]) -> Module:
    """In place of the toolchain's: the fake GPU runs kernels far too slowly for a whole build."""
    raise GpuUnusable(f"{len(sources)} kernels are left out of this test", remedy="none")


def open_execution(device: Device, plan: Any, header: Header) -> Execution:
    """The real one, over the fake TensorRT of `on_gpu`."""
    _installed[-1].on(device)
    return real(device, plan, header)


@contextmanager
def on_gpu(fake: FakeTensorRT) -> Iterator[None]:
    """What is loaded inside runs on a fake GPU, by this thread."""
    _installed.append(fake)
    current.use(
        GpuConfig(),
        executions="tests.gpu.building:open_execution",
        devices="tests.gpu.fakes:open_fake",
        here=True,
    )
    try:
        yield
    finally:
        current.release()
        current.use(GpuConfig(), executions=current.EXECUTIONS, devices=current.DEVICES)
        _installed.pop()


def run(
    fake: FakeTensorRT,
    directory: Path,
    entry: EngineEntry,
    interface: Interface,
    inputs: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """What the engine that was built answers."""
    with on_gpu(fake):
        engine = load_engine(
            entry.kind,
            directory / entry.file,
            interface=interface,
            threads=1,
            precision=entry.precision,
            bounds=entry.bounds,
        )
        try:
            return engine.run(inputs)
        finally:
            engine.close()
