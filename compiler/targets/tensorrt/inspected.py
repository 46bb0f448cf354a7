"""What a built engine says of itself: layers, the arithmetic of those that matter, tactics.

Knows: the engine inspector's JSON, and how a layer tells what it computes in. Rules: what a layer shows of its
arithmetic is believed in the order tactic, weights, tensors, the last only of a layer whose own kind multiplies; a
fused layer that shows nothing is counted as typed, since the network was strongly typed, and told as such; an inspector that names no layers is an error, never
an engine without any. Leaves to others: asking the inspector (`plan`), holding it against what was asked
(`compiler.precision.arithmetic`).

Sources: TensorRT's developer guide, "Engine Inspector" (ProfilingVerbosity DETAILED, LayerInformationFormat
JSON: Layers[].Name, LayerType, Inputs[], Outputs[] with "Format/Datatype", Weights.Type, TacticName, Metadata), and
"Migrating IEngineInspector Usage from TensorRT 10.x to 11.x", where that field is split in two;
names of tactics as released engines show them ("sm80_xmma_gemm_f16f16_f16f16_f16_nn", "ampere_sgemm_32x32_nn");
ONNX nodes stand in Metadata as "[ONNX Layer: name]", parted by the control characters 1E and 1F.
"""

import json
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from appliance.errors import EngineBuild, EngineLoad
from appliance.proof import Inspected, InspectedLayer
from runtime.gpu.engine_file import EngineFile

TF32 = "tf32"
LAYERS_TOLD_MAX = 500  # of the report
_NODES = re.compile(r"\[ONNX Layer: ([^\]\x1e\x1f]*)\]")
_HEAVY_LAYERS = re.compile(
    r"conv(?!er)|gemm|matmul|matrixmultiply|matrix_multiply|fullyconnected", re.IGNORECASE
)
# In this order: a name of TF32 holds f32 as well, one of int8 what it adds up in.
_TACTICS = (
    (TF32, re.compile(r"tf32")),
    ("int8", re.compile(r"(?<![a-z])i8|i8816|i16832|int8|imma|s8_s8", re.IGNORECASE)),
    ("bf16", re.compile(r"bf16")),
    ("fp16", re.compile(r"(?<![bt])f16|h16816|h1688|h884|hgemm|hmma|fp16|half", re.IGNORECASE)),
    ("fp32", re.compile(r"(?<!t)f32f32|sgemm|scudnn|ffma", re.IGNORECASE)),
)
_DATATYPES = (
    ("int8", re.compile(r"(?<!u)int8", re.IGNORECASE)),
    ("bf16", re.compile(r"bf16|bfloat16", re.IGNORECASE)),
    ("fp16", re.compile(r"fp16|half|float16", re.IGNORECASE)),
    ("fp32", re.compile(r"fp32|float", re.IGNORECASE)),
)
_TYPE_KEYS = ("Format/Datatype", "DataType", "Datatype", "Format")
_CLOSED = "ForeignNode["  # a part of the graph that was compiled whole, and of whose layers nothing is told
_COPIES = "Reformat"  # called after the layers that it copies for
_CASTS = re.compile(r"cast|quantize", re.IGNORECASE)
# The compiler's own kernels are called after operators and a digest, in whose digits "f16" is no type.
_DIGEST = re.compile(r"0x[0-9a-f]+", re.IGNORECASE)
_PART = re.compile(r"_myl\d+_\d+$")  # what the compiler puts behind the names of nodes
# Of numbers that are none, printed as C++ prints them.
_NO_NUMBER = re.compile(r"(?<=[:\[,])(\s*)-?(?:nan|inf)\b")


def layers_of(text: str) -> list[dict[str, Any]]:
    """The layers that the inspector tells of. Raises EngineBuild when it tells none in detail."""
    try:
        # Control characters part what Metadata holds, in some releases as they are (NVIDIA/TensorRT#2779).
        told = json.loads(_NO_NUMBER.sub(r"\1null", text), strict=False)
    except ValueError as error:
        raise _untold(f"no JSON: {error}") from error
    layers = told.get("Layers") if isinstance(told, dict) else None
    if not isinstance(layers, list) or not layers or not all(isinstance(e, dict) for e in layers):
        raise _untold("names of layers at most")
    return layers


def seen(
    layers: Sequence[Mapping[str, Any]],
    heavy: Mapping[str, str],
    names: Container[str] = frozenset(),
) -> tuple[InspectedLayer, ...]:
    """The layers that multiply matrices or convolve, and what each computes in.

    A layer does so when it was made of such an ONNX node, or, where it tells of no node, when its own kind says it.
    `heavy` are those nodes by name, and what each computes in by the graph's types; `names` are all nodes: what a
    recurrence or a resize became is none of the heavy ones.
    """
    return tuple(_seen(layers, heavy, names))


def summary(
    library: str,
    layers: Sequence[Mapping[str, Any]],
    found: Sequence[InspectedLayer],
    *,
    plan_bytes: int,
    activation_bytes: int,
) -> Inspected:
    """What the report keeps of an engine."""
    return Inspected(
        library=library,
        layers=len(layers),
        precisions=dict(Counter(item.precision for item in found)),
        untold=sum(not item.shown for item in found),
        plan_bytes=plan_bytes,
        activation_bytes=activation_bytes,
        heavy=tuple(found[:LAYERS_TOLD_MAX]),
    )


def inspected_in(path: Path) -> Inspected:
    """What an engine file keeps of that. Raises EngineLoad when the file is damaged."""
    file = EngineFile(path)
    try:
        return msgspec.convert(file.header.inspection, Inspected)
    except msgspec.ValidationError as error:
        raise EngineLoad(
            f"{path.name} does not say what it holds: {error}", remedy="build the bundle again"
        ) from error
    finally:
        file.close()


def _seen(
    layers: Sequence[Mapping[str, Any]], heavy: Mapping[str, str], names: Container[str]
) -> Iterator[InspectedLayer]:
    for layer in layers:
        told = _nodes(layer)
        nodes = tuple(name for name in told if name in heavy)
        asked = [heavy[name] for name in nodes]
        if heavy and not asked and _CLOSED in str(layer.get("Name", "")):
            asked = [name for name, _ in Counter(heavy.values()).most_common(1)]
        kind = str(layer.get("LayerType", ""))
        tactic = str(layer.get("TacticName", ""))
        multiplies = _HEAVY_LAYERS.search(f"{kind} {layer.get('ParameterType', '')}") is not None
        of_others = any(name in names for name in told) and not asked
        if kind == _COPIES or of_others or not (asked or multiplies):
            continue
        shown = _shown(layer, tactic, multiplies=multiplies)
        if shown is None and not asked:
            continue  # one of the library's own that neither is of a node nor shows anything
        yield InspectedLayer(
            name=str(layer.get("Name", "")),
            operator=kind,
            precision=shown or asked[0],
            shown=shown is not None,
            tactic=tactic,
            nodes=nodes,
        )


def _nodes(layer: Mapping[str, Any]) -> tuple[str, ...]:
    """The ONNX nodes that a layer was made of, as far as it tells."""
    told = _NODES.findall(str(layer.get("Metadata", "")))
    if not told:  # without metadata a fused layer's name lists them
        told = re.split(r" ?\+ ?|, ", _PART.sub("", str(layer.get("Name", ""))))
    return tuple(dict.fromkeys(told))


def _shown(layer: Mapping[str, Any], tactic: str, *, multiplies: bool) -> str | None:
    """What the layer shows that it computes in, None when it shows nothing or several types.

    Tensors tell of a layer that `multiplies` by its own kind alone: what is made of a heavy node besides it, such as
    the sum behind a product in INT8, has types of its own.
    """
    bare = _DIGEST.sub("", tactic)
    for name, words in _TACTICS:
        if words.search(bare):
            return name
    weights = layer.get("Weights")
    if isinstance(weights, dict) and (kind := _datatype(str(weights.get("Type", "")))):
        return kind
    if not multiplies:
        return None
    tensors = [
        *_tensors(layer.get("Inputs")),
        *_tensors(layer.get("Outputs")),
    ]
    kinds = {kind for text in tensors if (kind := _datatype(text))}
    fused_casts = _CASTS.search(f"{layer.get('Metadata', '')} {layer.get('Name', '')}")
    return kinds.pop() if len(kinds) == 1 and not fused_casts else None


def _tensors(told: object) -> Iterator[str]:
    for tensor in told if isinstance(told, list) else ():
        if isinstance(tensor, dict):
            yield str(next(filter(None, map(tensor.get, _TYPE_KEYS)), ""))


def _datatype(text: str) -> str | None:
    """The number type that a tensor's description names."""
    return next((name for name, words in _DATATYPES if words.search(text)), None)


def _untold(what: str) -> EngineBuild:
    return EngineBuild(
        f"TensorRT's inspector tells {what} of the engine, so its precision cannot be checked",
        remedy="report this with the version of TensorRT; a CPU engine serves meanwhile",
    )
