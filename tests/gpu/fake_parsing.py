"""What networks and the ONNX parser of `fake_tensorrt` do.

Knows: how the parser tells what it refuses. Rules: a network is the model that was parsed into it. Leaves to others: plans
(`fake_building`), which operators are refused (`fake_objects`).
"""

from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from tests.gpu.fake_objects import World
from tests.gpu.fake_types import data_type, dimensions


class Network:
    """What the parser fills."""

    def __init__(self, world: World, typed: bool) -> None:
        self.world, self.typed = world, typed
        self.model: onnx.ModelProto | None = None
        self.name = ""
        self._tensors: dict[str, Tensor] = {}

    @property
    def linear(self) -> bool:
        """Whether every input and output may lie as arrays do, and in no other way."""
        formats = {tensor.allowed_formats for tensor in self._tensors.values()}
        asked = {
            told.name
            for told in (*self._inputs(), *(self.model.graph.output if self.model else ()))
        }
        alone = 1 << int(self.world.member("TensorFormat", "LINEAR"))
        return asked == set(self._tensors) and formats == {alone}

    @property
    def num_inputs(self) -> int:
        """How many."""
        return len(self._inputs())

    @property
    def num_outputs(self) -> int:
        """How many."""
        return len(self.model.graph.output) if self.model else 0

    @property
    def num_layers(self) -> int:
        """How many."""
        return len(self.model.graph.node) if self.model else 0

    def get_flag(self, flag: Any) -> bool:
        """Of creation."""
        return flag.name == "STRONGLY_TYPED" and self.typed

    def get_input(self, index: int) -> Any:
        """An input."""
        return self._shown(self._inputs()[index])

    def get_output(self, index: int) -> Any:
        """An output."""
        assert self.model is not None
        return self._shown(self.model.graph.output[index])

    def _shown(self, told: onnx.ValueInfoProto) -> Any:
        tensor = self._tensors.setdefault(told.name, Tensor(self.world, told))
        return self.world.make("ITensor", tensor)

    def _inputs(self) -> list[onnx.ValueInfoProto]:
        if self.model is None:
            return []
        weights = {one.name for one in self.model.graph.initializer}
        return [one for one in self.model.graph.input if one.name not in weights]


class Tensor:
    """An input or output of a network."""

    def __init__(self, world: World, told: onnx.ValueInfoProto) -> None:
        self.name, self.shape = told.name, dimensions(told)
        self.dtype = data_type(world, told.type.tensor_type.elem_type)
        self.is_shape_tensor = False  # the fake has none
        self.allowed_formats = (1 << 13) - 1  # all that there are


class OnnxParser:
    """Reads ONNX, and tells all that it refuses."""

    def __init__(self, world: World, network: Any, logger: Any) -> None:
        self.world, self.network, self.logger = world, network._does, logger
        self.errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        """How many."""
        return len(self.errors)

    def get_error(self, index: int) -> Any:
        """One of them."""
        return self.world.make("ParserError", self.errors[index])

    def clear_errors(self) -> None:
        """Forget them."""
        self.errors.clear()

    def parse_from_file(self, model: str) -> bool:
        """As `parse`."""
        return self.parse(Path(model).read_bytes())

    def parse(self, model: Any, path: str | None = None) -> bool:
        """False when there are errors."""
        try:
            read = onnx.load_model_from_string(bytes(model))
        except DecodeError:
            self.errors.append(
                ParserError(
                    self.world, "MODEL_DESERIALIZE_FAILED", "Failed to parse the model.", -1
                )
            )
            return False
        for number, node in enumerate(read.graph.node):
            if node.op_type in self.world.refusals:
                text = self.world.refusals[node.op_type]
                self.errors.append(
                    ParserError(
                        self.world,
                        "UNSUPPORTED_NODE",
                        text,
                        number,
                        name=node.name,
                        operator=node.op_type,
                    )
                )
        for error in self.errors:
            self.world.log(self.logger, "ERROR", f"In node {error.at} ({error.text})")
        self.network.model = read
        return not self.errors


class ParserError:
    """What the parser says of one node."""

    def __init__(
        self,
        world: World,
        code: str,
        text: str,
        at: int = -1,
        *,
        name: str = "",
        operator: str = "",
    ) -> None:
        self.kind = world.member("ErrorCode", code)
        self.text, self.at, self.name, self.operator = text, at, name, operator

    def code(self) -> Any:
        """Of ErrorCode."""
        return self.kind

    def desc(self) -> str:
        """In words."""
        return self.text

    def node(self) -> int:
        """Its number in the graph, -1 for none."""
        return self.at

    def node_name(self) -> str:
        """Its name, which may be empty."""
        return self.name

    def node_operator(self) -> str:
        """Its operator."""
        return self.operator

    def file(self) -> str:
        """Of the parser's source."""
        return "ModelImporter.cpp"

    def func(self) -> str:
        """Of the parser's source."""
        return "parseNode"

    def line(self) -> int:
        """Of the parser's source."""
        return 1
