"""Ask a runtime to read handwritten digits, with Holdfast's own client.

Needs a runtime in which a version of `digits` is active. Any Open Inference Protocol server that serves
a model of this name and interface will do as well.

    python examples/client.py [ADDRESS]
"""

import sys
from pathlib import Path

import numpy as np

from runtime.client import InferenceClient

NAMES = np.array(
    [b"zero", b"one", b"two", b"three", b"four", b"five", b"six", b"seven", b"eight", b"nine"]
)
ROWS = 8


def main(address: str) -> None:
    """Send a few held-out images and compare what comes back with what they are."""
    with np.load(Path(__file__).parent / "digits" / "held_out.npz") as held_out:
        images, labels = held_out["image"][:ROWS], held_out["label"][:ROWS]
    with InferenceClient(address, deadline_seconds=10.0) as client:
        reply = client.infer("digits", {"image": images}, outputs=["labels"])
    read, written = reply.outputs["labels"][:, 0], NAMES[labels]
    for name, answer in zip(written, read, strict=True):
        print(f"{name.decode():>5} read as {answer.decode()}")
    print(f"{(read == written).sum()} of {ROWS} right, recorded as {reply.request_id}")


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["127.0.0.1:8001"])
