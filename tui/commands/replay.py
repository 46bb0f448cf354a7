"""`holdfast replay`.

Knows: how a replay reads on a terminal. Rules: says how much each figure rests on, and leaves the judgement to
who reads it. Leaves to others: the figures (`tui.livereplay`).
"""

from appliance.config import Config
from tui import wording
from tui.commands.compare import outputs_table
from tui.livereplay import ReplayReport
from tui.livereplay import replay as run
from tui.printing import cell, out, print_json, progress


def replay(
    config: Config,
    model: str,
    version: int,
    *,
    since_ns: int,
    until_ns: int,
    requests: int,
    as_json: bool,
) -> None:
    """Run and print. Raises as `tui.livereplay.replay`."""
    with progress("requests") as bar:
        task = bar.add_task("Replaying", total=None)
        report = run(
            config,
            model,
            version,
            since_ns=since_ns,
            until_ns=until_ns,
            requests=requests,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(report)
        return
    console = out()
    console.print(cell(_scope(report), "dim"))
    console.print()
    for line in _told(report):
        console.print(cell(line))
    if report.outputs:
        console.print()
        console.print(outputs_table(report.outputs))
    if report.differing:
        console.print()
        console.print(cell(f"Differing: {', '.join(report.differing)}"))
        console.print(cell("see `holdfast audit show ID --payload` for what was sent", "dim"))


def _scope(report: ReplayReport) -> str:
    return (
        f"{report.model} version {report.version}: {wording.plural(report.requests, 'request')}, "
        f"{wording.moment(report.first_time)} to {wording.moment(report.last_time)}"
    )


def _told(report: ReplayReport) -> list[str]:
    told = [
        f"{report.identical:,} of {wording.plural(report.requests, 'request')} got the same bytes as then."
    ]
    if report.failed:
        codes = ", ".join(f"{code} {number:,}" for code, number in report.failed.items())
        told.append(f"{sum(report.failed.values()):,} had an answer then and fail now: {codes}.")
    if report.mended or report.still_failed:
        told.append(
            f"Of those that failed then, {report.mended:,} get an answer now, "
            f"{report.still_failed:,} fail again."
        )
    if report.unread:
        told.append(f"{report.unread:,} differ from answers that are held nowhere any more.")
    if report.cut_off:
        told.append(f"{report.cut_off:,} continue sequences whose steps before were not kept.")
    if report.lost:
        told.append(f"{report.lost:,} have no record that names them: a fault came between.")
    return told
