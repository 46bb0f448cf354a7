"""Makes the golden signatures of the `model-signing` tool, and lets the tool verify a bundle of ours.

Run in an environment of its own with `pip install model-signing pyOpenSSL` (versions in docs/decisions/0043):

    python tests/golden/make_modelsigning.py make tests/golden/modelsigning
    python tests/golden/make_modelsigning.py verify UNPACKED engineer.pub

The first writes a directory and a single file that the tool signed, with the key's public half; the private
half is thrown away. The second is for what `holdfast-compile unpack` wrote.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

GOLDEN = Path(__file__).parent
MODEL = GOLDEN / "models" / "torch_script.onnx"


def make(directory: Path) -> None:
    """Sign a copy of a golden model, as a file among others and as a file alone."""
    tree = directory / "tree"
    (tree / "deep").mkdir(parents=True)
    shutil.copy(MODEL, tree / "model.onnx")
    (tree / "README.md").write_text("a model card\n")
    (tree / "deep" / "notes.txt").write_text("beside the model\n")
    key = ec.generate_private_key(ec.SECP256R1())
    (directory / "trainer.pub").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    with tempfile.TemporaryDirectory() as temporary:
        private = Path(temporary) / "key.pem"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        _tool("sign", tree, tree / "model.sig", "--private_key", private)
        _tool("sign", tree / "model.onnx", directory / "single.sig", "--private_key", private)


def verify(unpacked: Path, key: Path) -> None:
    """Let the tool verify a directory that `holdfast-compile unpack` wrote."""
    _tool("verify", unpacked, unpacked / "model.sig", "--public_key", key)


def _tool(act: str, model: Path, signature: Path, option: str, key: Path) -> None:
    command = [sys.executable, "-m", "model_signing", act, "key", model]
    subprocess.run([*command, "--signature", signature, option, key], check=True)


if __name__ == "__main__":
    {"make": make, "verify": verify}[sys.argv[1]](*map(Path, sys.argv[2:]))
