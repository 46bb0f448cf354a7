"""Shape inference that does not carry the weights along.

Knows: which constants inference reads, small ones that are shapes, and that of all others it wants no more
than type and dimensions. Rules: the model itself is never changed. Leaves to others: what is read from the
shapes (`edges`, `batching`, `received`, `deviations`, `integers`).
"""

import onnx
from onnx import shape_inference

_KEPT_BYTES_MAX = 4096


def inferred(model: onnx.ModelProto) -> onnx.GraphProto:
    """The model's graph with the shapes that inference finds; large initialisers hold no data in it."""
    whole = model.graph
    light = onnx.ModelProto(
        ir_version=model.ir_version,
        opset_import=model.opset_import,
        graph=onnx.GraphProto(
            name=whole.name,
            node=whole.node,
            input=whole.input,
            output=whole.output,
            value_info=whole.value_info,
            sparse_initializer=whole.sparse_initializer,
            initializer=map(_lightened, whole.initializer),
        ),
    )
    return shape_inference.infer_shapes(light).graph


def _lightened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.ByteSize() <= _KEPT_BYTES_MAX:
        return tensor
    return onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
