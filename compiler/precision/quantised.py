"""int8 as explicit types: QuantizeLinear and DequantizeLinear around the heavy operators.

Knows: the form that ONNX Runtime, OpenVINO and TensorRT all compute in int8: signed, symmetric (zero point
0), weights per output channel, biases left in fp32. Rules: scales come from the sealed ranges and nothing
is calibrated again; an operator whose weight is no matrix stays in fp32. Leaves to others: the ranges
(`calibration`), the check (`checked`).
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import onnx
from onnx import numpy_helper

from appliance.errors import EngineBuild
from appliance.manifest import Precision
from compiler.precision.calibration import Ranges
from compiler.precision.operators import QUANTISED, heavy_nodes, tensor_types
from compiler.precision.opsets import at_least
from compiler.precision.ordering import sort_nodes
from runtime.engines.loading import library_text

_OPSET_MIN = 13  # from which QuantizeLinear knows channels
_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "QDQOpTypePerChannelSupportToAxis": {"MatMul": -1},
}


def quantised(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """`model`, a folded one, quantised; inputs and outputs keep their types.

    Raises EngineBuild when a tensor has no range or the model cannot be written in opset 13.
    """
    # Imported here: a tenth of a second that only int8 pays.
    from onnxruntime.quantization import QuantType  # noqa: PLC0415
    from onnxruntime.quantization.calibrate import CalibrationMethod as Method  # noqa: PLC0415
    from onnxruntime.quantization.calibrate import TensorData, TensorsData  # noqa: PLC0415
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer  # noqa: PLC0415

    model = at_least(model, _OPSET_MIN)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = _quantisable(model, weights)
    needed = {n for node in nodes for n in _activations(node, weights)}
    _check_ranges(needed, ranges)
    for node in nodes:
        _fold_beta(node, model.graph, weights)
    single = np.float32
    found = {
        name: TensorData(
            lowest=single(ranges.tensors[name][0]), highest=single(ranges.tensors[name][1])
        )
        for name in sorted(needed)
    }
    try:
        with _quiet():
            quantizer = QDQQuantizer(
                _inferred(model),
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QInt8,
                tensors_range=TensorsData(Method.MinMax, found),
                nodes_to_quantize=[node.name for node in nodes],
                nodes_to_exclude=[],
                op_types_to_quantize=sorted(QUANTISED),
                extra_options=dict(_OPTIONS),
            )
            rewritten: onnx.ModelProto = quantizer.quantize_model()
    except Exception as error:  # it raises what it likes
        raise EngineBuild(
            f"onnxruntime.quantization cannot quantise the model: {library_text(error)}",
            remedy="use another precision, or report the model with this message",
        ) from error
    sort_nodes(rewritten.graph)
    del rewritten.metadata_props[:]
    return rewritten


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's warnings, which would go to the root logger and set it up on the way."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with the types of its tensors, marked as the quantiser marks what it inferred itself.

    Left to itself it writes the model out and back under a name for which libuuid opens a socket.
    """
    typed = onnx.shape_inference.infer_shapes(model)
    onnx.helper.set_model_props(typed, {"onnx.infer": "onnxruntime.quant"})
    return typed


def _quantisable(
    model: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """The heavy nodes whose weight, where it is a constant, has output channels."""
    nodes = heavy_nodes(model.graph, tensor_types(model), Precision.INT8)
    return [
        node
        for node in nodes
        if all(len(weights[name].dims) > 1 for name in node.input[:2] if name in weights)
    ]


def _activations(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> list[str]:
    """The tensors around `node` that are quantised by range."""
    return [name for name in (*node.input[:2], *node.output) if name not in weights]


def _check_ranges(needed: set[str], ranges: Ranges) -> None:
    missing = sorted(needed - ranges.tensors.keys())
    if missing:
        raise EngineBuild(
            f"the bundle's calibration has no range of '{missing[0]}' and {len(missing) - 1} others "
            f"of {len(needed)} tensors",
            remedy="pack the model again with this release, so that it is calibrated as it is built",
        )


def _fold_beta(
    node: onnx.NodeProto, graph: onnx.GraphProto, weights: Mapping[str, onnx.TensorProto]
) -> None:
    """Scale a Gemm's constant bias by `beta`, which the quantiser would drop."""
    beta = next((item for item in node.attribute if item.name == "beta"), None)
    if beta is None or beta.f == 1.0 or len(node.input) < 3 or node.input[2] not in weights:
        return
    values = numpy_helper.to_array(weights[node.input[2]]) * np.float32(beta.f)
    name = f"{node.input[2]}:{node.name}"
    graph.initializer.append(numpy_helper.from_array(values, name))
    node.input[2] = name
    beta.f = 1.0
