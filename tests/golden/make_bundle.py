"""Makes the golden bundle: a small model with every kind of field that a manifest has, by a key that repeats.

Run `python tests/golden/make_bundle.py DIRECTORY`. The files in tests/golden/bundle/1 are what release 0.1
wrote; later releases must open and build them for ever, so they are only ever added to, by a new directory.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.signing import SigningKey
from compiler.pack import pack

MODELS = Path(__file__).parent / "models"
SPEC = """
[model]
name = "golden"
release_notes = "for ever"
batch_max = 4
precision = "auto"
[model.axes]
height = {min = 3, opt = 9, max = 32}
width = {min = 3, opt = 7, max = 32}
[data]
sample = "rows.npz"
held_out = "rows.npz"
golden_rows = 4
[[acceptance]]
metric = "mean_absolute_error"
output = "OUTPUT"
maximum = 0.5
segment = "site"
[limits]
latency_ms_max = 10000
[[robustness]]
kind = "noise"
level = 0.1
[provenance]
data_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
training_code = "tests/golden/make_models.py"
frameworks = {}
"""


def main(directory: Path) -> None:
    """Write golden.holdfast and engineer.pub into `directory`."""
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"golden").digest())
    key = SigningKey(private)
    key.public.save(directory / "engineer.pub")
    with np.load(MODELS / "torch_script.npz") as archive:
        rows = {name[6:]: archive[name] for name in archive.files if name.startswith("input/")}
        answers = {name[7:]: archive[name] for name in archive.files if name.startswith("output/")}
    ((output, answer),) = answers.items()
    sites = np.array(["north", "south"])[np.arange(len(answer)) % 2]
    with tempfile.TemporaryDirectory() as temporary:
        spec = Path(temporary) / "spec.toml"
        spec.write_text(SPEC.replace("OUTPUT", output))
        truth = {"label": answer.astype(np.float64), "segment/site": sites}
        np.savez(Path(temporary) / "rows.npz", **rows, **truth)
        pack(MODELS / "torch_script.onnx", spec, directory / "golden.holdfast", key=key)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
