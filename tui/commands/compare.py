"""`holdfast compare`.

Knows: how versions beside each other read on a terminal. Rules: says how much each figure rests on, and
leaves the judgement to who reads it. Leaves to others: the figures (`tui.livecompare`).
"""

from rich.console import Console
from rich.table import Table

from appliance.config import StateConfig
from tui import wording
from tui.agreement import OutputAgreement
from tui.comparison import Agreement, Served
from tui.livecompare import CompareReport, compare_served
from tui.printing import cell, out, print_json, progress, table

_MEASURES = {
    "argmax": "largest score",
    "equality": "equal values",
    "difference": "difference",
}


def compare(state: StateConfig, model: str, *, requests: int, as_json: bool) -> None:
    """Compare and print. Raises as `compare_served`."""
    with progress("requests") as bar:
        task = bar.add_task("Reading the audit log", total=None)
        report = compare_served(
            state,
            model,
            requests=requests,
            progress=lambda found, wanted: bar.update(task, completed=found, total=wanted),
        )
    if as_json:
        print_json(report)
    else:
        _print(out(), report)


def _print(console: Console, report: CompareReport) -> None:
    console.print(cell(_scope(report), "dim"))
    console.print()
    console.print(_versions(report.versions))
    for served in report.versions:
        if served.failures:
            codes = ", ".join(f"{code} {number:,}" for code, number in served.failures.items())
            console.print(cell(f"version {served.version} failed with {codes}", "dim"))
    if report.agreement:
        console.print()
        _print_agreement(console, report.agreement)


def _scope(report: CompareReport) -> str:
    since = wording.moment(report.since)
    if not report.requests:
        return f"{report.model}: no requests since {since}, when these roles were decided"
    return (
        f"{report.model}: {wording.plural(report.requests, 'request')}, "
        f"{wording.moment(report.first_time)} to {wording.moment(report.last_time)} "
        f"(records {report.first_sequence} to {report.last_sequence}); roles since {since}"
    )


def _versions(versions: tuple[Served, ...]) -> Table:
    """One line a version; the failure rate with the rates between which the true one lies."""
    numbers = ("Version", "Answered", "Failed", "Failure rate", "p50", "p99", "Compute")
    shown = table("Role", *numbers, right=numbers, whole=numbers)
    for served in versions:
        shown.add_row(
            wording.role(served.role, served.per_mille),
            str(served.version),
            f"{served.answered:,}",
            f"{served.failed:,}",
            _rates(served.failure_low, served.failure_high),
            wording.latency(served.p50_ms or 0.0),
            wording.latency(served.p99_ms or 0.0),
            wording.latency(served.compute_p50_ms or 0.0),
        )
    return shown


def _rates(low: float | None, high: float | None) -> str:
    return wording.NOTHING if low is None or high is None else f"{low:.1%} to {high:.1%}"


def _print_agreement(console: Console, agreement: Agreement) -> None:
    told = (
        f"Shadow {agreement.version} answered {wording.plural(agreement.paired, 'request')} that the "
        f"active version answered too, {agreement.identical:,} of them with the same bytes."
    )
    if agreement.unread:
        others = wording.plural(agreement.unread, "other")
        told += f" {others} differed in answers too large for the log to hold."
    console.print(cell(told))
    if agreement.outputs:
        console.print(outputs_table(agreement.outputs))


def outputs_table(outputs: tuple[OutputAgreement, ...]) -> Table:
    """One line an output: over how many rows, and how it agrees."""
    numbers = ("Rows", "Agree", "Other shape", "Largest difference")
    shown = table("Output", "Compared by", *numbers, right=numbers, whole=("Compared by", *numbers))
    for item in outputs:
        agree = item.agreeing
        shown.add_row(
            cell(item.output),
            _MEASURES[item.measure],
            f"{item.rows:,}",
            wording.NOTHING if agree is None or not item.rows else f"{agree / item.rows:.2%}",
            f"{item.reshaped:,}",
            wording.NOTHING if item.difference_max is None else f"{item.difference_max:.2g}",
        )
    return shown
