"""BentoML: a batchable API for each of the two small models, JSON."""

import bentoml
import numpy as np
import onnx_engine


@bentoml.service(workers=2, traffic={"timeout": 60})
class Bench:
    """Both models."""

    def __init__(self):
        self._engines = {name: onnx_engine.warm(name) for name in onnx_engine.MODELS}

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=1000)
    def mlp(self, x: np.ndarray) -> np.ndarray:
        """Rows to rows."""
        return self._engines["mlp"].run(np.asarray(x, np.float32))

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=1000)
    def cnn(self, x: np.ndarray) -> np.ndarray:
        """Rows to rows."""
        return self._engines["cnn"].run(np.asarray(x, np.float32))
