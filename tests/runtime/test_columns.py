"""A table served column by column, texts among them: what the stock client is told when one is wrong."""

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto, helper, numpy_helper
from tritonclient.utils import InferenceServerException

from appliance.audit.kinds import Failure
from appliance.audit.reader import AuditReader
from appliance.config import Config, EngineConfig, StateConfig
from appliance.signing import SigningKey
from compiler.build import build
from compiler.pack import pack
from runtime.client import ControlClient

SPEC = """
[model]
name = "dosing"
release_notes = "the first"
batch_max = 8

[data]
sample = "rows.npz"
held_out = "rows.npz"
golden_rows = 4

[provenance]
data_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
training_code = "r1"
frameworks = { numpy = "2" }

[[recipe.inputs]]
feeds = "x"
accepts = "columns"
columns = ["age", "site", "body_weight"]
texts = ["site"]
raw = { name = "patient", datatype = "FP64", shape = [3] }
steps = [
  { step = "cast" },
  { step = "impute", values = { body_weight = 70.0 } },
  { step = "min_max", columns = ["age"], low = [0.0], high = [100.0], clip = true },
  { step = "one_hot", column = "site", categories = ["nord", "süd"], unknown = "error" },
]
"""
WEIGHTS = np.array([[100.0], [1000.0], [2000.0], [1.0]], np.float32)
ROWS = {
    "age": np.array([[20.0], [50.0], [200.0], [40.0]]),
    "site": np.array([["nord"], ["süd"], ["nord"], ["süd"]]),
    "body_weight": np.array([[60.0], [70.0], [80.0], [np.nan]]),
}
ANSWERS = [[1080.0], [2120.0], [1180.0], [2110.0]]


def write_model(path):
    infos = (
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4]),
        helper.make_tensor_value_info("dose", TensorProto.FLOAT, ["rows", 1]),
    )
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["dose"])],
        "dosing",
        [infos[0]],
        [infos[1]],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


@pytest.fixture(scope="module")
def dosing(tmp_path_factory):
    """A state directory with the model built."""
    root = tmp_path_factory.mktemp("dosing")
    key, state = SigningKey.generate(), root / "state"
    key.public.save(state / "trust" / "engineer.pub")
    write_model(root / "dosing.onnx")
    (root / "dosing.toml").write_text(SPEC)
    np.savez(root / "rows.npz", **ROWS)
    pack(root / "dosing.onnx", root / "dosing.toml", root / "dosing.holdfast", key=key)
    config = Config(state=StateConfig(directory=str(state)), engine=EngineConfig(threads=1))
    build(root / "dosing.holdfast", config)
    return state


def column(name, values, *, called=None):
    values = np.char.encode(values).astype(np.object_) if values.dtype.kind == "U" else values
    datatype = "BYTES" if values.dtype == np.object_ else "FP64"
    tensor = triton.InferInput(called or name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values)
    return tensor


def columns(**changes):
    return [column(name, values) for name, values in (ROWS | changes).items()]


def refusal(client, inputs, request_id=""):
    with pytest.raises(InferenceServerException) as refused:
        client.infer("dosing", inputs, request_id=request_id)
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    return refused.value.message()


def test_columns_are_served_and_wrong_ones_refused_by_name(dosing, start_runtime):
    runtime = start_runtime(dosing)
    with ControlClient(runtime.socket) as control:
        control.decide("dosing", "activate", 1, actor="test", reason="first version")
    with triton.InferenceServerClient(runtime.address) as client:
        metadata = client.get_model_metadata("dosing", as_json=True)
        assert [(each["name"], each["datatype"]) for each in metadata["inputs"]] == [
            ("age", "FP64"),
            ("site", "BYTES"),
            ("body_weight", "FP64"),
        ]
        assert client.infer("dosing", columns()).as_numpy("dose").tolist() == ANSWERS
        assert client.infer("dosing", columns()[::-1]).as_numpy("dose").tolist() == ANSWERS

        without_site = [each for each in columns() if each.name() != "site"]
        assert refusal(client, without_site) == (
            "expected 3 inputs but got 2 inputs for model 'dosing'. Got input(s) "
            "['age', 'body_weight'], but missing required input(s) ['site']. "
            "Please provide all required input(s)."
        )
        renamed = [*columns()[:2], column("", ROWS["body_weight"], called="bodyweight")]
        assert refusal(client, renamed) == (
            "unexpected inference input 'bodyweight' for model 'dosing'; "
            "did you mean 'body_weight'?; missing input(s) ['body_weight']"
        )
        wrong = columns(site=np.array([["nord"], ["süd"], ["west"], ["nord"]]))
        assert refusal(client, wrong, "west") == (
            "column 'site' has the value 'west' in row 2, "
            "which is none of the categories that the model knows"
        )
        # A request that is refused leaves the next one whole.
        assert client.infer("dosing", columns()).as_numpy("dose").tolist() == ANSWERS
    with AuditReader(dosing / "audit" / "log.db") as reader:
        (entry,) = reader.show("west")
    assert isinstance(entry.record, Failure)
    assert "'west'" in entry.record.message
