"""Triton's Python backend: all requests of one execution as one batch, as its own documentation advises."""

import json

import numpy as np
import onnx_engine
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance."""

    def initialize(self, args):
        """Load the engine of the model by its name."""
        config = json.loads(args["model_config"])
        settings = onnx_engine.MODELS[config["name"]]
        self._input, self._output = settings["tensor"], settings["output"]
        self._engine = onnx_engine.warm(config["name"])

    def execute(self, requests):
        """Join the rows, run once, give each request its own."""
        rows = [
            pb_utils.get_input_tensor_by_name(each, self._input).as_numpy() for each in requests
        ]
        found = self._engine.run(rows[0] if len(rows) == 1 else np.concatenate(rows))
        replies, at = [], 0
        for each in rows:
            mine = found[at : at + len(each)]
            at += len(each)
            replies.append(pb_utils.InferenceResponse([pb_utils.Tensor(self._output, mine)]))
        return replies
