"""What was seen of a model before it is packed, as data that travels back from a child, and in words.

Knows: the form and the wording. Rules: plain data; importing this room loads no parser. Leaves to others:
looking (`checkup`).
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from appliance.manifest import Precision
from appliance.tensors import DataType
from compiler.spec import axis_table

PRECISIONS = (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8)


class TensorSeen(msgspec.Struct, frozen=True, kw_only=True):
    """An input or output: its axes as lengths, names of open ones, or None for open ones without a name."""

    name: str
    datatype: DataType
    axes: tuple[int | str | None, ...]


class TargetSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What a target could make of the model.

    `refusals`: what keeps it from compiling the model at all; `unable`: by precision, why the box or the
    library does not compute in it. `here`: whether that was asked of this box; of one with a GPU it is not.
    """

    kind: str
    refusals: tuple[str, ...]
    unable: dict[str, str]
    here: bool = True


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
    able = [precision for precision in PRECISIONS if precision not in target.unable]
    if not target.refusals:
        where = "on this box" if target.here else "at most, by what a box's GPU can do"
        yield f"takes it, and computes in {', '.join(able)} {where}"
    for precision, why in target.unable.items():
        yield f"{precision}: {why}"
