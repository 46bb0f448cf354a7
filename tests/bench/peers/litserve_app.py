"""LitServe: one API a model under /NAME, JSON. Argument: port."""

import sys

import litserve
import numpy as np
import onnx_engine


class OnnxAPI(litserve.LitAPI):
    """One model."""

    def setup(self, device):
        """Load the engine of the model by its path."""
        self._engine = onnx_engine.warm(self.api_path.strip("/"))

    def decode_request(self, request):
        """One row."""
        return np.asarray(request["x"], np.float32)[0]

    def batch(self, inputs):
        """Rows of several requests."""
        return np.stack(inputs)

    def predict(self, x):
        """Rows to rows."""
        return self._engine.run(x)

    def unbatch(self, output):
        """One row for each request."""
        return list(output)

    def encode_response(self, output):
        """One row as JSON."""
        return [output.tolist()]


if __name__ == "__main__":
    apis = [
        OnnxAPI(api_path=f"/{name}", max_batch_size=settings["batch"], batch_timeout=0.002)
        for name, settings in onnx_engine.MODELS.items()
    ]
    server = litserve.LitServer(apis, accelerator="cpu", workers_per_device=2, fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error"
    )
