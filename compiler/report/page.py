"""The report as one HTML page that needs nothing else: no script, no font, no picture from elsewhere.

Knows: the template and how a figure is written in it. Rules: the only room that imports jinja2; every value
is escaped, control characters are shown and not sent; the page forbids itself any other source
(Content-Security-Policy); light, dark and print come from its own style sheet. Leaves to others: plots
(`charts`), words (`text`).
"""

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path

import jinja2

from appliance.commands import printable
from appliance.manifest import Manifest
from appliance.proof import Timing, Trial
from appliance.store import VersionRecord
from compiler.proving.acceptance import threshold_text, value_text
from compiler.report import charts
from compiler.report.svg import number
from compiler.report.text import (
    GATED,
    REPORTED,
    bytes_text,
    inspected_text,
    rebuilt_text,
    sizes_text,
    tolerance_text,
    trial_name,
)

_TEMPLATE = Path(__file__).parent / "page.html"


def page(manifest: Manifest, record: VersionRecord, *, sheet: bytes | None = None) -> str:
    """The page. `sheet` is a PNG of golden rows as the engine takes them, None without images."""
    proof, trials = record.proof, record.trials
    return (
        _environment()
        .from_string(_TEMPLATE.read_text("utf-8"))
        .render(
            manifest=manifest,
            record=record,
            proof=proof,
            trials=trials,
            kept=next((trial for trial in trials if trial.kept), None),
            sizes=sorted({timing.rows for trial in trials for timing in trial.timings}),
            headline=[item for item in proof.reached if item.segment is None][:2],
            metrics=charts.metric_charts(proof.reached),
            latency=charts.latency_chart(trials),
            errors=charts.error_charts(proof),
            robustness=charts.robustness_charts(proof.disturbed),
            sizes_told=sizes_text(proof),
            tolerance=tolerance_text(manifest, record),
            facts=list(_facts(manifest, record)),
            gated=f"{GATED[0].upper()}{GATED[1:]}.",
            reported=f"{REPORTED[0].upper()}{REPORTED[1:]}.",
            sheet=None if sheet is None else base64.b64encode(sheet).decode(),
        )
    )


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "agreed": threshold_text,
        "at_rows": _at_rows,
        "inside": inspected_text,
        "figure": lambda value: "" if value is None else value_text(value),
        "number": lambda value: "" if value is None else number(value, 3),
        "rows": lambda rows: "1 row" if rows == 1 else f"{rows} rows",
        "share": lambda value: "" if value is None else f"{value:.2%}",
        "size": lambda value: "" if value is None else bytes_text(value),
        "throughput": _throughput,
        "words": charts.metric_words,
    }
    return made


def _shown(value: object) -> object:
    """Names from a hostile file must not carry control characters into the page either."""
    return printable(value) if type(value) is str else value


def _at_rows(timings: Sequence[Timing], rows: int) -> Timing | None:
    return next((timing for timing in timings if timing.rows == rows), None)


def _throughput(trial: Trial) -> str:
    """Rows a second at the most rows that were measured."""
    if not trial.timings:
        return ""
    timing = max(trial.timings, key=lambda item: item.rows)
    return f"{timing.rows / timing.median_ms * 1000:,.0f}" if timing.median_ms > 0 else ""


def _facts(manifest: Manifest, record: VersionRecord) -> Iterator[tuple[str, str]]:
    rows = manifest.served.batch_max
    if record.rebuilt is not None:
        yield "Rebuilt", rebuilt_text(record.rebuilt)
    if record.fallback is not None:
        yield "Fallback", f"{trial_name(record.fallback)}, while the engine does not fit the box"
    yield "Rows", f"at most {rows} a call" if rows else "one request at a time"
    steps = [(item.feeds, item.steps) for item in manifest.recipe.inputs]
    for feeds, before in steps:
        names = ", ".join(str(step.__struct_config__.tag) for step in before)
        yield f"Recipe of {feeds}", names or "as it is sent"
    if manifest.recipe.after:
        yield "After", ", ".join(str(step.__struct_config__.tag) for step in manifest.recipe.after)
    limits = manifest.limits
    if limits.latency_ms_max is not None:
        yield "Latency", f"at most {limits.latency_ms_max:g} ms at the median of one row"
    if limits.memory_bytes_max is not None:
        yield "Memory", f"at most {bytes_text(limits.memory_bytes_max)}"
    if manifest.calibration is not None:
        found = manifest.calibration
        yield "Calibration", f"{found.method} over {found.rows} rows, data {found.data_sha256}"
    yield "Trained by", manifest.provenance.training_code
    yield "Training data", manifest.provenance.data_sha256
    yield "Frameworks", ", ".join(f"{k} {v}" for k, v in manifest.provenance.frameworks.items())
    yield "Source", manifest.source_sha256
    yield "Sample", manifest.sample_sha256
    yield "Bundle", record.bundle_sha256
    yield "Signer", record.signer
    yield "Engine file", f"{record.engine.file}, {record.engine.sha256}"
