"""A model with states, made here, packed and built as any other, and what is asked of it."""

from pathlib import Path

import numpy as np
import onnx
import tritonclient.grpc as triton
from onnx import TensorProto, helper, numpy_helper

from appliance.config import Config, EngineConfig, StateConfig
from appliance.signing import SigningKey
from compiler.build import build
from compiler.pack import pack
from runtime.client import ControlClient

SPEC = """
[model]
name = "simple_sequence"
release_notes = "version {number}"
batch_max = 8
fallback = false

[[model.states]]
input = "TOTAL"
output = "TOTAL_NEXT"

[[model.states]]
input = "SEEN"
output = "SEEN_NEXT"

[data]
sample = "sample.npz"
held_out = "sample.npz"
golden_rows = 4

[provenance]
data_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
training_code = "r1"
frameworks = {{ numpy = "2" }}
"""


def accumulator(factor: int) -> onnx.ModelProto:
    """OUTPUT = INPUT + 1 at a sequence's start, as Triton's simple_sequence; SUM = factor x all INPUTs so far."""
    named = {"INPUT", "OUTPUT", "SUM", "TOTAL", "TOTAL_NEXT"}
    kinds = dict.fromkeys(named, TensorProto.INT32) | dict.fromkeys(
        ("SEEN", "SEEN_NEXT"), TensorProto.INT32
    )
    infos = {
        name: helper.make_tensor_value_info(name, kind, ["rows", 1]) for name, kind in kinds.items()
    }
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["TOTAL", "INPUT"], ["TOTAL_NEXT"]),
            helper.make_node("Mul", ["TOTAL_NEXT", "factor"], ["SUM"]),
            helper.make_node("Sub", ["one", "SEEN"], ["first"]),
            helper.make_node("Add", ["INPUT", "first"], ["OUTPUT"]),
            helper.make_node("Add", ["SEEN", "first"], ["SEEN_NEXT"]),
        ],
        "simple_sequence",
        [infos[name] for name in ("INPUT", "TOTAL", "SEEN")],
        [infos[name] for name in ("OUTPUT", "SUM", "TOTAL_NEXT", "SEEN_NEXT")],
        [
            numpy_helper.from_array(np.array([factor], np.int32), "factor"),
            numpy_helper.from_array(np.array([1], np.int32), "one"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def built(directory: Path, number: int, key: SigningKey) -> None:
    """Pack the accumulator of factor `number` and build it in the state directory `directory/state`."""
    work = directory / f"work-{number}"
    work.mkdir()
    onnx.save(accumulator(number), work / "model.onnx")
    np.savez(work / "sample.npz", INPUT=np.arange(8, dtype=np.int32)[:, None] + number)
    (work / "model.toml").write_text(SPEC.format(number=number))
    bundle = work / "model.holdfast"
    pack(work / "model.onnx", work / "model.toml", bundle, key=key, in_process=True)
    state = StateConfig(directory=str(directory / "state"))
    build(bundle, Config(state=state, engine=EngineConfig(threads=1)), in_process=True)


def value_of(number: int) -> triton.InferInput:
    """The one input of a request."""
    value = triton.InferInput("INPUT", [1, 1], "INT32")
    value.set_data_from_numpy(np.array([[number]], np.int32))
    return value


def activate(socket: Path, version: int, act: str = "activate", **more: object) -> None:
    """Record a decision on simple_sequence."""
    with ControlClient(socket) as control:
        control.decide("simple_sequence", act, version, actor="test", reason="test", **more)
