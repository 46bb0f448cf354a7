"""The ONNX file as received, opened within limits.

Knows: what makes a file a model that this release takes, and the form in which one is sealed: a single file
of standard operators. Rules: the file is hostile until it passed every check here; size first, then
structure, then what tensors claim, then the checker, so that nothing deep, wide or boastful reaches a
recursive parser; a sealed model is never rewritten again. Leaves to others: what goes in and out (`graph`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from appliance.errors import SourceFormat, SourceLimit, SourceUnsupported
from appliance.files import open_regular
from compiler.opening.bounds import Limits, check_bounds
from compiler.opening.declared import check_declared
from compiler.opening.deviations import check_deviations
from compiler.opening.external import external_tensors, fold_external, refuse_external
from compiler.opening.functions import inlined
from compiler.opening.walking import bodies_within, inner_graphs
from compiler.opening.zipmap import tensors_for_zipmaps
from runtime.engines.loading import library_text

__all__ = [
    "DOMAINS",
    "Limits",
    "Source",
    "check_validity",
    "inner_graphs",
    "open_sealed",
    "open_source",
    "opset_of",
]

OPSET_MIN = 9
OPSET_MAX = 26  # of ONNX Runtime 1.31, which is the reference
IR_VERSION_MAX = 13  # of the same
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_EXPORT_AGAIN = "export the model to ONNX again and check it with onnx.checker"
_PACK_AGAIN = "pack the model again with this release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A checked model: the bytes to be sealed, and the same model parsed.

    `sha256` is of the files as they were received: the ONNX file's own digest, or, where it keeps tensors
    in other files, that of the lines "DIGEST  NAME" of them all, the model first without a name; empty
    for a model that was made here; `files` are those digests by name. `received` is the model before its nodes were rewritten, None where they
    were not; both must compute the same. `notes` tell the engineer what was rewritten.
    """

    data: bytes
    model: onnx.ModelProto
    sha256: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    received: bytes | None = None
    notes: tuple[str, ...] = ()


def open_source(path: Path, limits: Limits | None = None) -> Source:
    """Read and check the model at `path` and bring it into the form that is sealed.

    Tensors in other files beside it are folded in, functions of its own written out, final ZipMap nodes
    taken off. Raises SourceFormat (not a valid ONNX model, or one that refers to what it may not),
    SourceLimit, or SourceUnsupported (other domains, another opset, what ONNX Runtime computes wrongly).
    """
    limits = limits or Limits()
    data = _read(path, limits)
    model = _parse(data, path)
    check_bounds(model, limits)
    files = _fold(model, path, limits.bytes_max - len(data), limits)
    check_declared(model, limits.depth_max)
    _check_opset(model)
    notes = [f"tensors were read from '{name}'" for name in sorted(files)]
    notes += tensors_for_zipmaps(model)
    received = _serialised(model, limits) if notes else data
    sealed = _without_functions(model, received, path, limits)
    _check_domains(sealed, limits)
    if sealed is not model:
        notes.append(f"{len(model.functions)} functions of the model's own were written out")
    last = received if sealed is model else _serialised(sealed, limits)
    check_validity(last, str(path), full=True)
    check_deviations(sealed, limits.depth_max)
    return Source(
        data=last,
        model=sealed,
        sha256=_digest(data, files),
        files={"": _digest(data, {}), **files} if files else {},
        received=None if sealed is model else received,
        notes=tuple(notes),
    )


def open_sealed(path: Path, limits: Limits | None = None) -> Source:
    """Read and check a model out of a bundle, which is used as it is.

    Raises as `open_source`, and SourceUnsupported when it is not in the form that is sealed: functions of
    its own, or tensors in other files.
    """
    limits = limits or Limits()
    data = _read(path, limits)
    model = _parse(data, path)
    check_bounds(model, limits)
    refuse_external(external_tensors(model, limits.depth_max))
    if model.functions:
        raise SourceUnsupported(
            f"the model defines {len(model.functions)} functions of its own", remedy=_PACK_AGAIN
        )
    check_declared(model, limits.depth_max)
    _check_opset(model)
    _check_domains(model, limits)
    check_validity(data, str(path), full=True)
    check_deviations(model, limits.depth_max)
    return Source(data=data, model=model, sha256=_digest(data, {}))


def _read(path: Path, limits: Limits) -> bytes:
    try:
        with open_regular(path) as file:
            data = file.read(limits.bytes_max + 1)
    except OSError as error:
        raise SourceFormat(
            f"cannot read {path}: {error.strerror or error}", remedy="check the path"
        ) from error
    if len(data) > limits.bytes_max:
        raise SourceLimit(
            f"{path} has more than {limits.bytes_max} bytes", remedy="use a smaller model"
        )
    return data


def _parse(data: bytes, path: Path) -> onnx.ModelProto:
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise SourceFormat(f"{path} is not an ONNX file", remedy=_EXPORT_AGAIN) from error
    # Almost any few bytes parse as some message; a model names its format and computes something.
    if not model.ir_version or not model.graph.output:
        raise SourceFormat(f"{path} is not an ONNX model", remedy=_EXPORT_AGAIN)
    return model


def _fold(model: onnx.ModelProto, path: Path, room: int, limits: Limits) -> dict[str, str]:
    """Fold tensors in other files into `model`; the files' digests by name."""
    outside = list(external_tensors(model, limits.depth_max))
    return fold_external(outside, path.parent, room) if outside else {}


def _without_functions(
    model: onnx.ModelProto, data: bytes, path: Path, limits: Limits
) -> onnx.ModelProto:
    """The model with its functions written out, itself when it has none."""
    if not model.functions:
        return model
    # onnx.inliner believes what it is given; the checker knows functions that contradict themselves.
    check_validity(data, str(path), full=False)
    sealed = inlined(model, limits)
    check_bounds(sealed, limits)
    return sealed


def _serialised(model: onnx.ModelProto, limits: Limits) -> bytes:
    size = model.ByteSize()
    if size > limits.bytes_max:
        raise SourceLimit(
            f"the model has {size} bytes as one file, over {limits.bytes_max}",
            remedy="use a smaller model",
        )
    return model.SerializeToString(deterministic=True)


def _digest(data: bytes, files: Mapping[str, str]) -> str:
    own = hashlib.sha256(data).hexdigest()
    if not files:
        return own
    lines = [f"{own}  \n", *(f"{digest}  {name}\n" for name, digest in sorted(files.items()))]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def opset_of(model: onnx.ModelProto) -> int | None:
    """The version of the standard operators that the model uses, None when it uses none."""
    versions = (item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    return max(versions, default=None)


def _check_opset(model: onnx.ModelProto) -> None:
    opset = opset_of(model)
    if opset is not None and not OPSET_MIN <= opset <= OPSET_MAX:
        raise SourceUnsupported(
            f"the model uses opset {opset}, the engines read {OPSET_MIN} to {OPSET_MAX}",
            remedy=f"export it with an opset from {OPSET_MIN} to {OPSET_MAX}",
        )
    if model.ir_version > IR_VERSION_MAX:
        raise SourceUnsupported(
            f"the model has IR version {model.ir_version}, the engines read up to {IR_VERSION_MAX}",
            remedy=f"save it with ir_version = {IR_VERSION_MAX} or export it with an older onnx",
        )
    if model.training_info:
        raise SourceUnsupported("the model holds training graphs", remedy="export it for inference")


def _check_domains(model: onnx.ModelProto, limits: Limits) -> None:
    bodies = bodies_within(model.graph, limits.depth_max)
    for node in (node for body in bodies for node in body.node):
        if node.domain not in DOMAINS:
            raise SourceUnsupported(
                f"node '{node.name}' ({node.op_type}) is of domain '{node.domain}'",
                remedy="export with standard ONNX operators only (domains ai.onnx and ai.onnx.ml)",
            )


def check_validity(data: bytes, what: str, *, full: bool) -> None:
    """Run the checker, `full` with strict type and shape inference. Raises SourceFormat."""
    try:
        onnx.checker.check_model(data, full_check=full)
    except Exception as error:  # the checker's two error classes and pybind's share no base class
        raise SourceFormat(
            f"{what} is not a valid ONNX model: {library_text(error)}", remedy=_EXPORT_AGAIN
        ) from error
