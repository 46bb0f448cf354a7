"""One typed graph for each precision, read by every target.

Knows: which rewrite makes which precision. Rules: fp32 is the source as it is; every other graph begins
with the folded source and ends with strict type inference; a model with nothing to compute in fewer bits
is refused, never passed on unchanged. Leaves to others: whether the graph is near enough
(`compiler.proving.proof`), and whether an engine really computes so (`compiler.targets`).
"""

from appliance.errors import EngineBuild
from appliance.manifest import Precision
from compiler.opening.source import Source
from compiler.precision.calibration import Ranges
from compiler.precision.checked import checked
from compiler.precision.folded import folded
from compiler.precision.operators import check_plain, heavy_in, heavy_nodes, tensor_types
from compiler.precision.quantised import quantised
from compiler.precision.typed import typed

__all__ = ["Ranges", "lowered"]


def lowered(source: Source, precision: Precision, ranges: Ranges | None = None) -> Source:
    """The model of `source` with the types of `precision`, which is not auto; inputs and outputs keep theirs.

    int8 needs `ranges`; fp16 takes them as a hint which tensors would overflow. Raises EngineBuild when
    there is nothing to lower, no range, or a graph that does not pass strict type inference.
    """
    if precision is Precision.FP32:
        return source
    model = folded(source)
    check_plain(model, precision)
    if not heavy_nodes(model.graph, tensor_types(model), precision):
        raise EngineBuild(
            f"the model has no {', '.join(sorted(heavy_in(precision)))} in FP32 outside of control "
            f"flow: there is nothing to compute in {precision}",
            remedy="use precision fp32",
        )
    if precision is not Precision.INT8:
        return checked(typed(model, precision, ranges), precision)
    if ranges is None:
        raise EngineBuild(
            "the bundle has no calibration, which int8 needs",
            remedy='pack the model with precision = "int8" or "auto"',
        )
    return checked(quantised(model, ranges), precision)
