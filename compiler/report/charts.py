"""The report's plots, made from a version's figures.

Knows: which figures are plotted and how each plot is told in words. Rules: pure; what cannot be plotted
(nothing was measured, all errors are zero) has no plot, and the tables beside still say it. Leaves to others:
drawing (`svg`), the page.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.proof import Disturbed, Proof, Reached, Trial
from compiler.proving.metrics import CLASSIFYING
from compiler.report.svg import Axis, Bar, Line, bars, lines, number
from compiler.report.text import threshold_text, trial_name

_DECADES_MAX = 300  # FP64 has few powers of ten beyond, and none above 308
SEGMENTS_MAX = 40  # values of a column in a plot: the worst ones; the table has all


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A plot with its heading and what its colours mean, as (style class, text)."""

    title: str
    svg: str
    legend: tuple[tuple[str, str], ...] = ()


def metric_charts(reached: tuple[Reached, ...]) -> list[Chart]:
    """A plot for each metric of an output: all rows and every segment against the threshold."""
    groups: dict[tuple[str, str], list[Reached]] = {}
    for item in reached:
        groups.setdefault((item.threshold.metric, item.threshold.output), []).append(item)
    return [_metric(at, items) for at, items in enumerate(groups.values())]


def latency_chart(trials: tuple[Trial, ...]) -> list[Chart]:
    """Median latency by rows in a request, the kept engine before the others."""
    timed = [trial for trial in trials if trial.timings]
    if not timed:
        return []
    courses = [
        Line(
            label=trial_name(trial),
            points=tuple((timing.rows, timing.median_ms) for timing in trial.timings),
            kept=trial.kept,
        )
        for trial in timed
    ]
    rows = sorted({x for course in courses for x, _ in course.points})
    medians = [y for course in courses for _, y in course.points if y > 0]
    across = Axis(low=rows[0], high=max(rows[-1], rows[0] * 2), log=True, unit="rows in a request")
    told = "; ".join(
        f"{course.label}: "
        + ", ".join(f"{number(y, 3)} ms at {number(x)}" for x, y in course.points)
        for course in courses
    )
    title = "Median milliseconds of an answer, by rows"
    drawn = lines("latency", title, told, courses, (across, _decades(medians, " ms")))
    return [Chart(title=title, svg=drawn, legend=(("kept", "kept"), ("other", "the others")))]


def error_charts(proof: Proof) -> list[Chart]:
    """Errors by output, and the largest by number of rows in a call."""
    charts = []
    found = [item for item in proof.outputs if item.largest is not None and item.p99 is not None]
    figures = [(item, item.largest or 0.0, item.p99 or 0.0) for item in found]
    positive = [value for _, *pair in figures for value in pair if value > 0]
    if positive:
        rows = [
            Bar(
                label=item.output if item.gated else f"{item.output} (reported)",
                values=((largest, number(largest, 3), "first"), (p99, number(p99, 3), "second")),
            )
            for item, largest, p99 in figures
        ]
        title = "Absolute error by output"
        drawn = bars("errors", title, _told(rows), rows, _decades(positive))
        legend = (("first", "largest"), ("second", "99th percentile"))
        charts.append(Chart(title=title, svg=drawn, legend=legend))
    largest = max((item.largest for item in proof.buckets), default=0.0)
    if largest > 0 and len(proof.buckets) > 1:
        rows = [
            Bar(
                label=" ".join(
                    ["1 row" if item.rows == 1 else f"{item.rows} rows", item.lengths]
                ).strip(),
                values=((item.largest, number(item.largest, 3), "first"),),
            )
            for item in proof.buckets
        ]
        title = "Largest absolute error by rows in a call"
        charts.append(
            Chart(title=title, svg=bars("rows", title, _told(rows), rows, _from_0(largest)))
        )
    return charts


def robustness_charts(disturbed: tuple[Disturbed, ...]) -> list[Chart]:
    """A plot for each threshold: its metric under every disturbance that applies."""
    groups: dict[tuple[str, str], list[Disturbed]] = {}
    for item in disturbed:
        if item.value is not None:
            groups.setdefault((item.threshold.metric, item.threshold.output), []).append(item)
    return [_robustness(at, items) for at, items in enumerate(groups.values())]


def _metric(at: int, items: list[Reached]) -> Chart:
    threshold = items[0].threshold
    overall = [item for item in items if item.segment is None]
    parts = [item for item in items if item.segment is not None]
    worst = sorted(parts, key=lambda i: i.value, reverse=threshold.metric not in CLASSIFYING)
    shown = [*overall, *sorted(worst[:SEGMENTS_MAX], key=lambda item: str(item.segment))]
    rows = [
        Bar(
            label="all rows"
            if item.segment is None
            else f"{item.threshold.segment} {item.segment}",
            values=((item.value, number(item.value), "first"),),
            mark=item.threshold.minimum
            if item.threshold.maximum is None
            else item.threshold.maximum,
        )
        for item in shown
    ]
    title = f"{metric_words(threshold.metric)} of {threshold.output}"
    told = f"agreed: {threshold_text(threshold)}; " + _told(rows)
    axis = _metric_axis(threshold.metric in CLASSIFYING, rows)
    drawn = bars(f"metric-{at}", title, told, rows, axis)
    return Chart(title=title, svg=drawn, legend=(("first", "reached"), ("mark", "agreed")))


def _robustness(at: int, items: list[Disturbed]) -> Chart:
    threshold = items[0].threshold
    rows = [
        Bar(
            label=f"{item.disturbance.kind} {item.disturbance.level:g}",
            values=(
                (item.value or 0.0, number(item.value or 0.0), "first"),
                (item.undisturbed, number(item.undisturbed), "third"),
            ),
        )
        for item in items
    ]
    title = f"{metric_words(threshold.metric)} of {threshold.output}, disturbed"
    axis = _metric_axis(threshold.metric in CLASSIFYING, rows)
    drawn = bars(f"robust-{at}", title, _told(rows), rows, axis)
    return Chart(title=title, svg=drawn, legend=(("first", "disturbed"), ("third", "as they are")))


def _metric_axis(share: bool, rows: list[Bar]) -> Axis:  # noqa: FBT001 - one of two kinds of metric
    values = [value for row in rows for value, _, _ in row.values]
    marks = [row.mark for row in rows if row.mark is not None]
    return Axis(low=0.0, high=1.0) if share else _from_0(max([*values, *marks]))


def _from_0(high: float) -> Axis:
    return Axis(low=0.0, high=high if high > 10.0**-_DECADES_MAX else 1.0)


def _decades(positive: Iterable[float], unit: str = "") -> Axis:
    """A logarithmic axis of whole powers of ten around the values, which are above 0."""
    powers = [math.log10(value) for value in positive] or [0.0]
    low, high = math.floor(min(powers)), math.ceil(max(powers))
    low = min(max(low, -_DECADES_MAX), _DECADES_MAX - 1)
    high = min(max(high, low + 1), _DECADES_MAX)
    return Axis(low=10.0**low, high=10.0**high, log=True, unit=unit)


def _told(rows: list[Bar]) -> str:
    """The plot's values in words, for those who do not see it."""
    return "; ".join(
        f"{row.label}: " + " and ".join(text for _, text, _ in row.values) for row in rows
    )


def metric_words(metric: str) -> str:
    """A metric's name as a heading."""
    return metric.replace("_", " ").capitalize()
