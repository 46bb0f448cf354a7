"""A model looked at before it is packed: what it takes and gives, how it treats rows, who cannot run it.

Knows: what an engineer should see of a file before writing a spec. Rules: the file passes the same checks as
at pack, and what is told is derived from the graph alone; nothing is written, built or sealed. Leaves to
others: running its rows (`pack`), printing.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from appliance.errors import SourceUnsupported
from appliance.manifest import Precision
from appliance.tensors import DataType
from compiler.opening.batching import can_open, closed_edges, why_closed
from compiler.opening.edges import Edge, axis_table
from compiler.opening.graph import Edges, edges, interface_of
from compiler.opening.source import Source, open_source, opset_of
from compiler.opening.walking import bodies_within
from compiler.reference import check_runs
from compiler.targets import TARGETS, Target

_PRECISIONS = (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8)
_DEPTH_MAX = 1 << 10  # the source's own limit was kept when it was opened


class TensorSeen(msgspec.Struct, frozen=True, kw_only=True):
    """An input or output: its axes as lengths, names of open ones, or None for open ones without a name."""

    name: str
    datatype: DataType
    axes: tuple[int | str | None, ...]


class TargetSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What a target on this box could make of the model.

    `refusals`: what keeps it from compiling the model at all; `unable`: by precision, why the box or the
    library does not compute in it.
    """

    kind: str
    refusals: tuple[str, ...]
    unable: dict[str, str]


class CheckUp(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of the model at `path`.

    `sha256` is of the files as received. `operators` counts nodes by operator over all subgraphs. `rows`
    says how rows are treated, `hard_coded` which nodes write the batch down, `notes` what would be
    rewritten to seal the model. `runs`: why ONNX Runtime, the reference, cannot run it; None when it can.
    """

    path: str
    sha256: str
    bytes: int
    opset: int | None
    ir_version: int
    producer: str
    inputs: tuple[TensorSeen, ...]
    outputs: tuple[TensorSeen, ...]
    open_axes: tuple[str, ...]
    rows: str
    hard_coded: tuple[str, ...]
    operators: dict[str, int]
    notes: tuple[str, ...]
    runs: str | None
    targets: tuple[TargetSeen, ...]


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
        targets=tuple(_target_seen(target, source) for target in TARGETS),
    )


def checkup_lines(seen: CheckUp) -> Iterator[tuple[str, str]]:
    """For a person: what was seen, a name and a text each."""
    yield "model", seen.path
    yield "sha256", seen.sha256
    yield "size", f"{seen.bytes} bytes as it would be sealed"
    yield "made by", seen.producer or "it does not say"
    yield "opset", f"{seen.opset or 'none of ONNX itself'} (IR version {seen.ir_version})"
    for what, tensors in (("input", seen.inputs), ("output", seen.outputs)):
        for tensor in tensors:
            axes = ", ".join("?" if axis is None else str(axis) for axis in tensor.axes)
            yield what, f"{tensor.name} {tensor.datatype} [{axes}]"
    yield "rows", seen.rows
    for culprit in seen.hard_coded:
        yield "", culprit
    for axis in seen.open_axes:
        yield "open axis", f"{axis}: any length, unless the spec has {axis_table(axis)}"
    yield "operators", ", ".join(f"{count} {name}" for name, count in seen.operators.items())
    for note in seen.notes:
        yield "note", note
    yield "reference", seen.runs or "ONNX Runtime runs it"
    for target in seen.targets:
        for line in _target_lines(target):
            yield target.kind, line


def checkup_values(seen: CheckUp) -> dict[str, Any]:
    """The same for scripts."""
    values: dict[str, Any] = msgspec.to_builtins(seen)
    return values


def _target_lines(target: TargetSeen) -> Iterator[str]:
    yield from target.refusals
    able = [precision for precision in _PRECISIONS if precision not in target.unable]
    if not target.refusals:
        yield f"takes it, and computes in {', '.join(able)} on this box"
    for precision, why in target.unable.items():
        yield f"{precision}: {why}"


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
    unable = {precision: target.unable(precision) for precision in _PRECISIONS}
    return TargetSeen(
        kind=target.kind,
        refusals=tuple(map(str, refusals)),
        unable={precision.value: why for precision, why in unable.items() if why is not None},
    )
