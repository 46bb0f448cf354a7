"""A version's report as lines for a terminal and as plain values.

Knows: how figures of proof read in words. Rules: the lines, the values and the page say the same. Leaves to
others: the page (`page`), printing.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from appliance.manifest import Manifest
from appliance.proof import Disturbed, Inspected, OutputErrors, Proof, Reached, Trial
from appliance.store import EngineEntry, Rebuilt, VersionRecord
from compiler.proving.acceptance import rows_text, threshold_text, value_text

__all__ = [
    "bytes_text",
    "disturbed_text",
    "engine_text",
    "errors_text",
    "inspected_text",
    "reached_text",
    "rebuilt_text",
    "report_lines",
    "report_values",
    "threshold_text",
    "trial_name",
    "trial_text",
]

GATED = "gated: must hold, or the build is refused"
REPORTED = "reported: near ties may fall either way, so nothing depends on it"


def report_values(manifest: Manifest, record: VersionRecord) -> dict[str, Any]:
    """Everything the report says, for scripts: report.json."""
    precision = record.engine.precision
    return {
        "format": 1,
        "model": record.model,
        "release_notes": manifest.release_notes,
        "built": record.built,
        "release": record.release,
        "bundle_sha256": record.bundle_sha256,
        "signer": record.signer,
        "source_sha256": manifest.source_sha256,
        "sample_sha256": manifest.sample_sha256,
        "precision_asked": str(manifest.precision),
        "tolerance": msgspec.to_builtins(manifest.tolerances.of(precision)),
        "limits": msgspec.to_builtins(manifest.limits),
        "calibration": msgspec.to_builtins(manifest.calibration),
        "provenance": msgspec.to_builtins(manifest.provenance),
        "served": msgspec.to_builtins(manifest.served),
        "recipe": msgspec.to_builtins(manifest.recipe),
        "engine": msgspec.to_builtins(record.engine),
        "fallback": msgspec.to_builtins(record.fallback),
        "proof": msgspec.to_builtins(record.proof),
        "trials": msgspec.to_builtins(record.trials),
        "warnings": list(record.warnings),
        "rebuilt": msgspec.to_builtins(record.rebuilt),
    }


def report_lines(manifest: Manifest, record: VersionRecord) -> Iterator[tuple[str, str]]:
    """The report for a terminal."""
    proof = record.proof
    yield "model", record.model
    yield "built", f"{record.built} by release {record.release}"
    if record.rebuilt is not None:
        yield "rebuilt", rebuilt_text(record.rebuilt)
    yield "bundle", record.bundle_sha256
    yield "engine", engine_text(record.engine)
    if record.fallback is not None:
        yield "fallback", engine_text(record.fallback)
    for warning in record.warnings:
        yield "warning", warning
    for reached in proof.reached:
        yield "reached", reached_text(reached)
    yield "golden rows", f"{proof.golden_rows}, at {sizes_text(proof)}"
    yield "tolerance", tolerance_text(manifest, record)
    for errors in proof.outputs:
        yield "errors", errors_text(errors)
    for disturbed in proof.disturbed:
        yield "robustness", disturbed_text(disturbed)
    if proof.memory_bytes is not None:
        yield "memory", f"{bytes_text(proof.memory_bytes)} added by loading and warming"
    for trial in record.trials:
        yield "tried", trial_text(trial)
        if trial.inspected is not None:
            yield "inside", inspected_text(trial, trial.inspected)


def rebuilt_text(item: Rebuilt) -> str:
    """When a version's engine was made anew."""
    return f"{item.at} by release {item.release}, for its engine no longer fitted the box"


def sizes_text(proof: Proof) -> str:
    """At which numbers of rows and lengths golden rows were compared."""
    rows = ", ".join(str(item.rows) for item in proof.buckets if not item.lengths)
    lengths = dict.fromkeys(item.lengths for item in proof.buckets if item.lengths)
    return "; ".join([f"{rows} rows a call", *lengths])


def tolerance_text(manifest: Manifest, record: VersionRecord) -> str:
    """What gated outputs were held to."""
    found = manifest.tolerances.of(record.engine.precision)
    return (
        f"{record.engine.precision}: {found.absolute:g} + {found.relative:g} |reference| "
        f"+ {found.of_range:g} of the output's range"
    )


def reached_text(item: Reached) -> str:
    """A threshold with what was reached."""
    threshold = item.threshold
    return (
        f"{threshold.metric} of {threshold.output} {value_text(item.value)} on {rows_text(item)} "
        f"(agreed: {threshold_text(threshold)})"
    )


def errors_text(item: OutputErrors) -> str:
    """An output against the reference."""
    told = "" if item.gated else " (reported only)"
    if item.largest is None or item.p99 is None:
        return f"{item.output}: {_share(item.agreement)} of values equal{told}"
    parts = [f"largest {item.largest:.3g}", f"99 % under {item.p99:.3g}"]
    if item.cosine is not None:
        parts.append(f"cosine {item.cosine:.6f}")
    if item.argmax_agreement is not None:
        parts.append(f"same class {_share(item.argmax_agreement)}")
    return f"{item.output}: {', '.join(parts)}{told}"


def disturbed_text(item: Disturbed) -> str:
    """A metric under a disturbance."""
    what = f"{item.disturbance.kind} {item.disturbance.level:g}"
    metric = f"{item.threshold.metric} of {item.threshold.output}"
    if item.value is None:
        return f"{what}: does not apply to the inputs of this model"
    limit = item.disturbance.drop_max
    gate = "" if limit is None else f" (may be worse by {limit:g})"
    return (
        f"{what}: {metric} {value_text(item.value)}, as they are {value_text(item.undisturbed)}, "
        f"{item.rows} rows{gate}"
    )


def trial_name(item: Trial | EngineEntry) -> str:
    """An engine: its kind and precision."""
    kind = item.engine if isinstance(item, Trial) else item.kind
    return f"{kind} {item.precision}"


def engine_text(item: EngineEntry) -> str:
    """An engine of a version, and what it hangs on: its library, or for a portable one the system alone."""
    return f"{trial_name(item)} ({item.stamp.get('library') or item.stamp.get('os')})"


def trial_text(item: Trial) -> str:
    """An engine tried, with its figures and what became of it."""
    parts = [
        f"{'1 row' if timing.rows == 1 else f'{timing.rows} rows'} {timing.median_ms:.3g} ms"
        for timing in item.timings
    ]
    if item.error_max is not None:
        parts.append(f"error {item.error_max:.2g}")
    if item.metric is not None:
        parts.append(f"metric {value_text(item.metric)}")
    if item.bytes is not None:
        parts.append(bytes_text(item.bytes))
    return f"{trial_name(item)}: {', '.join([*parts, item.verdict])}"


def inspected_text(trial: Trial, item: Inspected) -> str:
    """What an engine for a GPU says of itself."""
    arithmetic = ", ".join(f"{count} in {name}" for name, count in sorted(item.precisions.items()))
    untold = f", {item.untold} of them by the graph's types alone" if item.untold else ""
    parts = [
        f"{item.library}, {item.layers} layers",
        f"convolutions and matrix products: {arithmetic or 'none'}{untold}",
        f"plan {bytes_text(item.plan_bytes)}",
        f"activations {bytes_text(item.activation_bytes)} a lane",
        *item.notes,
    ]
    return f"{trial_name(trial)}: {'; '.join(parts)}"


def bytes_text(count: int) -> str:
    """A size with a unit that reads well: 512 bytes, 1.4 MiB."""
    if count < 1024:
        return f"{count} bytes"
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1024:.1f} KiB"


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.2%}"
