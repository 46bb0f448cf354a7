"""How results read: lines for a person, plain values for `--json`.

Knows: both forms of each result. Rules: the two say the same; names from a file are made printable.
Leaves to others: printing.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.commands import printable
from appliance.manifest import Manifest
from appliance.store import StoredVersion
from appliance.tensors import Interface, TensorSpec
from compiler.report.text import (
    bytes_text,
    engine_text,
    reached_text,
    rebuilt_text,
    threshold_text,
    trial_text,
)

if TYPE_CHECKING:  # these rooms load engines and kernels, which showing a bundle needs not
    from compiler.build import Built
    from compiler.inspection import Inspection
    from compiler.pack import Packed
    from compiler.refresh import Refreshed
    from compiler.unpack import Unpacked

Lines = Iterator[tuple[str, str]]


def packed_lines(packed: "Packed") -> Lines:
    """What was packed."""
    yield "bundle", str(packed.path)
    yield "sha256", packed.sha256
    yield "model", packed.manifest.model
    yield "signer", packed.signer or "none: no box will build it; pack again with --key"
    for item in packed.reached:
        yield "reference", reached_text(item)
    for note in packed.notes:
        yield "note", note
    for warning in packed.warnings:
        yield "warning", warning


def packed_values(packed: "Packed") -> dict[str, Any]:
    """The same for scripts."""
    return {
        "bundle": str(packed.path),
        "sha256": packed.sha256,
        "model": packed.manifest.model,
        "signer": packed.signer,
        "reached": msgspec.to_builtins(packed.reached),
        "notes": list(packed.notes),
        "warnings": list(packed.warnings),
    }


def built_lines(built: "Built") -> Lines:
    """What was built, and by which measurements."""
    yield "version", f"{built.version.record.model} {built.version.number}"
    if not built.new:
        yield "note", "this very bundle had been built before; nothing was done"
    yield from _record_lines(built.version)


def built_values(built: "Built") -> dict[str, Any]:
    """The same for scripts."""
    return version_values(built.version) | {"new": built.new}


def refreshed_lines(refreshed: "tuple[Refreshed, ...]") -> Lines:
    """What became of every version whose engine did not fit."""
    if not refreshed:
        yield "note", "the engine of every version in service fits this box; nothing was done"
    if any(item.error is None for item in refreshed):
        yield "note", "a runtime that is up goes on with what it loaded; restart it to serve these"
    for item in refreshed:
        error = item.error
        told = "has a new engine" if error is None else f"[{error.code}] {error}; {error.remedy}"
        yield "version", f"{item.model} {item.number}: {told}"


def refreshed_values(refreshed: "tuple[Refreshed, ...]") -> dict[str, Any]:
    """The same for scripts; `error` is null for a version that has a new engine."""
    return {
        "versions": [
            {
                "model": item.model,
                "version": item.number,
                "error": item.error
                and {
                    "code": item.error.code,
                    "message": str(item.error),
                    "remedy": item.error.remedy,
                },
            }
            for item in refreshed
        ]
    }


def unpacked_lines(unpacked: "Unpacked") -> Lines:
    """What was taken out of a bundle."""
    yield "directory", str(unpacked.directory)
    for name in unpacked.files:
        yield "file", name
    yield "signature", "none" if unpacked.signature is None else unpacked.signature.name
    if unpacked.signer is not None:
        yield "signer", f"{unpacked.signer}, as it says; not verified here"
    if unpacked.hint is not None:
        yield "key hint", unpacked.hint


def unpacked_values(unpacked: "Unpacked") -> dict[str, Any]:
    """The same for scripts."""
    return {
        "directory": str(unpacked.directory),
        "files": list(unpacked.files),
        "signature": None if unpacked.signature is None else str(unpacked.signature),
        "signer": unpacked.signer,
        "hint": unpacked.hint,
    }


def bundle_lines(inspection: "Inspection") -> Lines:
    """What a bundle says and whether its signature holds here."""
    yield "sha256", inspection.sha256
    yield "signature", inspection.signature
    yield "signer", inspection.signer or "none"
    if inspection.signed_at is not None:
        yield "signed", inspection.signed_at
    yield from _manifest_lines(inspection.manifest)


def bundle_values(inspection: "Inspection") -> dict[str, Any]:
    """The same for scripts."""
    return {
        "sha256": inspection.sha256,
        "signature": str(inspection.signature),
        "signer": inspection.signer,
        "signed_at": inspection.signed_at,
        "manifest": msgspec.to_builtins(inspection.manifest),
    }


def version_lines(version: StoredVersion) -> Lines:
    """A version in the store."""
    yield "version", f"{version.record.model} {version.number}"
    yield from _record_lines(version)
    yield from _manifest_lines(version.manifest)


def version_values(version: StoredVersion) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "model": version.record.model,
        "version": version.number,
        "record": msgspec.to_builtins(version.record),
        "manifest": msgspec.to_builtins(version.manifest),
    }


def _record_lines(version: StoredVersion) -> Lines:
    record = version.record
    yield "bundle", record.bundle_sha256
    yield "signer", record.signer
    yield "built", f"{record.built} by release {record.release}"
    if record.rebuilt is not None:
        yield "rebuilt", rebuilt_text(record.rebuilt)
    yield "engine", engine_text(record.engine)
    if record.fallback is not None:
        yield "fallback", engine_text(record.fallback)
    yield (
        "proof",
        f"{record.proof.golden_rows} golden rows, largest error {record.proof.error_max:.3g}",
    )
    for reached in record.proof.reached:
        yield "reached", reached_text(reached)
    for trial in record.trials:
        yield "tried", trial_text(trial)
    for warning in record.warnings:
        yield "warning", warning


def _manifest_lines(manifest: Manifest) -> Lines:
    yield "model", manifest.model
    yield "why", manifest.release_notes
    for what, specs in (("input", manifest.served.inputs), ("output", manifest.served.outputs)):
        for spec in specs:
            yield what, _tensor(manifest.served, spec)
    yield (
        "rows",
        f"at most {manifest.served.batch_max} a call" if manifest.served.batch_max else "1",
    )
    yield "precision", str(manifest.precision)
    if manifest.edition is not None:
        yield "edition", str(manifest.edition)
    if manifest.minimum_release is not None:
        yield "release", f"{manifest.minimum_release} or newer"
    if manifest.compatible is not None:
        yield "made for", manifest.compatible
    if manifest.source_signer is not None:
        yield "source by", manifest.source_signer
    yield from _agreed_lines(manifest)
    yield "trained by", manifest.provenance.training_code
    for file in manifest.files:
        yield "file", f"{file.name}, {file.bytes} bytes"


def _agreed_lines(manifest: Manifest) -> Lines:
    """What an engine must reach and may cost."""
    for item in manifest.acceptance:
        each = f" for each {item.segment}" if item.segment else ""
        yield "threshold", f"{item.metric} of {item.output} {threshold_text(item)}{each}"
    for disturbance in manifest.disturbances:
        limit = disturbance.drop_max
        told = "reported" if limit is None else f"may be worse by {limit:g}"
        yield "robustness", f"{disturbance.kind} {disturbance.level:g}: {told}"
    if manifest.limits.latency_ms_max is not None:
        yield "limit", f"{manifest.limits.latency_ms_max:g} ms at the median of one row"
    if manifest.limits.memory_bytes_max is not None:
        yield "limit", f"{bytes_text(manifest.limits.memory_bytes_max)} of memory"


def _tensor(interface: Interface, spec: TensorSpec) -> str:
    return f"{spec.name} {spec.datatype} {list(interface.wire_shape(spec))}"


def aligned(lines: Lines) -> str:
    """Names and values in two columns; a value's further lines are indented below its first."""
    pairs = [(name, printable(value).splitlines() or [""]) for name, value in lines]
    width = max(len(name) for name, _ in pairs) + 2
    rows = []
    for name, values in pairs:
        rows.append(f"{name:<{width}}{values[0]}")
        rows += [" " * width + value for value in values[1:]]
    return "\n".join(rows)
