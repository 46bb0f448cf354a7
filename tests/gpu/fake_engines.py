"""What the engines, contexts, inspectors and refitters of `fake_tensorrt` do.

Knows: plans as bytes that name release and GPU; shapes, addresses and memory that a context wants before it runs.
Rules: a plan of elsewhere gives None and a logged line, as the library does; a context that lacks an address or its
memory refuses; results are ONNX Runtime's. Leaves to others: building (`fake_objects`).
"""

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from tests.gpu import fake_contexts, fake_layers
from tests.gpu.fake_types import data_type, dimensions

if TYPE_CHECKING:
    from tests.gpu.fake_objects import World

MAGIC = b"FAKEPLAN"


class Plan(msgspec.Struct, kw_only=True):
    """What the fake keeps of a build."""

    release: str
    version: str
    gpu: str
    capability: tuple[int, int]
    compatibility: str
    flags: list[str]
    profiles: list[dict[str, list[tuple[int, ...]]]]
    verbosity: str
    typed: bool
    arithmetic: str | None
    onnx: bytes
    linear: bool = False  # that inputs and outputs lie as arrays do

    def as_bytes(self) -> bytes:
        """The plan; a stripped one holds no weights."""
        kept = (
            msgspec.structs.replace(self, onnx=_stripped(self.onnx))
            if "STRIP_PLAN" in self.flags
            else self
        )
        body = msgspec.msgpack.encode(kept)
        return MAGIC + hashlib.sha256(body).digest() + body


def _stripped(model: bytes) -> bytes:
    read = onnx.load_model_from_string(model)
    for weight in read.graph.initializer:
        if (
            np.prod(weight.dims, dtype=np.int64) > 16
        ):  # shapes and scalars are kept, as they shape the engine
            weight.CopyFrom(
                numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(weight)), weight.name)
            )
    return bytes(read.SerializeToString())


class Runtime:
    """Loads plans."""

    def __init__(self, world: "World", logger: Any) -> None:
        self.world, self.logger = world, logger
        self.error_recorder: Any = None
        self.engine_host_code_allowed = False
        self.gpu_allocator: Any = None
        self.max_threads = 1

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        """An engine, or None after an error was logged."""
        data = bytes(serialized_engine)
        body = data[len(MAGIC) + 32 :]
        if data[: len(MAGIC)] != MAGIC or hashlib.sha256(body).digest() != data[len(MAGIC) :][:32]:
            return self._refuse("Serialization assertion magicTagRead == kMAGIC_TAG failed.")
        plan = msgspec.msgpack.decode(body, type=Plan)
        compatible = "VERSION_COMPATIBLE" in plan.flags
        if compatible and not self.engine_host_code_allowed:
            return self._refuse(
                "Cannot deserialize engine with lean runtime: engine_host_code_allowed is False."
            )
        if self.world.lean and not compatible:
            return self._refuse("Unexpected call to stub loadRunner for ReformatRunner.")
        same = plan.version == self.world.version
        if not same and not (
            compatible and plan.version.split(".")[0] == self.world.version.split(".")[0]
        ):
            return self._refuse(
                f"The engine plan file is not compatible with this version of TensorRT, expecting library version "
                f"{self.world.version} got {plan.version}, please rebuild."
            )
        if plan.compatibility == "NONE" and plan.capability != self.world.capability:
            return self._refuse(
                f"The engine plan file is generated on an incompatible device, expecting compute "
                f"{self.world.capability} got compute {plan.capability}, please rebuild."
            )
        engine = Engine(self.world, plan, self)
        if engine.at == 0:
            return self._refuse(
                "Requested amount of GPU memory could not be allocated: OutOfMemory"
            )
        return self.world.make("ICudaEngine", engine)

    def _refuse(self, text: str) -> None:
        self.world.fail(self.logger, self.error_recorder, text)


class Engine:
    """A loaded plan; its weights lie in memory of the allocator, where there is one."""

    def __init__(self, world: "World", plan: Plan, runtime: Runtime) -> None:
        self.world, self.plan, self.runtime = world, plan, runtime
        self.model = onnx.load_model_from_string(plan.onnx)
        self.error_recorder = runtime.error_recorder
        self.name = self.model.graph.name
        self.refitted = "STRIP_PLAN" not in plan.flags
        weights = {one.name for one in self.model.graph.initializer}
        self.inputs = {one.name: one for one in self.model.graph.input if one.name not in weights}
        self.outputs = {one.name: one for one in self.model.graph.output}
        self.weights = sum(
            numpy_helper.to_array(one).nbytes for one in self.model.graph.initializer
        )
        self.session: Any = None
        allocator = runtime.gpu_allocator
        self.at = allocator.allocate(self.weights, 256, 0) if allocator and self.weights else None
        world.alive.append("engine")

    def __del__(self) -> None:
        self.world.alive.remove("engine")
        if self.at:
            self.runtime.gpu_allocator.deallocate(self.at)

    @property
    def num_io_tensors(self) -> int:
        """Inputs and outputs."""
        return len(self.inputs) + len(self.outputs)

    @property
    def num_layers(self) -> int:
        """As many as the graph has nodes: the fake fuses nothing."""
        return len(self.model.graph.node)

    @property
    def num_optimization_profiles(self) -> int:
        """One at least."""
        return max(len(self.plan.profiles), 1)

    @property
    def refittable(self) -> bool:
        """As built."""
        return bool({"REFIT", "REFIT_IDENTICAL"} & set(self.plan.flags))

    @property
    def device_memory_size_v2(self) -> int:
        """Activations of the largest shapes, bytes."""
        return self.world.activation_bytes

    @property
    def profiling_verbosity(self) -> Any:
        """As built."""
        return self.world.member("ProfilingVerbosity", self.plan.verbosity)

    @property
    def hardware_compatibility_level(self) -> Any:
        """As built."""
        return self.world.member("HardwareCompatibilityLevel", self.plan.compatibility)

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        """As `device_memory_size_v2`."""
        return self.world.activation_bytes

    def get_engine_stat(self, stat: Any = None) -> int:
        """Bytes of weights."""
        return self.weights

    def get_tensor_name(self, index: int) -> str:
        """Inputs first."""
        return [*self.inputs, *self.outputs][index]

    def get_tensor_mode(self, name: str) -> Any:
        """NONE for what there is not."""
        mode = "INPUT" if name in self.inputs else "OUTPUT" if name in self.outputs else "NONE"
        return self.world.member("TensorIOMode", mode)

    def get_tensor_dtype(self, name: str) -> Any:
        """Its type."""
        return data_type(self.world, self._told(name).type.tensor_type.elem_type)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """-1 for what is not fixed."""
        return dimensions(self._told(name))

    def get_tensor_location(self, name: str) -> Any:
        """The fake has no shape tensors."""
        return self.world.member("TensorLocation", "DEVICE")

    def get_tensor_format(self, name: str, profile_index: int = 0) -> Any:
        """Of the library's choice, unless the network says what is allowed."""
        return self.world.member("TensorFormat", "LINEAR" if self.plan.linear else "HWC8")

    def is_shape_inference_io(self, name: str) -> bool:
        """The fake has no shape tensors."""
        return False

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        """Lowest, best and highest; what is fixed three times."""
        told = self.plan.profiles[profile_index].get(name) if self.plan.profiles else None
        return told or [dimensions(self._told(name))] * 3

    def create_execution_context(self, strategy: Any = None, runtime_config: Any = None) -> Any:
        """A context, or None after an error was logged."""
        if not self.refitted:
            self.world.fail(
                self.runtime.logger, self.error_recorder,
                "The engine has stripped weights: refit it before creating an execution context.", "INVALID_STATE",
            )  # fmt: skip
            return None
        kind = strategy.name if strategy is not None else "STATIC"
        return self.world.make("IExecutionContext", fake_contexts.Context(self.world, self, kind))

    def create_engine_inspector(self) -> Any:
        """What tells of the layers."""
        return self.world.make("EngineInspector", fake_layers.Inspector(self))

    def serialize(self) -> Any:
        """A plan again: with the weights that it has now, unless it came from a plan without."""
        return self._serialized(stripped="STRIP_PLAN" in self.plan.flags)

    def create_serialization_config(self) -> Any:
        """What to write: without weights by default when the engine came from a plan without."""
        return self.world.make("ISerializationConfig", SerializationConfig(self.plan))

    def serialize_with_config(self, arg0: Any) -> Any:
        """A plan again, with weights or without."""
        return self._serialized(stripped="EXCLUDE_WEIGHTS" in arg0._does.names)

    def _serialized(self, *, stripped: bool) -> Any:
        flags = set(self.plan.flags) - {"STRIP_PLAN"} | ({"STRIP_PLAN"} if stripped else set())
        plan = msgspec.structs.replace(
            self.plan, onnx=self.model.SerializeToString(), flags=sorted(flags)
        )
        return self.world.host(plan.as_bytes())

    def _told(self, name: str) -> onnx.ValueInfoProto:
        return self.inputs.get(name) or self.outputs[name]

    def computed(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """The model's outputs, by ONNX Runtime."""
        import onnxruntime

        if self.session is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self.session = onnxruntime.InferenceSession(
                self.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        return dict(zip(self.outputs, self.session.run(list(self.outputs), arrays), strict=True))


class SerializationConfig:
    """What of an engine is written."""

    def __init__(self, plan: Plan) -> None:
        self.names = {"EXCLUDE_WEIGHTS"} if "STRIP_PLAN" in plan.flags else set[str]()

    def set_flag(self, flag: Any) -> bool:
        """Set it."""
        self.names.add(flag.name)
        return True

    def clear_flag(self, flag: Any) -> bool:
        """Clear it."""
        self.names.discard(flag.name)
        return True

    def get_flag(self, flag: Any) -> bool:
        """Whether it is set."""
        return flag.name in self.names
