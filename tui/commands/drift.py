"""`holdfast drift check`.

Knows: how a drift report reads on a terminal. Rules: the gravest findings come first, and a report says
where it was written; what is quiet is counted, never hidden. Leaves to others: making the report
(`tui.livecheck`).
"""

from collections.abc import Sequence
from itertools import pairwise

from rich.console import Console
from rich.table import Table

from appliance.audit.kinds import DriftChecked
from appliance.config import StateConfig
from appliance.drift.report import DriftReport, Finding, ValueShares, Verdict
from appliance.files import sha256_file
from tui import wording
from tui.livecheck import check_served, write_report
from tui.noting import leave_note
from tui.printing import aside, cell, out, print_json, progress, table

FINDINGS_SHOWN = 12
FEATURES_DRAWN = 2
BAR_CELLS = 24
_GRAVITY = (Verdict.DRIFT, Verdict.REAL_BUT_SMALL, Verdict.TOO_LITTLE_DATA, Verdict.QUIET)
_STYLES = {
    Verdict.DRIFT: "bold red",
    Verdict.REAL_BUT_SMALL: "yellow",
    Verdict.TOO_LITTLE_DATA: "yellow",
    Verdict.QUIET: "green",
}


def check(state: StateConfig, model: str, *, version: int | None, rows: int, as_json: bool) -> bool:
    """Check, write the report, print it; True when drift was found. Raises as `check_served`."""
    with progress("rows") as bar:
        task = bar.add_task("Reading the audit log", total=None)
        report = check_served(
            state,
            model,
            version=version,
            rows=rows,
            progress=lambda found, wanted: bar.update(task, completed=found, total=wanted),
        )
    if as_json:
        print_json(report)
    else:
        _print_report(out(), report)
    path = write_report(state, report)
    leave_note(state, _checked(report, sha256_file(path)))
    # Beside JSON the remark goes to standard error, so that a pipe gets the report alone.
    told = aside() if as_json else out()
    told.print(cell(f"Report written to {path}"), soft_wrap=True)
    # Last, because what was drawn above may have scrolled the first line away.
    told.print(cell(f"Verdict: {report.verdict}", _STYLES[report.verdict]))
    return report.verdict is Verdict.DRIFT


def _checked(report: DriftReport, sha256: str) -> DriftChecked:
    """What the log is told of `report`, whose file has the digest `sha256`."""
    return DriftChecked(
        model=report.model,
        version=report.version,
        report_sha256=sha256,
        verdict=str(report.verdict),
        findings=len(report.findings),
        rows=report.rows,
        first_sequence=report.first_sequence,
        last_sequence=report.last_sequence,
        by="",
    )


def _print_report(console: Console, report: DriftReport) -> None:
    console.print(cell(f"{report.model} version {report.version}: ", "bold"), end="")
    console.print(cell(report.verdict, _STYLES[report.verdict]))
    console.print(cell(_scope(report), "dim"))
    console.print()
    found = sorted(report.findings, key=_gravity)
    console.print(_findings(found[:FINDINGS_SHOWN]))
    if len(found) > FINDINGS_SHOWN:
        rest = wording.plural(len(found) - FINDINGS_SHOWN, "finding")
        console.print(cell(f"and {rest} no graver than these; the report has them all", "dim"))
    console.print()
    for shares in _worst(report, found):
        console.print(_shares(shares, console))
        console.print()


def _scope(report: DriftReport) -> str:
    copies = f", {report.copies:,} of them copies" if report.copies else ""
    return (
        f"{wording.plural(report.rows, 'live row')}{copies}, answered {report.first_time} to "
        f"{report.last_time} (records {report.first_sequence} to {report.last_sequence}), "
        f"against {wording.plural(report.reference_rows, 'reference row')}"
    )


def _gravity(finding: Finding) -> tuple[int, float]:
    relative = finding.effect / finding.effect_min if finding.effect_min else finding.effect
    return _GRAVITY.index(finding.verdict), -relative


def _findings(findings: Sequence[Finding]) -> Table:
    """One line a finding: drift is a p under its level with an effect of at least its least."""
    shown = table(
        "Feature",
        "What",
        "p",
        "Effect",
        "n",
        "Verdict",
        right=("p", "Effect", "n"),
        whole=("What", "p", "Effect", "n", "Verdict"),
    )
    for finding in findings:
        shown.add_row(
            cell(finding.feature),
            finding.kind,
            f"{finding.p:.2g} of {finding.level:.2g}",
            f"{finding.effect:.3f} of {finding.effect_min:.2g}",
            f"{finding.n:,}",
            cell(finding.verdict, _STYLES[finding.verdict]),
        )
    return shown


def _worst(report: DriftReport, found: Sequence[Finding]) -> list[ValueShares]:
    """The shares of the gravest features that are not quiet, each once."""
    values = {shares.feature: shares for shares in report.values}
    loud = (Verdict.DRIFT, Verdict.REAL_BUT_SMALL)
    names = dict.fromkeys(finding.feature for finding in found if finding.verdict in loud)
    return [values[name] for name in list(names)[:FEATURES_DRAWN] if name in values]


def _shares(shares: ValueShares, console: Console) -> Table:
    """Reference beside live, one bin a line."""
    block = "#" if console.options.ascii_only else "\u2588"
    shown = table(shares.feature, "Reference", "", "Live", "", right=("Reference", "Live"))
    lines = list(zip(_bins(shares), shares.reference, shares.live, strict=True))
    if shares.reference_missing or shares.live_missing:
        lines.append(("missing", shares.reference_missing, shares.live_missing))
    top = max((max(reference, live) for _, reference, live in lines), default=1.0) or 1.0
    for name, reference, live in lines:
        bars = [block * round(BAR_CELLS * share / top) for share in (reference, live)]
        shown.add_row(
            cell(name),
            f"{reference:.1%}",
            cell(bars[0], "cyan"),
            f"{live:.1%}",
            cell(bars[1], "red"),
        )
    return shown


def _bins(shares: ValueShares) -> tuple[str, ...]:
    if shares.labels or not shares.edges:
        return shares.labels
    edges = [f"{edge:.3g}" for edge in shares.edges]
    inner = (f"{low} to {high}" for low, high in pairwise(edges))
    return (f"under {edges[0]}", *inner, f"over {edges[-1]}")
