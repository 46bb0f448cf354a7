"""Models as scikit-learn, XGBoost, LightGBM and PyTorch leave them, against their own libraries' answers.

`tests/golden/make_models.py` made them; nothing here computed the answers that are expected.
"""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from appliance.config import Config, EngineConfig, StateConfig
from appliance.errors import SpecError
from appliance.signing import SigningKey
from appliance.store import Store
from compiler.build import build
from compiler.pack import Packed, pack
from runtime.servable import load_proven

MODELS = Path(__file__).parent.parent / "golden" / "models"
SPEC = """
[model]
name = "{name}"
release_notes = "from its own library"
{options}

[data]
sample = "rows.npz"
held_out = "rows.npz"
golden_rows = 8

[provenance]
data_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
training_code = "tests/golden/make_models.py"
frameworks = {{}}
"""
OPTIONS = {
    "sklearn_logistic": "",
    "sklearn_categories": "",
    "sklearn_forest": "",
    "xgboost": "",
    "lightgbm": "open_batch = true",  # its converter declares one label, whatever the rows
    "torch_dynamo": "",
    "torch_script": "[model.axes]\nheight = {min = 3, opt = 9, max = 32}\nwidth = {min = 3, opt = 7, max = 32}",
    "torch_batch_of_one": "open_batch = true\nbatch_max = 8",
}


def vectors(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The rows of a model and its library's answers, by tensor."""
    with np.load(MODELS / f"{name}.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    inputs = {key[6:]: array for key, array in arrays.items() if key.startswith("input/")}
    outputs = {key[7:]: array for key, array in arrays.items() if key.startswith("output/")}
    return inputs, outputs


def as_served(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "U":
        return array
    texts = np.empty(array.shape, np.object_)
    texts.reshape(-1)[:] = [item.encode() for item in array.flat]
    return texts


@pytest.fixture
def packed(tmp_path):
    """Packs one of the models: packed("xgboost")."""
    key = SigningKey.generate()
    key.public.save(tmp_path / "state" / "trust" / "engineer.pub")

    def packed(name: str, options: str | None = None) -> Packed:
        inputs, _ = vectors(name)
        np.savez(tmp_path / "rows.npz", **inputs)
        given = OPTIONS[name] if options is None else options
        (tmp_path / "spec.toml").write_text(SPEC.format(name=name, options=given))
        bundle = tmp_path / f"{name}.holdfast"
        model = MODELS / f"{name}.onnx"
        return pack(model, tmp_path / "spec.toml", bundle, key=key, in_process=True)

    return packed


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_a_model_answers_as_the_library_that_trained_it(packed, tmp_path, name):
    config = Config(
        state=StateConfig(directory=str(tmp_path / "state")), engine=EngineConfig(threads=1)
    )
    bundle = packed(name)
    assert bundle.manifest.engine.batch_max > 1
    built = build(bundle.path, config, in_process=True)
    stored = Store(config.state.store).open(name, built.version.number)
    inputs, outputs = vectors(name)
    rows = min(bundle.manifest.engine.batch_max, 24)
    servable = load_proven(stored, threads=1)
    try:
        (answer,) = servable.run([{key: as_served(a)[:rows] for key, a in inputs.items()}])
    finally:
        servable.close()
    assert set(answer.outputs) == set(outputs)
    for tensor, expected in outputs.items():
        got, wanted = answer.outputs[tensor], as_served(expected)[:rows]
        assert got.shape == wanted.shape
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
        else:
            assert got.tolist() == wanted.tolist()


def test_what_was_rewritten_is_told(packed):
    (note,) = packed("sklearn_logistic").notes
    assert "the ZipMap before 'output_probability' was taken off" in note
    notes = packed("torch_batch_of_one").notes
    assert "the first axis of 'x' [1, 6, 8], 'y' [1, 8] was opened" in notes
    assert packed("sklearn_forest").notes == ()


def test_a_model_exported_for_one_row_is_told_what_would_help(packed):
    with pytest.raises(SpecError, match="first axis is fixed at 1") as refused:
        packed("torch_batch_of_one", "batch_max = 8")
    assert "open_batch = true" in refused.value.remedy


def test_the_digest_of_the_source_is_that_of_the_file(packed):
    manifest = packed("sklearn_logistic").manifest
    data = (MODELS / "sklearn_logistic.onnx").read_bytes()
    assert manifest.source_sha256 == hashlib.sha256(data).hexdigest()
    (model,) = [file for file in manifest.files if file.name == "model.onnx"]
    assert model.sha256 != manifest.source_sha256
