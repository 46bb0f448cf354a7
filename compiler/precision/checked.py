"""The last word on every rewritten graph: strict type inference.

Knows: the checker of `onnx`. Rules: `full_check` infers and compares every type and shape; the plain
check lets a graph through whose types do not fit. Leaves to others: whether it computes the same
(`compiler.proving.proof`).
"""

import onnx

from appliance.errors import EngineBuild
from appliance.manifest import Precision
from compiler.opening.source import Source
from runtime.engines.loading import library_text


def checked(model: onnx.ModelProto, precision: Precision) -> Source:
    """The rewritten model as a source. Raises EngineBuild naming the node whose types do not fit."""
    del model.graph.value_info[:]  # types as they were before
    data = model.SerializeToString()
    try:
        onnx.checker.check_model(data, full_check=True)
    except Exception as error:  # the checker's two error classes and pybind's share no base class
        raise EngineBuild(
            f"the graph rewritten for {precision} is not well typed: {library_text(error)}",
            remedy="use precision fp32 and report the model with this message",
        ) from error
    return Source(data=data, model=model)
