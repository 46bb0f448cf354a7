"""One caller of the served version, in a process of its own, so that callers wait for the server and not for each other's Python.

Knows: its line of standard input, after which it sends, and its two of standard output: when it is ready, and when it is done. Leaves to
others: the server, the time (`serving`).

Run as `python -m tests.hardware.checks.calling ADDRESS MODEL SIDE ROWS TURNS`.
"""

import sys

import numpy as np
import tritonclient.grpc as triton

address, model = sys.argv[1:3]
side, rows, turns = map(int, sys.argv[3:])
images = np.random.default_rng(rows).integers(0, 256, (rows, side, side, 3), np.uint8)
sent = triton.InferInput("image", images.shape, "UINT8")
sent.set_data_from_numpy(images)
with triton.InferenceServerClient(address) as client:
    client.infer(model, [sent])
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(turns):
        client.infer(model, [sent])
    print("done", flush=True)
