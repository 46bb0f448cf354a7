"""fp16 and bf16 as explicit types: the heavy operators compute in 16 bits, what may follow them follows.

Knows: where a Cast must stand. Rules: a heavy operator (`operators.HEAVY`) takes and gives 16 bits; one
that may follow does so only behind such an operator, so that a value kept in fp32 (a mask of -1e9, a sum of
squares) is not cast down on the way to a Softmax; all else, subgraphs and wider types stay as they are;
a tensor that fp16 cannot hold, by its constants or its calibrated range, keeps its operator in fp32.
Leaves to others: the lists (`operators`), the check (`checked`).
"""

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from appliance.manifest import Precision
from compiler.opening.source import opset_of
from compiler.precision.calibration import Ranges
from compiler.precision.operators import (
    ELEMENT,
    FOLLOWING,
    HEAVY,
    captured,
    is_standard,
    tensor_types,
)
from compiler.precision.opsets import at_least

_LARGEST = {Precision.FP16: 65504.0, Precision.BF16: 3.3895313892515355e38}
_TYPE_NAME = {Precision.FP16: "tensor(float16)", Precision.BF16: "tensor(bfloat16)"}
_OPSET_BF16 = 22  # from which convolutions and pooling take bfloat16


def typed(
    model: onnx.ModelProto, precision: Precision, ranges: Ranges | None = None
) -> onnx.ModelProto:
    """`model`, a folded one, with 16-bit types; inputs and outputs keep theirs.

    Raises EngineBuild when the model cannot be written in the opset that bfloat16 needs.
    """
    if precision is Precision.BF16:
        model = at_least(model, _OPSET_BF16)
    lowering = _Lowering(model=model, precision=precision, ranges=ranges)
    for node in model.graph.node:
        lowering.take(node)
    return lowering.done()


@dataclass(slots=True, kw_only=True)
class _Lowering:
    """The new graph as it grows, node by node in order.

    `low` has the 16-bit name of each tensor that has one; `native` those that were computed so, under
    their old name only once `_widen` cast them back.
    """

    model: onnx.ModelProto
    precision: Precision
    ranges: Ranges | None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    low: dict[str, str] = field(default_factory=dict)
    native: set[str] = field(default_factory=set)
    widened: set[str] = field(default_factory=set)
    types: dict[str, int] = field(init=False)
    weights: dict[str, onnx.TensorProto] = field(init=False)
    opset: int = field(init=False)

    def __post_init__(self) -> None:
        self.types = tensor_types(self.model)
        self.weights = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self.opset = opset_of(self.model) or 1

    def take(self, node: onnx.NodeProto) -> None:
        """Add the node, in 16 bits or as it is, behind the casts that it needs."""
        if not self._lowers(node):
            for name in (*node.input, *captured(node)):
                self._widen(name)
            self.nodes.append(node)
            return
        inputs = [self._narrow(name) if self._is_fp32(name) else name for name in node.input]
        for name in node.output:
            if self._is_fp32(name):
                self.low[name] = self._fresh(name)
                self.native.add(name)
        outputs = [self.low.get(name, name) for name in node.output]
        lowered = onnx.NodeProto()
        lowered.CopyFrom(node)
        lowered.input[:], lowered.output[:] = inputs, outputs
        self.nodes.append(lowered)

    def done(self) -> onnx.ModelProto:
        """The model with the new nodes, and the weights that they use."""
        graph = self.model.graph
        for info in graph.output:
            self._widen(info.name)
        used = {name for node in self.nodes for name in (*node.input, *captured(node))}
        used |= {info.name for info in (*graph.input, *graph.output)}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend((*kept, *self.constants))
        return self.model

    def _lowers(self, node: onnx.NodeProto) -> bool:
        heavy = is_standard(node, HEAVY)
        if not heavy and not is_standard(node, FOLLOWING):
            return False
        values = [name for name in node.input if self._is_fp32(name)]
        outputs = [name for name in node.output if self._is_fp32(name)]
        if not values or not outputs or not self._schema_takes(node):
            return False
        if not all(self._fits(name) for name in (*values, *outputs)):
            return False
        if heavy:
            return True
        computed = [name for name in values if name not in self.weights]
        return bool(computed) and self.native.issuperset(computed)

    def _is_fp32(self, name: str) -> bool:
        return self.types.get(name) == TensorProto.FLOAT

    def _schema_takes(self, node: onnx.NodeProto) -> bool:
        """True when the operator's definition in this opset lets every fp32 input be of 16 bits."""
        schema = onnx.defs.get_schema(node.op_type, self.opset)
        allowed = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}
        for position, name in enumerate(node.input):
            if self._is_fp32(name):
                formal = schema.inputs[min(position, len(schema.inputs) - 1)]
                if _TYPE_NAME[self.precision] not in allowed.get(formal.type_str, ()):
                    return False
        return True

    def _fits(self, name: str) -> bool:
        """False when the type is known to overflow on this tensor."""
        if name in self.weights:
            values = np.abs(numpy_helper.to_array(self.weights[name]))
            return bool(np.all(values <= _LARGEST[self.precision]))
        found = self.ranges.tensors.get(name) if self.ranges else None
        return found is None or max(abs(found[0]), abs(found[1])) <= _LARGEST[self.precision]

    def _narrow(self, name: str) -> str:
        """The 16-bit name of an fp32 tensor, cast or converted the first time."""
        if name not in self.low:
            self.low[name] = self._fresh(name)
            if name in self.weights:
                self.constants.append(self._rounded(self.weights[name]))
            else:
                self._cast(name, self.low[name], ELEMENT[self.precision])
        return self.low[name]

    def _widen(self, name: str) -> None:
        """Make the tensor available in fp32 under its own name."""
        if name in self.native and name not in self.widened:
            self.widened.add(name)
            self._cast(self.low[name], name, TensorProto.FLOAT)

    def _cast(self, source: str, result: str, element: int) -> None:
        self.nodes.append(
            helper.make_node("Cast", [source], [result], f"cast:{result}", to=element)
        )

    def _rounded(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        dtype = helper.tensor_dtype_to_np_dtype(ELEMENT[self.precision])
        return numpy_helper.from_array(
            numpy_helper.to_array(tensor).astype(dtype), self.low[tensor.name]
        )

    def _fresh(self, name: str) -> str:
        fresh = f"{name}.{self.precision}"
        while fresh in self.types:
            fresh += "'"
        self.types[fresh] = ELEMENT[self.precision]
        return fresh
