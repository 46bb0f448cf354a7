"""MLServer: a custom runtime with numpy codecs; its adaptive batching is set in model-settings.json."""

import onnx_engine
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class OnnxModel(MLModel):
    """One model."""

    async def load(self):
        """Load the engine of the model by its name."""
        self._output = onnx_engine.MODELS[self.name]["output"]
        self._engine = onnx_engine.warm(self.name)
        return True

    async def predict(self, payload):
        """Rows to rows."""
        rows = NumpyCodec.decode_input(payload.inputs[0])
        found = self._engine.run(rows.astype("float32", copy=False))
        output = NumpyCodec.encode_output(self._output, found)
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=[output])
