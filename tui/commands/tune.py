"""`holdfast tune`: measured, shown, and decided when there is a reason.

Knows: how a search reads on a terminal, and when it becomes a decision. Rules: whether anybody can say yes is
asked before minutes are spent; a setting that does not meet the goal is never decided on; the figures are
part of the reason that is recorded. Leaves to others: measuring (`tui.livetune`), the decision's way
(`tui.commands.deciding`).
"""

from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from appliance.config import Config
from appliance.deployment import EndTuning, Tune, Tuning
from appliance.errors import ConfigError
from tui import wording
from tui.commands import deciding
from tui.gateway import RuntimeGateway
from tui.livetune import Tried, TuneReport, Wanted, tune_model
from tui.preview import Order
from tui.printing import cell, out, print_json, progress, someone_is_there, table
from tui.tuneplot import draw

_MEETS = {"yes": "green", "open": "yellow", "no": "red"}
# What decides is on a terminal of 80 cells too; these need a wider one.
_MORE = ("Requests", "Throughput", "Batch", "Buckets")
_WIDE_CELLS = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Who decides and why; nothing is decided without a reason."""

    actor: str
    reason: str
    ask: bool


def tune(config: Config, model: str, wanted: Wanted, words: Words, *, as_json: bool) -> bool:
    """Measure, print, and decide if there is a reason; whether a setting meets the goal.

    Raises as `tune_model` and `deciding.take`; ConfigError when nobody can be asked.
    """
    socket = config.state.control_socket
    if words.reason:
        _check_decidable(config, model, words)
    with progress("requests") as bar:
        task = bar.add_task(f"Measuring {model}", total=None)
        report = tune_model(
            config,
            model,
            wanted,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if not as_json:
        _print(out(), report)
    taken = None
    changed = report.chosen not in (None, report.present)
    if report.chosen is not None and changed and words.reason:
        act = Tune(tuning=report.chosen)
        reason = f"{words.reason} ({_evidence(report)})"
        order = Order(model=model, act=act, actor=words.actor, reason=reason)
        taken = deciding.take(socket, order, ask=words.ask)
    if as_json:
        print_json({**asdict(report), "decision_id": taken.decision_id if taken else None})
    elif taken:
        deciding.show(out(), taken)
    elif changed:
        out().print(cell("Nothing was decided; give a --reason and the runtime takes it up."))
    return report.chosen is not None


def end(config: Config, model: str, words: Words, *, as_json: bool) -> None:
    """Let the settings of the box hold again. Raises as `deciding.decide`."""
    order = Order(model=model, act=EndTuning(), actor=words.actor, reason=words.reason)
    deciding.decide(config.state.control_socket, order, ask=words.ask, as_json=as_json)


def _check_decidable(config: Config, model: str, words: Words) -> None:
    if words.ask and not someone_is_there():
        raise ConfigError(
            "a tuning needs a yes at its end, and nobody is at a terminal to give it",
            remedy="add --yes; without --reason it only measures",
        )
    with RuntimeGateway(config.state.control_socket) as gateway:
        gateway.models(model)


def _evidence(report: TuneReport) -> str:
    assert report.chosen is not None
    tried = report.of(report.chosen)
    return (
        f"measured at {wording.rate(report.requests_per_second)} with "
        f"{wording.plural(tried.requests, 'request')}: p99 {wording.latency(tried.p99_ms or 0.0)}, "
        f"at most {report.goal_ms:g} ms wanted"
    )


def _print(console: Console, report: TuneReport) -> None:
    console.print(cell(_scope(report), "dim"))
    console.print()
    console.print(_settings(report, wide=console.width >= _WIDE_CELLS))
    for tried in report.tried:
        if tried.trouble:
            told = f"{wording.tuning(tried.setting)}: {tried.trouble}"
            console.print(cell(told, "yellow"))
    console.print()
    if plot := draw(report, console.width):
        console.print(Text.from_ansi(plot))
        console.print()
    console.print(cell(_verdict(report), "bold"))


def _scope(report: TuneReport) -> str:
    told = f"{report.model} version {report.version}, {wording.rate(report.requests_per_second)}"
    if report.source == "poisson":
        return f"{told}, Poisson arrivals"
    first, last = wording.moment(report.first_time), wording.moment(report.last_time)
    return f"{told}, as recorded from {first} to {last}"


def _verdict(report: TuneReport) -> str:
    if report.chosen is None:
        told = f"No setting keeps p99 at {report.goal_ms:g} ms or below; nothing was changed."
        longest = max(tried.requests for tried in report.tried)
        near = any(t.meets == "open" and t.requests == longest for t in report.tried)
        return f"{told} Some may: measure longer with --number." if near else told
    if report.chosen == report.present:
        return "What runs now is the best that was found; there is nothing to change."
    return f"Best: {wording.tuning(report.chosen)}"


def _settings(report: TuneReport, *, wide: bool) -> Table:
    """One line a setting, what runs now first, the cheapest of those that meet the goal next."""
    lines = [
        (tried.setting, _cells(report, tried))
        for tried in sorted(report.tried, key=lambda tried: _place(report, tried))
    ]
    headings = [name for name in lines[0][1] if wide or name not in _MORE]
    words = ("", "Meets", "Buckets")
    numbers = [name for name in headings if name not in words]
    shown = table(*headings, right=numbers, whole=[name for name in headings if name != "Buckets"])
    for setting, cells in lines:
        style = "bold" if setting == report.chosen else ""
        shown.add_row(*(cells[name] for name in headings), style=style)
    return shown


def _cells(report: TuneReport, tried: Tried) -> dict[str, str | Text]:
    """The line of a setting, by heading."""
    setting = tried.setting
    return {
        "": _mark(report, setting),
        "Lanes": str(setting.lanes),
        "Threads": str(setting.threads or "all"),
        "Rows": str(setting.rows_max),
        "Delay": f"{setting.delay_us_max:,} us" if setting.delay_us_max else wording.NOTHING,
        "Requests": f"{tried.requests:,}",
        **_figures(tried),
        "Meets": cell(tried.meets, _MEETS[tried.meets]),
        "Buckets": wording.numbers(setting.bucket_rows),
    }


def _figures(tried: Tried) -> dict[str, str]:
    """What was measured, by heading; of a setting that was abandoned it means nothing."""
    told = {
        "Throughput": wording.rate(tried.throughput),
        "p50": wording.latency(tried.p50_ms or 0.0),
        "p99": wording.latency(tried.p99_ms or 0.0),
        "Batch": f"{tried.batch_rows:.1f}",
        "CPU a row": f"{tried.cpu_us_row:,.0f} us",
    }
    if tried.abandoned or not tried.batch_rows:
        return dict.fromkeys(told, wording.NOTHING)
    return told


def _place(report: TuneReport, tried: Tried) -> tuple[bool, int, int, float]:
    order = list(_MEETS)
    return (
        tried.setting != report.present,
        -tried.requests,
        order.index(tried.meets),
        tried.cpu_us_row,
    )


def _mark(report: TuneReport, setting: Tuning) -> str:
    marks = [("now", report.present), ("best", report.chosen)]
    return ", ".join(mark for mark, of in marks if setting == of)
