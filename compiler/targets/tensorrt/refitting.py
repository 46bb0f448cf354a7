"""New weights for an earlier plan: what a bundle of the same graph gets in place of a build.

Knows: what makes two graphs the same but for their weights, and how a plan without weights gets them. Rules: a
structure is everything that the plan depends on but the values of floating-point weights; a refit that leaves a
weight without a value is an error; what comes out is read back and proven like what was built, for a refit can
lose a bias without a word (TensorRT 11.3). Leaves to others: finding the earlier plan (`compiler.compiling.cache`).

Sources: developer guide, "Refitting an Engine" and "Weight-Stripped Engines" (a plan that was stripped leaves its
weights out again unless EXCLUDE_WEIGHTS is cleared).
"""

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from appliance.errors import EngineBuild
from appliance.tables import canonical_json
from compiler.targets.tensorrt.reading import loaded
from runtime.gpu.tensorrt_library import OnGpu, created_refitter, failure, log_of

if TYPE_CHECKING:
    from compiler.opening.source import Source

# Element types of ONNX (TensorProto.DataType) whose values may be weights: FLOAT, FLOAT16, BFLOAT16.
_FLOATING = (1, 10, 16)
# Operators that use their constants as numbers; others, such as Resize, shape the engine by them.
_WEIGHED = frozenset(
    {
        "Add", "BatchNormalization", "Conv", "ConvTranspose", "Div", "GRU", "Gather", "Gemm",
        "GroupNormalization", "InstanceNormalization", "LSTM", "LayerNormalization", "MatMul", "Mul",
        "PRelu", "RNN", "Sub",
    }
)  # fmt: skip


def structure_of(source: "Source", depends: Mapping[str, object]) -> str:
    """SHA-256, 64 hex digits, of the graph without its weights' values and of all that a plan `depends` on."""
    bare = type(source.model)()
    bare.CopyFrom(source.model)
    weights = _weights(bare.graph)
    for tensor in bare.graph.initializer:
        if tensor.name in weights:
            for field in ("raw_data", "float_data", "int32_data"):
                tensor.ClearField(field)
    graph = hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()
    return hashlib.sha256(canonical_json({"graph": graph, **depends})).hexdigest()


def _weights(graph: Any) -> set[str]:
    """Names of the constants whose values change nothing of an engine but its results.

    A scalar is none, nor is what a nested graph may read.
    """
    found = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type in _FLOATING and math.prod(tensor.dims) > 1
    }
    for node in graph.node:
        nested = any(item.HasField("g") or item.graphs for item in node.attribute)
        if nested:
            return set()
        if node.op_type not in _WEIGHED:
            found.difference_update(node.input)
    return found - {info.name for info in (*graph.input, *graph.output)}


def refitted(
    trt: Any, gpu: OnGpu, stripped: bytes, source: "Source", *, host_code: bool = False
) -> bytes:
    """The plan `stripped` of its weights with those of `source`, which has the same structure.

    Raises EngineBuild with what TensorRT said, GpuMemory, GpuLost.
    """
    log = log_of(trt)
    nodes = [node.name for node in source.model.graph.node]
    engine = loaded(trt, gpu, stripped, host_code=host_code)
    refitter = created_refitter(trt, engine.engine, gpu)
    with log.heard() as heard:
        parser = trt.OnnxParserRefitter(refitter, log.logger)
        taken = parser.refit_from_bytes(source.data)
        missing = sorted(refitter.get_missing_weights())
        done = taken and not missing and refitter.refit_cuda_engine()
    if not done:
        errors = [parser.get_error(at).desc() for at in range(parser.num_errors)]
        why = "; ".join([*errors, *(f"no value for '{name}'" for name in missing)])
        raise failure(
            f"TensorRT cannot give the earlier plan new weights{why and f' ({why})'}",
            heard,
            kind=EngineBuild,
            nodes=nodes,
            remedy="set refit = false in [build.gpu] to build such a bundle anew",
        )
    config = engine.engine.create_serialization_config()
    config.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
    with log.heard() as heard:
        plan = engine.engine.serialize_with_config(config)
    if plan is None:
        raise failure("TensorRT does not write the plan with new weights", heard, kind=EngineBuild)
    return bytes(plan)
