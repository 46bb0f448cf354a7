"""A model looked at before it is packed: what it takes and gives, how it treats rows, who cannot run it.

Knows: what an engineer should see of a file before writing a spec. Rules: the file passes the same checks as
at pack, and what is told is derived from the graph alone; nothing is written, built or sealed. Leaves to
others: running its rows (`packing`), what is told of it (`seen`), the child that this is done in (`acts`).
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import SourceUnsupported
from appliance.manifest import Precision
from compiler.opening.batching import can_open, closed_edges, why_closed
from compiler.opening.edges import Edge
from compiler.opening.graph import Edges, edges, interface_of
from compiler.opening.source import Source, open_source, opset_of
from compiler.opening.walking import bodies_within
from compiler.reference import check_runs
from compiler.seen import PRECISIONS, CheckUp, TargetSeen, TensorSeen
from compiler.targets import TARGETS, Target
from compiler.targets.tensorrt.target import TensorRTTarget

# What TensorRT cannot serve of a model is told on any machine.
_EVERYWHERE: tuple[Target, ...] = (*TARGETS, TensorRTTarget())
_DEPTH_MAX = 1 << 10  # the source's own limit was kept when it was opened


def check_up(path: Path) -> CheckUp:
    """Look at the ONNX file at `path`. Raises SourceError as `open_source` and `edges` do."""
    source = open_source(path)
    found = edges(source)
    return CheckUp(
        path=str(path),
        sha256=source.sha256,
        bytes=len(source.data),
        opset=opset_of(source.model),
        ir_version=source.model.ir_version,
        producer=f"{source.model.producer_name} {source.model.producer_version}".strip(),
        inputs=tuple(map(_seen, found.inputs)),
        outputs=tuple(map(_seen, found.outputs)),
        open_axes=tuple(_open_axes(found)),
        rows=_rows(found),
        hard_coded=tuple(map(str, found.hard_coded)),
        operators=_operators(source),
        notes=source.notes,
        runs=_runs(source),
        targets=tuple(_target_seen(target, source) for target in _EVERYWHERE),
    )


def _seen(edge: Edge) -> TensorSeen:
    return TensorSeen(name=edge.name, datatype=edge.datatype, axes=edge.axes)


def _open_axes(found: Edges) -> Iterator[str]:
    """What the spec may call the inputs' open axes behind the batch, each once."""
    first = 0 if closed_edges(found.all) else 1
    names = {
        str(axis) if axis is not None else f"{edge.name}.{at}": None
        for edge in found.inputs
        for at, axis in enumerate(edge.axes)
        if at >= first and not isinstance(axis, int)
    }
    yield from names


def _rows(found: Edges) -> str:
    if not closed_edges(found.all):
        return "the first axis is open on every input and output: rows are served in batches"
    offer = "; open_batch = true in the spec would open it" if can_open(found.all) else ""
    return f"served one request at a time: {why_closed(found.all, found.hard_coded)}{offer}"


def _operators(source: Source) -> dict[str, int]:
    """Nodes by operator, the most frequent first."""
    bodies = bodies_within(source.model.graph, _DEPTH_MAX)
    counts = Counter(
        f"{node.domain}.{node.op_type}" if node.domain == "ai.onnx.ml" else node.op_type
        for body in bodies
        for node in body.node
    )
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _runs(source: Source) -> str | None:
    try:
        check_runs(source)
    except SourceUnsupported as error:
        return str(error)
    return None


def _target_seen(target: Target, source: Source) -> TargetSeen:
    refusals = target.refusals(source, interface_of(source, None), Precision.FP32)
    unable = {precision: target.unable(precision) for precision in PRECISIONS}
    return TargetSeen(
        kind=target.kind,
        refusals=tuple(map(str, refusals)),
        unable={precision.value: why for precision, why in unable.items() if why is not None},
        here=target in TARGETS,
    )
