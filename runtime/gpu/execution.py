"""Running an engine's plan on a device: what the owner's lanes ask of it, and TensorRT behind that.

Knows: how a plan is loaded, what memory a run wants, and in which order a context takes shapes, memory and addresses.
Rules: a plan may be loaded on a thread that has entered the device, all else is its own thread's; a context serves one
lane and one set of input shapes for its life, because a CUDA graph that was captured from it holds for those only;
activations lie in memory that the lane lends, so that contexts which never run at the same time share it; a plan that
TensorRT refuses is an error with TensorRT's own words. Leaves to others: streams, memory and graphs (`lane`), what the
file says (`engine_file`), the library (`tensorrt_library`).
"""

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from appliance.errors import EngineLoad, GpuError
from runtime.gpu.device import Device, Handle, Pointer
from runtime.gpu.engine_file import Buffer, Header
from runtime.gpu.tensorrt_library import (
    Allocator,
    Log,
    builds,
    created_runtime,
    failure,
    library,
    log_of,
    new_allocator,
)

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]  # by tensor, with rows in front


class Context(Protocol):
    """An engine made ready for one lane and one set of input shapes."""

    @property
    def activation_bytes(self) -> int:
        """The device memory that a run of these shapes wants."""

    def lend(self, memory: Pointer, size: int) -> None:
        """Memory for activations, aligned to 256 bytes; nobody else uses it while this context runs."""

    def enqueue(self, addresses: Mapping[str, Pointer], stream: Handle) -> None:
        """Queue one run on `stream`; every input and output has its address. May be captured after the first time.

        Raises GpuError.
        """

    def close(self) -> None:
        """Give back what the context holds; graphs that were captured from it are not used afterwards."""


class Execution(Protocol):
    """An engine that is loaded on a device."""

    def shapes(self, inputs: Shapes) -> dict[str, tuple[int, ...]]:
        """The shapes of the outputs. Raises GpuError for inputs that the engine was not built for."""

    def context(self, inputs: Shapes) -> Context:
        """Make ready for these shapes. Raises GpuError."""

    def close(self) -> None:
        """Free the engine, after its contexts."""


def open_execution(device: Device, plan: Buffer, header: Header) -> Execution:
    """Load `plan` with TensorRT. Raises EngineLoad, GpuMemory, GpuUnusable.

    The plan's bytes are not used afterwards.
    """
    trt = library()
    if not builds(trt) and not header.version_compatible:
        raise EngineLoad(
            "TensorRT's lean runtime runs version compatible plans only, and this is none",
            remedy="set version_compatible in [build.gpu] and build the bundle again, or install the complete TensorRT",
        )
    log = log_of(trt)
    allocator = new_allocator(trt, device)
    with log.heard() as heard:
        runtime = created_runtime(trt, device)
        runtime.gpu_allocator = allocator
        # Only a plan that carries its own runtime asks for this; it is code, from a bundle whose signature was checked.
        runtime.engine_host_code_allowed = header.version_compatible
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        del runtime  # before the allocator, which it still knows
        raise failure(
            "TensorRT does not load the plan",
            heard,
            kind=EngineLoad,
            allocator=allocator,
            remedy="build the bundle again on this box; a plan fits only the TensorRT and the GPU that built it",
        )
    return TensorRTExecution(trt, device, runtime, engine, allocator)


class TensorRTExecution:
    """See Execution."""

    def __init__(
        self, trt: Any, device: Device, runtime: Any, engine: Any, allocator: "Allocator"
    ) -> None:
        self._trt, self._device, self._allocator = trt, device, allocator
        # TensorRT wants its runtime to outlive what it loaded.
        self._runtime, self._engine = runtime, engine
        self._log: Log = log_of(trt)
        names = [engine.get_tensor_name(at) for at in range(engine.num_io_tensors)]
        into = trt.TensorIOMode.INPUT
        self.inputs = tuple(name for name in names if engine.get_tensor_mode(name) == into)
        self.outputs = tuple(name for name in names if name not in self.inputs)
        self._asked: Any = None  # a context of which only shapes are asked

    def shapes(self, inputs: Shapes) -> dict[str, tuple[int, ...]]:
        """See Execution."""
        if self._asked is None:
            self._asked = self._created()
        with self._log.heard() as heard:
            self._select(self._asked, inputs)
            self._set(self._asked, inputs)
            found = {
                name: tuple(int(size) for size in self._asked.get_tensor_shape(name))
                for name in self.outputs
            }
        for name, shape in found.items():
            if any(size < 0 for size in shape):
                raise failure(f"the shape of output '{name}' depends on the data", heard)
        return found

    def context(self, inputs: Shapes) -> "TensorRTContext":
        """See Execution."""
        created = self._created()
        profile = self._select(created, inputs)
        self._set(created, inputs)
        # 0 says that it failed, or that these shapes want none; where others of the profile do, a run without
        # any is refused all the same ("noDeviceMemory"). The bound of the profile is right for both.
        size = int(
            created.update_device_memory_size_for_shapes()
            or self._engine.get_device_memory_size_for_profile_v2(profile)
        )
        return TensorRTContext(created, (*self.inputs, *self.outputs), size, self._log)

    def close(self) -> None:
        """See Execution."""
        # In this order: contexts before the engine, the engine before its runtime.
        self._asked = None
        self._engine = None
        self._runtime = None

    def _created(self) -> Any:
        """A context without activation memory."""
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        with self._log.heard() as heard:
            created = self._engine.create_execution_context(strategy)
        if created is None:
            raise failure("TensorRT makes no execution context", heard, allocator=self._allocator)
        return created

    def _select(self, context: Any, inputs: Shapes) -> int:
        """Choose the first optimisation profile that takes these shapes, and tell which."""
        for profile in range(self._engine.num_optimization_profiles):
            if all(self._takes(profile, name, shape) for name, shape in inputs.items()):
                break
        else:
            raise GpuError(
                f"the engine was not built for inputs of shapes {dict(inputs)}",
                remedy="send shapes within the model's ranges, or build with wider ones",
            )
        stream = self._device.stream()
        try:
            with self._log.heard() as heard:
                context.set_optimization_profile_async(profile, stream)
            self._device.synchronise(stream)
        except RuntimeError as error:  # what the bindings make of its False
            raise failure(f"TensorRT does not take profile {profile} ({error})", heard) from error
        finally:
            self._device.drop_stream(stream)
        return profile

    def _takes(self, profile: int, name: str, shape: tuple[int, ...]) -> bool:
        fixed = tuple(self._engine.get_tensor_shape(name))
        if -1 not in fixed:  # a profile need not tell of it
            return fixed == shape
        low, _, high = self._engine.get_tensor_profile_shape(name, profile)
        ranges = zip(low, shape, high, strict=False)
        return len(low) == len(shape) and all(a <= size <= b for a, size, b in ranges)

    def _set(self, context: Any, inputs: Shapes) -> None:
        with self._log.heard() as heard:
            for name, shape in inputs.items():
                if not context.set_input_shape(name, tuple(shape)):
                    raise failure(f"TensorRT does not take shape {shape} of '{name}'", heard)
            try:
                missing = context.infer_shapes()
            except RuntimeError as error:  # what the bindings make of its -1
                what = f"TensorRT finds no shapes for inputs of {dict(inputs)} ({error})"
                raise failure(what, heard) from error
            if missing:
                raise failure(f"inputs {sorted(missing)} have no shape", heard)


class TensorRTContext:
    """See Context."""

    def __init__(self, context: Any, tensors: tuple[str, ...], size: int, log: Log) -> None:
        self._context: Any = context
        self._tensors, self._log = tensors, log
        self.activation_bytes = size

    def lend(self, memory: Pointer, size: int) -> None:
        """See Context."""
        assert size >= self.activation_bytes, "the lane lends what activations want"
        self._context.set_device_memory(memory, size)

    def enqueue(self, addresses: Mapping[str, Pointer], stream: Handle) -> None:
        """See Context."""
        context = self._context
        with self._log.heard() as heard:
            placed = all(
                context.set_tensor_address(name, addresses[name]) for name in self._tensors
            )
            if not placed or not context.execute_async_v3(stream):
                raise failure("TensorRT did not run the engine", heard)

    def close(self) -> None:
        """See Context."""
        self._context = None
