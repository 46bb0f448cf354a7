"""Two models on one box: images and a table, each with its own versions, queue and record."""

import shutil

import numpy as np
import pytest
import tritonclient.grpc as triton

from appliance.audit.reader import AuditReader
from appliance.config import Config, StateConfig
from appliance.signing import SigningKey
from compiler.build import build
from compiler.pack import pack
from runtime.client import ControlClient


@pytest.fixture
def both(digits_state, tmp_path, request):
    """A state directory with digits and the tumours model built."""
    state = shutil.copytree(digits_state, tmp_path / "state")
    source = request.config.rootpath / "examples" / "tumours" / "tumours-1"
    key, bundle = SigningKey.generate(), tmp_path / "tumours.holdfast"
    key.public.save(state / "trust" / "second.pub")
    pack(source.with_suffix(".onnx"), source.with_suffix(".toml"), bundle, key=key)
    build(bundle, Config(state=StateConfig(directory=str(state))))
    return state


def test_a_table_and_images_are_served_side_by_side(both, start_runtime, request, held_out):
    runtime = start_runtime(both)
    with ControlClient(runtime.socket) as control:
        for model in ("digits", "tumours"):
            control.decide(model, "activate", 1, actor="test", reason="serve both")
        assert [model.name for model in control.list()] == ["digits", "tumours"]
    rows = np.load(request.config.rootpath / "examples" / "tumours" / "held_out.npz")
    (name,) = (key for key in rows.files if key != "label")
    table, truth = rows[name][:32], rows["label"][:32]
    with triton.InferenceServerClient(runtime.address) as client:
        metadata = client.get_model_metadata("tumours", as_json=True)
        (spec,) = metadata["inputs"]
        tensor = triton.InferInput(spec["name"], list(table.shape), spec["datatype"])
        tensor.set_data_from_numpy(table)
        answer = client.infer("tumours", [tensor], request_id="table")
        image = triton.InferInput("image", [1, 8, 8, 1], "UINT8")
        image.set_data_from_numpy(held_out["image"][:1])
        assert client.infer("digits", [image]).get_response().model_name == "digits"
    classes = next(
        answer.as_numpy(output["name"])
        for output in metadata["outputs"]
        if output["datatype"] == "INT64"
    )
    assert (classes[:, 0] == truth).mean() >= 0.9
    with AuditReader(both / "audit" / "log.db") as reader:
        assert [entry.record.rows for entry in reader.show("table")] == [32]
