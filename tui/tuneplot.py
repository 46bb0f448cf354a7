"""The plot of a tuning: what each setting costs against how slow it is.

Knows: plotext, which draws text. Rules: the goal is a line, the chosen setting stands out by its shape and
not by its colour alone. Leaves to others: the figures (`tui.livetune`), colours or none (`tui.printing`).
"""

import plotext

from tui.livetune import Tried, TuneReport

WIDTH_MAX, HEIGHT = 100, 20
_BLUE, _GREEN, _ORANGE = (92, 170, 255), (90, 200, 130), (255, 170, 70)


def draw(report: TuneReport, width: int) -> str:
    """The plot as text with ANSI colours, at most `width` cells wide; "" when there is nothing to draw."""
    shown = [tried for tried in report.tried if tried.p99_ms is not None and not tried.abandoned]
    if not shown:
        return ""
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(min(width, WIDTH_MAX), HEIGHT)
    plotext.yscale("log")
    others = [tried for tried in shown if tried.setting not in (report.chosen, report.present)]
    _scatter(others, "other", "dot", _BLUE)
    _scatter([t for t in shown if t.setting == report.present], "now", "o", _ORANGE)
    if report.chosen != report.present:
        _scatter([t for t in shown if t.setting == report.chosen], "chosen", "#", _GREEN)
    plotext.hline(report.goal_ms, _ORANGE)
    plotext.title(
        f"p99 in ms over processor time a row in us; the line is the goal, {report.goal_ms:g} ms"
    )
    told: str = plotext.build()
    plotext.clear_figure()
    return told


def _scatter(tried: list[Tried], label: str, marker: str, colour: tuple[int, int, int]) -> None:
    if tried:
        costs, slow = [t.cpu_us_row for t in tried], [t.p99_ms for t in tried]
        plotext.scatter(costs, slow, label=label, marker=marker, color=colour)
