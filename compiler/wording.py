"""How results read: lines for a person, plain values for `--json`.

Knows: both forms of each result. Rules: the two say the same; names from a file are made printable.
Leaves to others: printing.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.commands import printable
from appliance.manifest import Manifest
from appliance.proof import Reached, Trial
from appliance.store import StoredVersion
from appliance.tensors import Interface, TensorSpec
from compiler.acceptance import threshold_text

if TYPE_CHECKING:  # these rooms load engines and kernels, which showing a bundle needs not
    from compiler.build import Built
    from compiler.inspection import Inspection
    from compiler.pack import Packed

Lines = Iterator[tuple[str, str]]


def packed_lines(packed: "Packed") -> Lines:
    """What was packed."""
    yield "bundle", str(packed.path)
    yield "sha256", packed.sha256
    yield "model", packed.manifest.model
    yield "signer", packed.signer or "none: no box will build it; pack again with --key"
    for item in packed.reached:
        yield "reference", _reached(item)


def packed_values(packed: "Packed") -> dict[str, Any]:
    """The same for scripts."""
    return {
        "bundle": str(packed.path),
        "sha256": packed.sha256,
        "model": packed.manifest.model,
        "signer": packed.signer,
        "reached": msgspec.to_builtins(packed.reached),
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


def bundle_lines(inspection: "Inspection") -> Lines:
    """What a bundle says and whether its signature holds here."""
    yield "sha256", inspection.sha256
    yield "signature", inspection.signature
    yield "signer", inspection.signer or "none"
    yield from _manifest_lines(inspection.manifest)


def bundle_values(inspection: "Inspection") -> dict[str, Any]:
    """The same for scripts."""
    return {
        "sha256": inspection.sha256,
        "signature": str(inspection.signature),
        "signer": inspection.signer,
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
    yield "engine", f"{record.engine.kind} ({record.engine.stamp['library']})"
    yield (
        "proof",
        (f"{record.proof.golden_rows} golden rows, largest error {record.proof.error_max:.3g}"),
    )
    for reached in record.proof.reached:
        yield "reached", _reached(reached)
    for trial in record.trials:
        yield "measured", _measured(trial)


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
    for item in manifest.acceptance:
        yield "threshold", f"{item.metric} of {item.output} {threshold_text(item)}"
    yield "trained by", manifest.provenance.training_code
    for file in manifest.files:
        yield "file", f"{file.name}, {file.bytes} bytes"


def _tensor(interface: Interface, spec: TensorSpec) -> str:
    return f"{spec.name} {spec.datatype} {list(interface.wire_shape(spec))}"


def _reached(item: Reached) -> str:
    threshold = item.threshold
    return (
        f"{threshold.metric} of {threshold.output} {item.value:.4f} "
        f"(agreed: {threshold_text(threshold)})"
    )


def _measured(item: Trial) -> str:
    timings = [
        f"{'1 row' if timing.rows == 1 else f'{timing.rows} rows'} {timing.median_ms:.3f} ms"
        for timing in item.timings
    ]
    told = f"{item.engine} {item.precision}"
    return (
        f"{told}, {', '.join(timings)} ({item.verdict})" if timings else f"{told}: {item.verdict}"
    )


def aligned(lines: Lines) -> str:
    """Names and values in two columns; a value's further lines are indented below its first."""
    pairs = [(name, printable(value).splitlines() or [""]) for name, value in lines]
    width = max(len(name) for name, _ in pairs) + 2
    rows = []
    for name, values in pairs:
        rows.append(f"{name:<{width}}{values[0]}")
        rows += [" " * width + value for value in values[1:]]
    return "\n".join(rows)
