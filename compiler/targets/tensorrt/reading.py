"""A plan read back: loaded as it will be served, and asked what it is.

Knows: what must hold of a plan before it is kept. Rules: shapes of results follow from shapes of inputs; the layers
that matter compute in what was asked for, by the inspector's account of them at the shapes that are served; memory
is what the engine itself says. Leaves to others: how layers are read (`inspected`), the judgement
(`compiler.precision.arithmetic`), running it (`compiler.proving`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.errors import EngineBuild
from appliance.manifest import Precision
from appliance.proof import Inspected, InspectedLayer
from compiler.targets.tensorrt.inspected import TF32, layers_of, seen, summary
from compiler.targets.tensorrt.network import DATATYPES, LIBRARY
from compiler.targets.tensorrt.shapes import Range
from runtime.gpu.tensorrt_library import Heard, OnGpu, created_runtime, failure, log_of

if TYPE_CHECKING:
    from compiler.opening.source import Source

_NAMED_MAX = 3


@dataclass(slots=True)
class Loaded:
    """An engine with the runtime that it came from, which TensorRT wants to outlive it."""

    trt: Any
    runtime: Any
    engine: Any

    def close(self) -> None:
        """Free both, the engine first."""
        self.engine = None
        self.runtime = None


def loaded(trt: Any, gpu: OnGpu, plan: bytes, *, host_code: bool = False) -> Loaded:
    """The engine of `plan`, which carries code for the host only if that is said. Raises EngineBuild, GpuMemory."""
    with log_of(trt).heard() as heard:
        runtime = created_runtime(trt, gpu)
        runtime.engine_host_code_allowed = host_code
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise failure("TensorRT does not load the plan that it built", heard, kind=EngineBuild)
    return Loaded(trt, runtime, engine)


def tensors_of(engine: Loaded) -> dict[str, dict[str, str]]:
    """The engine's own tensors, "inputs" and "outputs": each name with the protocol's word for its type."""
    trt, of = engine.trt, engine.engine
    found: dict[str, dict[str, str]] = {"inputs": {}, "outputs": {}}
    for at in range(of.num_io_tensors):
        name = of.get_tensor_name(at)
        entering = of.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        datatype = DATATYPES[of.get_tensor_dtype(name).name]
        found["inputs" if entering else "outputs"][name] = datatype.value
    return found


def read_back(
    engine: Loaded,
    plan: bytes,
    source: "Source",
    precision: Precision,
    ranges: Mapping[str, Range],
    *,
    tf32: bool,
) -> Inspected:
    """What the engine of `plan` says of itself.

    `tf32` says that fp32 may be rounded so. Raises EngineBuild when it computes in another precision than the
    lowered `source` asks for, or when shapes of its outputs depend on values.
    """
    # onnx is imported where something is compiled, not where the targets are only listed.
    from compiler.precision.arithmetic import (  # noqa: PLC0415
        Computed,
        arithmetic_of,
        check_arithmetic,
    )

    with log_of(engine.trt).heard() as heard:
        text = _told(engine, ranges, heard)
    layers = layers_of(text)
    found = seen(layers, arithmetic_of(source), _names(source))
    if not tf32:
        _check_tf32(found)
    computed = [
        Computed(operator=item.operator, name=item.name, precision=_precision(item.precision))
        for item in found
    ]
    check_arithmetic(LIBRARY, computed, source, precision)
    return summary(
        f"{LIBRARY} {engine.trt.__version__}",
        layers,
        found,
        plan_bytes=len(plan),
        activation_bytes=int(engine.engine.device_memory_size_v2),
    )


def _told(engine: Loaded, ranges: Mapping[str, Range], heard: Heard) -> str:
    """The inspector's JSON at the shapes that are served best, which are asked for along the way."""
    trt, of = engine.trt, engine.engine
    # Without shapes the inspector says of tensors with open axes "N/A due to dynamic shapes".
    context = of.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    if context is None:
        raise failure("TensorRT makes no execution context", heard, kind=EngineBuild)
    for name, item in ranges.items():
        if not context.set_input_shape(name, item.best):
            raise failure(
                f"TensorRT does not take {item.best} for '{name}'", heard, kind=EngineBuild
            )
    try:
        context.infer_shapes()
    except RuntimeError as error:  # what the bindings make of its -1
        raise failure(
            f"TensorRT finds no shapes of results for inputs as they are served ({error})",
            heard,
            kind=EngineBuild,
            remedy="export the model with open axes: a Reshape holds the rows of the example that it was traced with",
        ) from error
    for at in range(of.num_io_tensors):
        name = of.get_tensor_name(at)
        if -1 in tuple(context.get_tensor_shape(name)):
            raise EngineBuild(
                f"the shape of '{name}' depends on values, which a GPU knows only when it is done",
                remedy="end the model before that, and leave it to the recipe's after-steps",
            )
    inspector = of.create_engine_inspector()
    if inspector is None:
        raise failure("TensorRT tells nothing of the plan", heard, kind=EngineBuild)
    inspector.execution_context = context
    text = str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    del inspector  # before the context, which the bindings do not keep for it
    return text


def _names(source: "Source") -> frozenset[str]:
    """Every node, as TensorRT's parser calls it."""
    nodes = source.model.graph.node
    return frozenset(node.name or f"node_of_{node.output[0]}" for node in nodes if node.output)


def _precision(shown: str) -> Precision:
    return Precision.FP32 if shown == TF32 else Precision(shown)


def _check_tf32(found: Sequence[InspectedLayer]) -> None:
    rounded = [item for item in found if item.precision == TF32]
    if rounded:
        named = ", ".join(f"'{item.name}'" for item in rounded[:_NAMED_MAX])
        raise EngineBuild(
            f"{LIBRARY} computes {len(rounded)} layers in TF32, not in fp32: {named}",
            remedy="set tf32 = true in [build.gpu] to allow it",
        )
