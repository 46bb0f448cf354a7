"""A version whose recipe the GPU runs too, from pack and build to answers over the real wire."""

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto, helper, numpy_helper

from appliance.audit.kinds import Inference
from appliance.audit.reader import AuditReader
from appliance.config import Config, StateConfig
from appliance.signing import SigningKey
from appliance.store import Store
from compiler.build import build
from compiler.pack import pack
from runtime.client import ControlClient
from runtime.servable import load_proven
from tests.gpu import few_threads
from tests.gpu.versions import SERVER, put_on_gpu

SIDE = 4
SPEC = """
[model]
name = "tiny"
release_notes = "tiny"
batch_max = 2
labels = ["a", "b", "c"]
[data]
sample = "rows.npz"
held_out = "rows.npz"
golden_rows = 2
[provenance]
data_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
training_code = "r1"
frameworks = {}
[[recipe.inputs]]
feeds = "pixels"
accepts = "raw"
[recipe.inputs.raw]
name = "photo"
datatype = "UINT8"
shape = [-1, -1, 1]
[[recipe.inputs.steps]]
step = "cast"
[[recipe.inputs.steps]]
step = "resize"
height = 4
width = 4
[[recipe.inputs.steps]]
step = "normalise"
scale = 0.00392156862745098
mean = [0.5]
std = [0.25]
[[recipe.inputs.steps]]
step = "layout"
order = "CHW"
[[recipe.after]]
step = "softmax"
tensor = "logits"
output = "p"
[[recipe.after]]
step = "top_k"
tensor = "p"
k = 2
output = "best"
labels = "names"
"""


@pytest.fixture
def photos():
    return np.random.default_rng(5).integers(0, 256, (8, 6, 5, 1), np.uint8)


@pytest.fixture
def tiny(tmp_path, photos):
    """A state directory with a version of "tiny" built for this processor."""
    weights = np.random.default_rng(6).normal(size=(SIDE * SIDE, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["pixels", "flat"], ["row"]),
            helper.make_node("MatMul", ["row", "w"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["rows", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 3])],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(np.array([-1, SIDE * SIDE]), "flat"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "m.onnx")
    (tmp_path / "m.toml").write_text(SPEC)
    np.savez(tmp_path / "rows.npz", photo=photos)
    key = SigningKey.generate()
    state = tmp_path / "state"
    key.public.save(state / "trust" / "engineer.pub")
    bundle = tmp_path / "m.holdfast"
    pack(tmp_path / "m.onnx", tmp_path / "m.toml", bundle, key=key, in_process=True)
    build(bundle, Config(state=StateConfig(directory=str(state))), in_process=True)
    return state


def test_what_is_served_is_what_this_processor_answers(tiny, photos, start_runtime, monkeypatch):
    for defaults in few_threads.defaults():
        monkeypatch.setitem(defaults, "threads", 1)
    servable = load_proven(Store(tiny / "store").open("tiny", 1), threads=1)
    (wanted,) = servable.run([{"photo": photos[:2]}])
    servable.close()
    put_on_gpu(tiny, "tiny", 1, fused=True)
    runtime = start_runtime(
        tiny,
        "[gpu]\nlanes = 1\n",
        code=SERVER.replace("main()\n", "few_threads.set_for_good()\nmain()\n"),
    )
    with ControlClient(runtime.socket) as control:
        control.decide("tiny", "activate", 1, actor="test", reason="test")
    sent = triton.InferInput("photo", photos[:2].shape, "UINT8")
    sent.set_data_from_numpy(photos[:2])
    with triton.InferenceServerClient(runtime.address) as client:
        reply = client.infer("tiny", [sent], request_id="x")
    for name in ("logits", "p"):
        np.testing.assert_allclose(reply.as_numpy(name), wanted.outputs[name], rtol=1e-4)
    for name in ("best", "names"):
        np.testing.assert_array_equal(reply.as_numpy(name), wanted.outputs[name])
    assert runtime.stop() == 0
    with AuditReader(tiny / "audit" / "log.db") as reader:
        (record,) = [e.record for e in reader.records() if isinstance(e.record, Inference)]
    assert record.request_id == "x"
    vectors = np.frombuffer(record.vector, "<f4")
    np.testing.assert_allclose(
        vectors.reshape(wanted.vectors.shape), wanted.vectors, rtol=1e-4, atol=1e-5
    )
