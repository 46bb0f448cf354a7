"""What the reference would compute otherwise than ONNX says, never twice the same, or not survive.

Knows: the operators by which ONNX Runtime 1.31 departs from the standard's own results (found by running
onnx.backend.test through it), those that draw random numbers, and the one division that ends a process.
Rules: the reference decides what is
right at every later proof, so a model on which it is wrong is refused by node, operator and reason. Leaves
to others: everything that ONNX Runtime merely does not run, which it says itself (`reference`).
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from appliance.errors import SourceUnsupported
from compiler.opening.edges import types_from_values
from compiler.opening.inference import inferred
from compiler.opening.walking import Body, bodies_within

_RANDOM = (
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)
_SMALL = 64  # values of a constant that decides
_TRAPPING = {"INT32", "INT64"}  # narrower ones are divided as INT32


class _Graph:
    """One body with what is known of its constants and shapes, and the types of what is no constant."""

    def __init__(
        self, body: Body, shapes: Mapping[str, list[int | None]], types: Mapping[str, str]
    ) -> None:
        self.shapes, self.types = shapes, types
        self._body = body

    def constant(self, name: str, most: float = _SMALL) -> NDArray[np.generic] | None:
        """The value of a constant of at most `most` values, None when `name` is none."""
        tensors = [item for item in getattr(self._body, "initializer", ()) if item.name == name]
        for node in self._body.node:
            if node.op_type == "Constant" and name in node.output:
                tensors += [item.t for item in node.attribute if item.name == "value"]
        if tensors and np.prod(tensors[0].dims, dtype=float) <= most:
            return numpy_helper.to_array(tensors[0])
        return None

    def reads(self, name: str) -> bool:
        """True when somebody uses the tensor `name`."""
        outputs = {info.name for info in getattr(self._body, "output", ())}
        return name in outputs or any(name in node.input for node in self._body.node)


def check_deviations(model: onnx.ModelProto, depth_max: int) -> None:
    """Raise SourceUnsupported at the first node that would be computed otherwise than ONNX says."""
    suspects = {*_JUDGES, *_RANDOM}
    bodies = bodies_within(model.graph, depth_max)
    if not any(node.op_type in suspects for body in bodies for node in body.node):
        return
    known = inferred(model)
    shapes, types = _shapes(known), types_from_values(known)
    for body in bodies:
        graph = _Graph(body, shapes, types)
        for node in body.node:
            why = _judged(node, graph)
            if why:
                raise SourceUnsupported(
                    f"node '{node.name or node.output[0]}' ({node.op_type}) {why[0]}", remedy=why[1]
                )


def _judged(node: onnx.NodeProto, graph: _Graph) -> tuple[str, str] | None:
    """Reason and remedy, None for a node that is computed as it should be."""
    if node.op_type in _RANDOM:
        return (
            "draws random numbers",
            "export the model for inference, or feed the noise as input",
        )
    judge = _JUDGES.get(node.op_type)
    return judge(node, graph) if judge else None


def _dropout(node: onnx.NodeProto, graph: _Graph) -> tuple[str, str] | None:
    if len(node.input) < 3 or not node.input[2]:
        return None
    training = graph.constant(node.input[2])
    if training is not None and not training.any():
        return None
    return ("may draw random numbers, as it can be in training mode", "export it for inference")


def _max_unpool(node: onnx.NodeProto, _: _Graph) -> tuple[str, str] | None:
    if len(node.input) < 3 or not node.input[2]:
        return None
    return (
        "has an output_shape, with which ONNX Runtime puts values in other places than ONNX says",
        "leave the third input out, or write the unpooling with ScatterND",
    )


def _resize(node: onnx.NodeProto, graph: _Graph) -> tuple[str, str] | None:
    modes = {item.name: item.s for item in node.attribute}
    if modes.get("coordinate_transformation_mode") != b"align_corners" or len(node.input) < 3:
        return None
    if not node.input[2]:
        return None
    scales = graph.constant(node.input[2])
    if scales is not None:
        if not scales.size:
            return None  # sizes are given instead
        factors = [float(scale) for scale in scales.reshape(-1)]
        lengths = graph.shapes.get(node.input[0], [None] * len(factors))
        if all(map(_whole, lengths, factors)):
            return None
    why = (
        "is given scales under align_corners, with which ONNX Runtime computes other positions "
        "than ONNX says where a length does not come out whole"
    )
    return (
        why,
        "give sizes instead of scales, or another coordinate_transformation_mode",
    )


def _whole(length: int | None, scale: float) -> bool:
    return scale.is_integer() or (length is not None and (length * scale).is_integer())


def _attention(node: onnx.NodeProto, graph: _Graph) -> tuple[str, str] | None:
    masked = len(node.input) > 3 and bool(node.input[3])
    causal = any(item.name == "is_causal" and item.i for item in node.attribute)
    if not (masked and causal) or len(node.output) < 4 or not graph.reads(node.output[3]):
        return None
    return (
        "is causal and masked and gives its products out, which ONNX Runtime fills with -3.4e38 where ONNX says -inf",
        "do without the fourth output",
    )


def _divide(node: onnx.NodeProto, graph: _Graph) -> tuple[str, str] | None:
    dividend, divisor = node.input[0], node.input[1]
    if not {graph.types.get(dividend), graph.types.get(divisor)} & _TRAPPING:
        return None
    constant = graph.constant(divisor, math.inf)
    negative = constant is not None and bool((constant == -1).any())
    if graph.types.get(dividend if negative else divisor) not in _TRAPPING:
        return None
    why = (
        "divides integers by numbers that may be -1 or 0: the lowest integer by -1 has no result, and "
        "ends the process that computes it"
    )
    return why, "cast both to FLOAT before the division, or divide by a constant above 0"


_JUDGES: dict[str, Callable[[onnx.NodeProto, _Graph], tuple[str, str] | None]] = {
    "Attention": _attention,
    "Div": _divide,
    "Mod": _divide,
    "Dropout": _dropout,
    "MaxUnpool": _max_unpool,
    "Resize": _resize,
}


def _shapes(graph: onnx.GraphProto) -> dict[str, list[int | None]]:
    infos = (*graph.input, *graph.value_info, *graph.output)
    return {
        info.name: [
            axis.dim_value if axis.HasField("dim_value") else None
            for axis in info.type.tensor_type.shape.dim
        ]
        for info in infos
    }
