"""What `fake_tensorrt` tells of an engine's layers, and how it gives them new weights.

Knows: the inspector's JSON, and the refitter's refusals. Rules: a layer is a node of the graph, but for Q/DQ nodes, which
TensorRT takes into the layers beside them. Leaves to others: the engine (`fake_engines`).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from tests.gpu.fake_types import FORMATS, TYPES

if TYPE_CHECKING:
    from tests.gpu.fake_engines import Engine
    from tests.gpu.fake_objects import World


class Inspector:
    """Layers as JSON, a layer a node."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.execution_context: Any = None

    def get_engine_information(self, format: Any) -> str:  # noqa: A002 - the library's name
        """All layers; only their names unless the plan was built with DETAILED."""
        plan = self.engine.plan
        found = onnx.shape_inference.infer_shapes(self.engine.model, data_prop=True).graph
        types = {
            one.name: one.type.tensor_type.elem_type
            for one in (*found.value_info, *found.input, *found.output)
        }
        types |= {one.name: one.data_type for one in found.initializer}

        producers = {one: node for node in found.node for one in node.output}

        def tensor(name: str, *, fused: bool) -> dict[str, object]:
            """As an operand of a layer; a layer that computes in INT8 has taken DequantizeLinear into itself."""
            maker = producers.get(name)
            if fused and maker is not None and maker.op_type == "DequantizeLinear":
                name = maker.input[0]
            own = TYPES.get(types.get(name, onnx.TensorProto.FLOAT), "FLOAT")
            floating = own in ("FLOAT", "HALF", "BF16")
            told = (plan.arithmetic or own if plan.typed else "FLOAT") if floating else own
            return {
                "Name": name,
                "Location": "Device",
                "Dimensions": [],
            } | _typed(told, self.engine.world.release)

        weights = {one.name for one in found.initializer}
        layers: list[object] = []
        for number, node in enumerate(found.node):
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                continue
            name = node.name or f"{node.op_type}_{number}"
            fused = node.op_type in ("Conv", "MatMul", "Gemm")
            if plan.verbosity != "DETAILED":
                layers.append(name)
                continue
            layers.append({
                "Name": name, "LayerType": node.op_type,
                "Inputs": [tensor(one, fused=fused) for one in node.input if one and one not in weights],
                "Outputs": [tensor(one, fused=False) for one in node.output],
                "TacticName": f"fake_{node.op_type.lower()}_tactic", "StreamId": 0,
                "Metadata": f"[ONNX Layer: {name}]",
            })  # fmt: skip
        names = [*self.engine.inputs, *self.engine.outputs]
        if self.engine.world.release.startswith("10"):
            return json.dumps({"Layers": layers, "Bindings": names})
        return json.dumps({"Layers": layers, "I/O Tensors": [{"Name": name} for name in names]})

    def get_layer_information(self, layer_index: int, format: Any) -> str:  # noqa: A002 - as above
        """One of them."""
        return json.dumps(json.loads(self.get_engine_information(format))["Layers"][layer_index])


def _typed(told: str, release: str) -> dict[str, str]:
    """How a tensor's type is told: in one field by 10.x, in two by 11."""
    short, long = FORMATS[told]
    if release.startswith("10"):
        return {"Format/Datatype": long if release == "10.3" else short}
    return {"DataType": short, "Format": "Row major linear format (kLINEAR)"}


class Refitter:
    """Gives an engine new weights."""

    def __init__(self, world: "World", engine: Any, logger: Any) -> None:
        assert engine._does.refittable, "the engine was not built to be refitted"
        self.world, self.engine, self.logger = world, engine._does, logger
        self.error_recorder: Any = None
        self.max_threads = 1
        self.weights_validation = True
        self.new: dict[str, Any] = {}

    def get_all_weights(self) -> list[str]:
        """Names."""
        return [one.name for one in self.engine.model.graph.initializer]

    def get_missing_weights(self) -> list[str]:
        """Names of those that a stripped engine lacks still."""
        return (
            []
            if self.engine.refitted
            else [one for one in self.get_all_weights() if one not in self.new]
        )

    def set_named_weights(self, name: str, weights: Any, location: Any = None) -> bool:
        """False when there are none of that name, or others."""
        known = {one.name: tuple(one.dims) for one in self.engine.model.graph.initializer}
        array = weights._does.array
        if name not in known or int(np.prod(known[name], dtype=np.int64)) != array.size:
            return False
        self.new[name] = array.reshape(known[name])
        return True

    def refit_cuda_engine(self) -> bool:
        """False, and a logged line, when weights are missing."""
        if self.world.refit_fails is not None or self.get_missing_weights():
            text = self.world.refit_fails or f"missing weights {self.get_missing_weights()}"
            self.world.fail(self.logger, self.error_recorder, text)
            return False
        for one in self.engine.model.graph.initializer:
            if one.name in self.new:
                one.CopyFrom(numpy_helper.from_array(self.new[one.name], one.name))
        self.engine.refitted, self.engine.session = True, None
        return True


class OnnxParserRefitter:
    """Takes the weights from a model."""

    def __init__(self, world: "World", refitter: Any, logger: Any) -> None:
        self.world, self.refitter, self.logger = world, refitter._does, logger
        self.num_errors = 0
        self.text = ""

    def refit_from_file(self, model: str) -> bool:
        """As `refit_from_bytes`."""
        return self.refit_from_bytes(Path(model).read_bytes())

    def refit_from_bytes(self, model: Any, path: str | None = None) -> bool:
        """False, and an error, when the model is another one."""
        read = onnx.load_model_from_string(bytes(model))
        mine = self.refitter.engine.model.graph
        if [node.op_type for node in read.graph.node] != [node.op_type for node in mine.node]:
            self.num_errors, self.text = (
                1,
                "the graph is not the one that the engine was built from",
            )
            return False
        for one in read.graph.initializer:
            self.refitter.new[one.name] = numpy_helper.to_array(one)
        return True

    def clear_errors(self) -> None:
        """Forget them."""
        self.num_errors = 0

    def get_error(self, index: int) -> Any:
        """The one."""
        from tests.gpu.fake_parsing import ParserError

        return self.world.make(
            "ParserError", ParserError(self.world, "REFIT_FAILED", self.text, -1)
        )
