"""One ONNX file on the engine that our own server chose for it, for every peer alike.

Runs in a peer's side environment: nothing of Holdfast is imported. The models' settings come as JSON in the
variable BENCH_MODELS: by name path, kind, threads, instances, tensor, shape, output, output_shape.
"""

import json
import os

import numpy as np

MODELS = json.loads(os.environ.get("BENCH_MODELS", "{}"))


class Engine:
    """A loaded model; `run` takes rows and gives rows."""

    def __init__(self, settings):
        self._threads = int(settings["threads"])
        self.run = (
            self._openvino(settings) if settings["kind"] == "openvino" else self._ort(settings)
        )

    def _ort(self, settings):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(
            settings["path"], options, providers=["CPUExecutionProvider"]
        )
        return lambda x: session.run(None, {settings["tensor"]: x})[0]

    def _openvino(self, settings):
        import openvino

        hints = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self._threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = openvino.Core().compile_model(settings["path"], "CPU", hints)
        request = compiled.create_infer_request()

        def run(x):
            request.set_input_tensor(0, openvino.Tensor(np.ascontiguousarray(x)))
            request.infer()
            return request.get_output_tensor(0).data.copy()

        return run


def warm(name):
    """The engine of a model, after one call."""
    settings = MODELS[name]
    engine = Engine(settings)
    engine.run(np.zeros((1, *settings["shape"]), np.float32))
    return engine
