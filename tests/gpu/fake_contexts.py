"""What the execution contexts of `fake_tensorrt` do.

Knows: what TensorRT wants before it runs: a profile that takes the shapes, an address for each tensor, memory for
activations. Rules: a context that lacks one refuses; results are ONNX Runtime's, and come when the stream comes to them.
Leaves to others: the engine (`fake_engines`).
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from tests.gpu.fake_types import NUMPY, dimensions

if TYPE_CHECKING:
    from tests.gpu.fake_engines import Engine
    from tests.gpu.fake_objects import World


class Context:
    """Shapes and addresses of one execution after another."""

    def __init__(self, world: "World", engine: "Engine", strategy: str) -> None:
        self.world, self.of, self.strategy = world, engine, strategy
        self.shapes: dict[str, tuple[int, ...]] = {
            name: dimensions(told)
            for name, told in engine.inputs.items()
            if -1 not in dimensions(told)
        }
        self.addresses: dict[str, int] = {}
        self.given = (0, 0)
        self.active_optimization_profile = 0
        self.error_recorder = engine.error_recorder
        self.name = ""
        self.nvtx_verbosity: Any = None
        world.alive.append("context")

    def __del__(self) -> None:
        self.world.alive.remove("context")

    @property
    def all_binding_shapes_specified(self) -> bool:
        """Whether every input has its shape."""
        return set(self.shapes) == set(self.of.inputs)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """Raises RuntimeError for one that there is not."""
        if self.world.profile_fails or not 0 <= profile_index < self.of.num_optimization_profiles:
            raise RuntimeError("Error in set optimization profile async.")
        self.active_optimization_profile = profile_index
        return True

    def set_input_shape(self, name: str, shape: Any) -> bool:
        """False, and a logged line, outside the profile."""
        sizes = tuple(int(size) for size in shape)
        low, _, high = self.of.get_tensor_profile_shape(name, self.active_optimization_profile)
        if len(sizes) != len(low) or not all(
            a <= b <= c for a, b, c in zip(low, sizes, high, strict=True)
        ):
            return self._refuse(
                f"Set dimension {list(sizes)} for tensor {name} does not satisfy any optimization profiles."
            )
        self.shapes[name] = sizes
        return True

    def infer_shapes(self) -> list[str]:
        """Names of inputs that have no shape yet. Raises RuntimeError when it fails, as the bindings do."""
        if self.world.inference_fails:
            raise RuntimeError("infer_shapes error code: -1")
        return [name for name in self.of.inputs if name not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """Of an output after its inputs have theirs; -1 for what depends on data."""
        if name in self.of.inputs:
            return self.shapes.get(name, self.of.get_tensor_shape(name))
        if not self.all_binding_shapes_specified:
            return self.of.get_tensor_shape(name)
        model = onnx.ModelProto()
        model.CopyFrom(self.of.model)
        for told in model.graph.input:
            for size, fixed in zip(
                told.type.tensor_type.shape.dim, self.shapes.get(told.name, ()), strict=False
            ):
                size.dim_value = fixed
        for told in model.graph.output:
            told.type.tensor_type.ClearField("shape")
        del model.graph.value_info[:]
        found = onnx.shape_inference.infer_shapes(model, data_prop=True)
        return next(dimensions(told) for told in found.graph.output if told.name == name)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """False for a tensor that there is not."""
        if name not in self.of.inputs and name not in self.of.outputs:
            return self._refuse(f"Given invalid tensor name: {name}.")
        self.addresses[name] = int(memory)
        return True

    def get_tensor_address(self, name: str) -> int:
        """0 when there is none."""
        return self.addresses.get(name, 0)

    def set_device_memory(self, memory: int, size: int) -> None:
        """Only a context without memory of its own takes it."""
        assert self.strategy == "USER_MANAGED", "this context has memory of its own"
        self.given = (int(memory), int(size))

    def update_device_memory_size_for_shapes(self) -> int:
        """Bytes that the set shapes want; 0 also when it fails."""
        told = self.world.shapes_want
        return self.world.activation_bytes if told is None else told

    def execute_async_v3(self, stream_handle: int) -> bool:
        """False, and a logged line, when something is missing."""
        names = [*self.of.inputs, *self.of.outputs]
        if self.world.run_fails is not None:
            return self._refuse(self.world.run_fails)
        if not self.all_binding_shapes_specified:
            return self._refuse("Not all shapes are specified.")
        if missing := [name for name in names if not self.addresses.get(name)]:
            return self._refuse(f"Address is not set for {missing}.")
        if self.strategy == "USER_MANAGED" and self.given[1] < self.world.activation_bytes:
            return self._refuse(
                f"{self.given[1]} bytes of device memory, {self.world.activation_bytes} needed."
            )
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        self.world.enqueue(int(stream_handle), lambda: self._run(shapes, addresses))
        return True

    def _run(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        arrays = {
            name: self._array(name, addresses[name], shapes[name]).copy() for name in self.of.inputs
        }
        for name, value in self.of.computed(arrays).items():
            self._array(name, addresses[name], value.shape)[...] = value

    def _array(self, name: str, pointer: int, shape: tuple[int, ...]) -> Any:
        kind = np.dtype(NUMPY[self.of.get_tensor_dtype(name).name])
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        return np.frombuffer(self.world.memory(pointer, size), kind).reshape(shape)

    def _refuse(self, text: str) -> bool:
        self.world.fail(self.of.runtime.logger, self.error_recorder, text, "INVALID_ARGUMENT")
        return False
