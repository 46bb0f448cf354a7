"""Small plots as inline SVG: bars with marks, lines with labels at their ends.

Knows: axes, ticks and where text fits. Rules: pure; colours come from the page's style sheet by class, so
that one plot is read in light, in dark and in print; every plot has a title and a description, every value a
tooltip; all text is escaped here. Leaves to others: what is plotted (`charts`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from appliance.commands import printable

WIDTH = 720
_ROW, _BAR, _GAP, _TOP, _BOTTOM, _RIGHT = 27, 10, 3, 10, 30, 64
_LETTER = 6.6  # pixels, of the 12 px sans serif text
_LABEL_LETTERS_MAX = 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis from `low` to `high`: plain, or logarithmic, when both are above 0."""

    low: float
    high: float
    log: bool = False
    unit: str = ""

    def share(self, value: float) -> float:
        """Where `value` lies, 0 at `low` and 1 at `high`; what is outside lies at the nearer end."""
        low, high, at = (self._scaled(number) for number in (self.low, self.high, value))
        return min(max((at - low) / (high - low), 0.0), 1.0)

    def ticks(self) -> list[float]:
        """Some round values between both ends."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            powers = range(first, last + 1, max((last - first) // 5, 1))
            return [10.0**power for power in powers]
        step = _round_step((self.high - self.low) / 5)
        count = math.floor((self.high - self.low) / step + 1e-9)
        return [self.low + step * number for number in range(count + 1)]

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.log else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A row of a bar plot: `values` as (value, its text, style class); `mark` is a line across it."""

    label: str
    values: tuple[tuple[float, str, str], ...]
    mark: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A course of (x, y) points with its name at its end; `kept` ones stand out."""

    label: str
    points: tuple[tuple[float, float], ...]
    kept: bool = False


def number(value: float, digits: int = 4) -> str:
    """A value for a label: so many significant digits at most, powers of ten beyond what reads well."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"
    return f"{value:.2g}"


def bars(name: str, title: str, description: str, rows: Sequence[Bar], axis: Axis) -> str:
    """A plot of horizontal bars, one group a row. `name` is unique on the page."""
    left = _gutter([row.label for row in rows])
    tall = max(len(row.values) for row in rows) * (_BAR + _GAP) + _ROW - _BAR
    height = _TOP + tall * len(rows) + _BOTTOM
    width = WIDTH - left - _RIGHT

    def x(value: float) -> float:
        return left + width * axis.share(value)

    parts = [_vertical(tick, x(tick), height, axis) for tick in axis.ticks()]
    for at, row in enumerate(rows):
        parts += _bar_row(row, _TOP + at * tall, tall, left, x)
    return _drawing(name, title, description, height, parts)


def lines(
    name: str, title: str, description: str, courses: Sequence[Line], axes: tuple[Axis, Axis]
) -> str:
    """A plot of lines over the x axis, the kept ones drawn last. `name` is unique on the page."""
    across, up = axes
    left, height = 64, 300
    right = _gutter([course.label for course in courses]) + 12
    width, tall = WIDTH - left - right, height - _TOP - _BOTTOM

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return left + width * across.share(point[0]), _TOP + tall * (1 - up.share(point[1]))

    ends = [place(course.points[-1])[1] for course in courses]
    parts = [
        _level(tick, place((across.low, tick))[1], left, left + width, up) for tick in up.ticks()
    ]
    known = sorted({x for course in courses for x, _ in course.points})
    parts += [
        _text(place((tick, up.low))[0], height - 10, number(tick), "tick middle") for tick in known
    ]
    parts.append(_text(left + width / 2, height + 6, across.unit, "tick middle"))
    for course, y in sorted(zip(courses, _apart(ends), strict=True), key=lambda pair: pair[0].kept):
        parts += _course(course, [place(point) for point in course.points], left + width + 10, y)
    return _drawing(name, title, description, height + 12, parts)


def _bar_row(
    row: Bar, top: float, tall: float, left: float, x: Callable[[float], float]
) -> list[str]:
    used = len(row.values) * (_BAR + _GAP)
    y = top + (tall - used) / 2
    parts = [_text(left - 8, top + tall / 2 + 4, row.label, "label end")]
    for value, text, style in row.values:
        long = max(x(value) - left, 1.5)
        parts.append(
            f'<rect class="{style}" x="{left:.1f}" y="{y:.1f}" width="{long:.1f}" '
            f'height="{_BAR}" rx="1.5"><title>{_safe(f"{row.label}: {text}")}</title></rect>'
        )
        parts.append(_text(left + long + 6, y + _BAR - 0.5, text, "value"))
        y += _BAR + _GAP
    if row.mark is not None:
        at = x(row.mark)
        parts.append(
            f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" '
            f'y1="{top + 2:.1f}" y2="{top + tall - 2:.1f}"/>'
        )
    return parts


def _course(
    course: Line, places: list[tuple[float, float]], label_x: float, label_y: float
) -> list[str]:
    style = "kept" if course.kept else "other"
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline class="line {style}" points="{path}"/>']
    for (x, y), (_, value) in zip(places, course.points, strict=True):
        parts.append(
            f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">'
            f"<title>{_safe(f'{course.label}: {number(value)}')}</title></circle>"
        )
    parts.append(_text(label_x, label_y + 4, course.label, f"label {style}"))
    return parts


def _vertical(tick: float, x: float, height: float, axis: Axis) -> str:
    line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{height - _BOTTOM}"/>'
    return line + _text(x, height - 12, f"{number(tick)}{axis.unit}", "tick middle")


def _level(tick: float, y: float, left: float, right: float, axis: Axis) -> str:
    line = f'<line class="grid" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + _text(left - 8, y + 4, f"{number(tick)}{axis.unit}", "tick end")


def _drawing(name: str, title: str, description: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-labelledby="{name}-title {name}-told" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{name}-title">{_safe(title)}</title>'
        f'<desc id="{name}-told">{_safe(description)}</desc>' + "".join(parts) + "</svg>"
    )


def _text(x: float, y: float, text: str, style: str) -> str:
    short = text if len(text) <= _LABEL_LETTERS_MAX else text[: _LABEL_LETTERS_MAX - 1] + "…"
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{_safe(short)}</text>'


def _safe(text: str) -> str:
    return escape(printable(text))


def _gutter(labels: Sequence[str]) -> float:
    longest = max((min(len(label), _LABEL_LETTERS_MAX) for label in labels), default=0)
    return 16 + _LETTER * longest


def _apart(places: Sequence[float], gap: float = 15.0) -> list[float]:
    """The places moved down as far as needed to be `gap` from one another, in their order."""
    moved, last = [0.0] * len(places), -math.inf
    for at in sorted(range(len(places)), key=lambda index: places[index]):
        moved[at] = last = max(places[at], last + gap)
    return moved


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * (1 - 1e-9))
