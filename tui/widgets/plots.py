"""Traffic and latency of the chosen model over the last minutes.

Knows: how a course of moments becomes two plots. Rules: time runs to the right and ends now; the
vertical axis starts at zero, so that heights compare, and ends at a round number, so that it does not
jump at every tick. Leaves to others: collecting (`tui.history`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual_plotext import PlotextPlot

from tui import wording
from tui.snapshot import ModelLine

SECONDS_SHOWN = 240
_TIME_TICKS = {-240: "4 min ago", -120: "2 min ago", 0: "now"}
_ROUND = (1.0, 2.0, 3.0, 5.0, 10.0)
_BLUE, _GREEN, _ORANGE = (92, 170, 255), (90, 200, 130), (255, 170, 70)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line of a plot: a value at each of `seconds` (0 or less), in an RGB colour."""

    seconds: tuple[float, ...]
    values: tuple[float, ...]
    colour: tuple[int, int, int]


class Plots(Horizontal):
    """Requests a second on the left, p50 and p99 on the right."""

    def __init__(self) -> None:
        super().__init__(id="plots")
        self._traffic = CoursePlot("Requests a second")
        self._latency = CoursePlot(
            "Latency in ms: [rgb(255,170,70)]p99[/] above [rgb(90,200,130)]p50[/]"
        )

    def compose(self) -> ComposeResult:
        """The two plots."""
        yield self._traffic
        yield self._latency

    def show(self, model: ModelLine | None) -> None:
        """Show the course of `model`, empty axes for none."""
        course = model.traffic.course if model else ()
        seconds = tuple(moment.seconds for moment in course)
        requests = tuple(moment.requests_per_second for moment in course)
        p50 = tuple(moment.p50_ms for moment in course)
        p99 = tuple(moment.p99_ms for moment in course)
        self._traffic.show([Curve(seconds=seconds, values=requests, colour=_BLUE)])
        self._latency.show(
            [
                Curve(seconds=seconds, values=p99, colour=_ORANGE),
                Curve(seconds=seconds, values=p50, colour=_GREEN),
            ]
        )


class CoursePlot(PlotextPlot):
    """One plot over the last SECONDS_SHOWN seconds."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.border_title = title
        self._curves: list[Curve] = []

    def on_mount(self) -> None:
        """Draw empty axes until there is something to show."""
        super().on_mount()
        self._draw()

    def show(self, curves: Sequence[Curve]) -> None:
        """Draw `curves`, the first one below the others."""
        if list(curves) != self._curves:
            self._curves = list(curves)
            self._draw()

    def _draw(self) -> None:
        self.plt.clear_figure()
        for curve in self._curves:
            self.plt.plot(curve.seconds, curve.values, color=curve.colour, marker="braille")
        top = round_up(max((max(curve.values, default=0.0) for curve in self._curves), default=0.0))
        self.plt.xaxes(True, False)  # noqa: FBT003 - plotext's own signature: lower, upper
        self.plt.yaxes(True, False)  # noqa: FBT003 - left, right
        self.plt.xlim(-SECONDS_SHOWN, 0)
        self.plt.ylim(0, top)
        self.plt.xticks(list(_TIME_TICKS), list(_TIME_TICKS.values()))
        self.plt.yticks([0, top / 2, top], [_tick(0), _tick(top / 2), _tick(top)])
        self.refresh()


def round_up(value: float) -> float:
    """The next of 1, 2, 3, 5 times a power of ten at or above `value`; 1 for nothing."""
    if value <= 0:
        return 1.0
    size: float = 10.0 ** math.floor(math.log10(value))
    return next((step * size for step in _ROUND if step * size >= value), 10.0 * size)


def _tick(value: float) -> str:
    """`value` right-aligned, so that both plots begin in the same column."""
    text = f"{value:g}" if value < 1000 else wording.count(value)
    return f"{text:>5}"
