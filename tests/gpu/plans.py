"""A small model and a plan of it by the fake of TensorRT, for many tests.

Knows: the shortest right way from a model to a context. Rules: what is made here is made anew for each test. Leaves to others:
what the tests do with it.
"""

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.gpu.fake_tensorrt import FakeTensorRT

ROWS_MAX = 8
WEIGHTS = np.linspace(-1, 1, 30, dtype=np.float32).reshape(10, 3)


def model(weights: "np.ndarray[Any, Any]" = WEIGHTS) -> bytes:
    """ONNX: x (rows, 10) FP32 -> scores of 3 classes, by nodes "product" and "scores"."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weights"], ["product"], "product"),
            helper.make_node("Softmax", ["product"], ["y"], "scores", axis=-1),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


MODEL = model()


def as_long_as_values() -> bytes:
    """ONNX: x (rows, 10) FP32 -> the places of what is not zero."""
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["x"], ["y"], "places")],
        "places",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 10])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [2, "found"])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


AS_LONG_AS_VALUES = as_long_as_values()


def expected(x: "np.ndarray[Any, Any]", weights: "np.ndarray[Any, Any]" = WEIGHTS) -> Any:
    """What `model` gives, in FP64."""
    product = x.astype(np.float64) @ weights.astype(np.float64)
    powers = np.exp(product - product.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def built(
    release: str = "11.4", *, flags: tuple[str, ...] = (), source: bytes = MODEL, **planted: Any
) -> dict[str, Any]:
    """Every object on the way from the model `source` to a context, by name; `planted` as of World."""
    fake = FakeTensorRT(release)
    trt = fake.module
    logger = Logger.of(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(source)
    config = builder.create_builder_config()
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    profile.set_shape("x", (1, 10), (4, 10), (ROWS_MAX, 10))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    context = None
    if "STRIP_PLAN" not in flags:
        context = engine.create_execution_context(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
    for name, value in planted.items():
        setattr(fake, name, value)
    return {
        "fake": fake, "trt": trt, "logger": logger, "builder": builder, "network": network, "parser": parser,
        "config": config, "profile": profile, "plan": plan, "runtime": runtime, "engine": engine, "context": context,
    }  # fmt: skip


class Logger:
    """A logger that keeps its lines."""

    @staticmethod
    def of(trt: Any) -> Any:
        """One for these bindings."""

        class Kept(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.lines: list[tuple[str, str]] = []

            def log(self, severity: Any, msg: str) -> None:
                self.lines.append((severity.name, msg))

        return Kept()
