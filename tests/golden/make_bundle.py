"""Makes the golden bundle: a small model with every kind of field that a manifest has, by a key that repeats.

Run `python tests/golden/make_bundle.py DIRECTORY`. The files in tests/golden/bundle/1 are of bundle format 1,
those in 2 of format 2, by a P-256 key and with a signed source; later releases must open and build them for
ever, so they are only ever added to, by a new directory.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.modelkeys import P256SigningKey
from compiler.pack import pack
from compiler.signedsource import signed_source

MODELS = Path(__file__).parent / "models"
TOOL = Path(__file__).parent / "modelsigning"  # by make_modelsigning.py
SPEC = """
[model]
name = "golden"
release_notes = "for ever"
batch_max = 4
precision = "auto"
edition = 7
minimum_release = "0.1"
compatible = "golden/any"
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
    number = int.from_bytes(hashlib.sha256(b"golden").digest())
    key = P256SigningKey(ec.derive_private_key(number, ec.SECP256R1()))
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
        model = TOOL / "tree" / "model.onnx"
        pack(
            model,
            spec,
            directory / "golden.holdfast",
            key=key,
            signed_at="2026-11-21T08:00:00+00:00",
            source=signed_source(model, TOOL / "tree" / "model.sig", TOOL / "trainer.pub"),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
