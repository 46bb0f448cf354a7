"""The source made ready for a rewrite: constants folded, batch norms folded into convolutions, nodes named.

Knows: which of ONNX Runtime's optimisations leave a standard graph of the same meaning. Rules: inputs and
outputs keep their names, types and shapes; equal sources give equal graphs with one version of the
library; what fp32 engines are compiled from is never this graph but the source. Leaves to others:
lowering (`typed`, `quantised`) and the ranges (`calibration`), which both begin here.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from appliance.errors import EngineBuild
from compiler.opening.source import DOMAINS, Limits, Source
from runtime.engines.libraries import onnxruntime
from runtime.engines.loading import library_text
from runtime.engines.onnxruntime_cpu import session_options

# It would put Reshape nodes and tensors of its own names around a MatMul.
_DISABLED = ["MatMulAddFusion"]
_IR_VERSION_MIN = 4  # from which a constant need not be an input too


def folded(source: Source) -> onnx.ModelProto:
    """The model with constants and batch norms folded, every node with a name of its own.

    Raises EngineBuild when ONNX Runtime does not take the model.
    """
    with TemporaryDirectory(prefix="holdfast-") as directory:
        path = Path(directory) / "folded.onnx"
        library, options = onnxruntime(), session_options(1)
        options.graph_optimization_level = library.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        try:
            library.InferenceSession(
                source.data,
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=_DISABLED,
            )
        except Exception as error:  # the library's errors share no base class
            raise EngineBuild(
                f"ONNX Runtime cannot fold the model: {library_text(error)}",
                remedy="export it with operators and an opset that ONNX Runtime supports",
            ) from error
        _check_size(path.stat().st_size)
        model = onnx.load(path)
    _check_standard(model)
    model.ir_version = max(model.ir_version, _IR_VERSION_MIN)
    _name_nodes(model.graph)
    return model


def _check_size(size: int) -> None:
    if size > Limits().bytes_max:
        raise EngineBuild(
            f"the model's constants fold to {size} bytes, over {Limits().bytes_max}",
            remedy="use precision fp32",
        )


def _check_standard(model: onnx.ModelProto) -> None:
    foreign = [node for node in model.graph.node if node.domain not in DOMAINS]
    if foreign:
        raise EngineBuild(
            f"folding made node '{foreign[0].name}' ({foreign[0].op_type}), "
            f"which is of domain '{foreign[0].domain}'",
            remedy="use precision fp32, or report the model and the version of onnxruntime",
        )
    used = {node.domain for node in model.graph.node} | {""}
    kept = [item for item in model.opset_import if item.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node of the main graph a name of its own, after its operator and first output."""
    seen: set[str] = set()
    for node in graph.node:
        name = node.name or f"{node.op_type}:{next(filter(None, node.output), '')}"
        while name in seen:
            name += "'"
        node.name = name
        seen.add(name)
