"""Texts over the wire: a scikit-learn model with a column of strings, asked by the stock client."""

from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from appliance.audit.reader import AuditReader
from appliance.config import Config, StateConfig
from appliance.signing import SigningKey
from compiler.build import build
from compiler.pack import pack
from runtime.client import ControlClient

MODEL = Path(__file__).parent.parent / "golden" / "models" / "sklearn_categories.onnx"
SPEC = """
[model]
name = "sites"
release_notes = "texts"
batch_max = 8
[data]
sample = "rows.npz"
held_out = "rows.npz"
[provenance]
data_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
training_code = "r1"
frameworks = {}
"""


def as_texts(array: np.ndarray) -> np.ndarray:
    """As clients hold them: objects."""
    return np.array([[str(item).encode() for item in row] for row in array], np.object_)


@pytest.fixture
def rows() -> dict[str, np.ndarray]:
    """The model's rows and its library's answers."""
    with np.load(MODEL.with_suffix(".npz")) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture
def served(tmp_path, rows, start_runtime):
    """A runtime that serves the model."""
    key = SigningKey.generate()
    key.public.save(tmp_path / "state" / "trust" / "engineer.pub")
    (tmp_path / "spec.toml").write_text(SPEC)
    inputs = {name[6:]: a for name, a in rows.items() if name.startswith("input/")}
    np.savez(tmp_path / "rows.npz", **inputs)
    bundle = tmp_path / "sites.holdfast"
    pack(MODEL, tmp_path / "spec.toml", bundle, key=key, in_process=True)
    config = Config(state=StateConfig(directory=str(tmp_path / "state")))
    build(bundle, config, in_process=True)
    runtime = start_runtime(tmp_path / "state")
    with ControlClient(runtime.socket) as control:
        control.decide("sites", "activate", 1, actor="test", reason="serve texts")
    return runtime


def sent(sites: np.ndarray, numbers: np.ndarray) -> list[triton.InferInput]:
    texts = triton.InferInput("site", list(sites.shape), "BYTES")
    texts.set_data_from_numpy(sites)
    floats = triton.InferInput("numbers", list(numbers.shape), "FP32")
    floats.set_data_from_numpy(numbers)
    return [texts, floats]


def test_texts_are_answered_and_recorded(served, rows):
    sites, numbers = as_texts(rows["input/site"]), rows["input/numbers"]
    with triton.InferenceServerClient(served.address) as client:
        metadata = client.get_model_metadata("sites", as_json=True)
        assert metadata["inputs"][0] == {"name": "site", "datatype": "BYTES", "shape": ["-1", "1"]}
        result = client.infer("sites", sent(sites[:8], numbers[:8]), request_id="texts")
        labels = result.as_numpy("output_label")
        assert [item.decode() for item in labels] == rows["output/output_label"][:8].tolist()
        probabilities = result.as_numpy("output_probability")
        np.testing.assert_allclose(probabilities, rows["output/output_probability"][:8], rtol=1e-4)

        sites[2, 0] = b"\xff\xfe"
        with pytest.raises(InferenceServerException, match="'site' holds bytes that are not UTF-8"):
            client.infer("sites", sent(sites[:3], numbers[:3]))
        wrong = [triton.InferInput("site", [1, 1], "FP32"), sent(sites[:1], numbers[:1])[1]]
        wrong[0].set_data_from_numpy(np.ones((1, 1), np.float32))
        with pytest.raises(InferenceServerException, match="data-type is 'FP32'"):
            client.infer("sites", wrong)
    with AuditReader(served.state / "audit" / "log.db") as reader:
        (entry,) = reader.show("texts")
    kept = {tensor.name: tensor for tensor in entry.record.outputs}
    assert kept["output_label"].datatype == "BYTES"
    assert b"high" in kept["output_label"].data
