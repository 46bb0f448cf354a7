"""The last word on every rewritten graph: strict type inference.

Knows: the checker of `onnx`. Rules: `full_check` infers and compares every type and shape; the plain
check lets a graph through whose types do not fit. Leaves to others: whether it computes the same
(`compiler.proving.proof`).
"""

import onnx

from appliance.errors import EngineBuild, SourceFormat
from appliance.manifest import Precision
from compiler.opening.source import Source, check_validity


def checked(model: onnx.ModelProto, precision: Precision) -> Source:
    """The rewritten model as a source. Raises EngineBuild naming the node whose types do not fit."""
    del model.graph.value_info[:]  # types as they were before
    data = model.SerializeToString()
    try:
        check_validity(data, f"the graph rewritten for {precision}", full=True)
    except SourceFormat as error:
        raise EngineBuild(
            f"{error}",
            remedy="use precision fp32 and report the model with this message",
        ) from error
    return Source(data=data, model=model)
