"""How numbers read, and what the keys are called. Pure.

Knows: the short form of rates, durations, counts and shares that fits a table cell, and how an operator
writes a share; the console's keys. Rules: one quantity reads the same on the screen and in a command's
table; nothing known reads as "-", never as a zero. Leaves to others: layout and colour.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from appliance.deployment import Tuning

NOTHING = "-"
_SHARE = re.compile(r"\s*([0-9]{1,4}(?:\.[0-9]{1,4})?)\s*(%|‰|per cent|per mille)\s*")
_THOUSANDTHS = {"%": 10, "per cent": 10, "‰": 1, "per mille": 1}
_KILO = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of the console: what it is called in the footer and what the help page says."""

    key: str
    action: str
    label: str
    meaning: str


KEYS = (
    Key(
        key="a",
        action="activate",
        label="Activate",
        meaning="let the chosen version answer; asks why",
    ),
    Key(
        key="b",
        action="roll_back",
        label="Roll back",
        meaning="let the previous version answer again",
    ),
    Key(
        key="c",
        action="start_canary",
        label="Canary",
        meaning="let the chosen version answer a share",
    ),
    Key(
        key="p",
        action="promote",
        label="Promote",
        meaning="let the canary answer all requests",
    ),
    Key(
        key="s",
        action="start_shadow",
        label="Shadow",
        meaning="let the chosen version compute along for the record",
    ),
    Key(
        key="e",
        action="end",
        label="End",
        meaning="end the canary or shadow; of both, the chosen one",
    ),
    Key(
        key="r",
        action="retire",
        label="Retire",
        meaning="take the chosen version out of use for good",
    ),
    Key(key="question_mark", action="app.help", label="Help", meaning="this page"),
    Key(
        key="q",
        action="app.quit",
        label="Quit",
        meaning="leave the console; the runtime keeps serving",
    ),
)


def count(value: float) -> str:
    """A count in at most six cells: 950, 1.2 k, 34 k, 5.6 M."""
    for size, unit in _KILO:
        # 999.5 rounds up into the next unit, so that "1000" is never written.
        if value >= size * 0.9995:
            return f"{_three(value / size)} {unit}"
    return f"{value:.0f}"


def rate(per_second: float | None) -> str:
    """Events a second: 0.4/s, 12/s, 1.2 k/s; NOTHING before two looks have been taken."""
    if per_second is None:
        return NOTHING
    if 0 < per_second < 9.95:
        return f"{per_second:.1f}/s"
    return f"{count(per_second)}/s"


def latency(milliseconds: float) -> str:
    """A latency: 0.85 ms, 3.4 ms, 120 ms, 1.2 s; NOTHING for 0, which means no recent request."""
    if milliseconds <= 0:
        return NOTHING
    if milliseconds >= 999.5:
        return f"{_three(milliseconds / 1000)} s"
    if milliseconds < 0.995:
        return f"{milliseconds:.2f} ms"
    return f"{_three(milliseconds)} ms"


def span(seconds: float) -> str:
    """A duration in two units: 45 s, 12 min, 2 h 05 min, 3 d 4 h."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min" if minutes else f"{whole} s"


def ago(moment: str, now_ns: int) -> str:
    """How long before `now_ns` (Unix nanoseconds) the RFC 3339 `moment` was, such as "2 h ago".

    Returns `moment` unchanged when it is no time, so that nothing is hidden.
    """
    try:
        then = datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return moment or NOTHING
    seconds = int(now_ns / 1e9 - then)
    if seconds < 60:
        return "just now"
    if seconds >= 86_400:
        return f"{seconds // 86_400} d ago"
    return f"{seconds // 3600} h ago" if seconds >= 3600 else f"{seconds // 60} min ago"


def moment(text: str) -> str:
    """An RFC 3339 time in UTC to the second, such as 2026-11-20 23:44:02 UTC; else `text` unchanged."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except ValueError:
        return text or NOTHING


def version(number: int | None) -> str:
    """A version number, NOTHING for none."""
    return NOTHING if number is None else str(number)


def numbers(versions: Iterable[int]) -> str:
    """Version numbers, NOTHING for none: "1, 2"."""
    return ", ".join(map(str, versions)) or NOTHING


def share(per_mille: int) -> str:
    """A share of the requests, given in thousandths: 5%, 0.5%."""
    return f"{per_mille / 10:g}%"


def canary(number: int | None, per_mille: int) -> str:
    """A canary with its share, such as "4 5%"; NOTHING for none."""
    return NOTHING if number is None else f"{number} {share(per_mille)}"


def tuning(setting: Tuning | None) -> str:
    """A setting, such as "2 lanes on all cores, 16 rows, 400 us"; NOTHING for none of its own."""
    if setting is None:
        return NOTHING
    cores = plural(setting.threads, "thread") + " each" if setting.threads else "all cores"
    told = f"{plural(setting.lanes, 'lane')} on {cores}, up to {plural(setting.rows_max, 'row')}"
    if setting.delay_us_max:
        told += f", delay {setting.delay_us_max:,} us"
    return f"{told}, buckets {numbers(setting.bucket_rows)}" if setting.bucket_rows else told


def role(name: str, canary_per_mille: int) -> str:
    """A version's role as a cell, a canary's with its share: "active", "canary 5%", NOTHING for none."""
    return f"canary {share(canary_per_mille)}" if name == "canary" else name or NOTHING


def per_mille(text: str) -> int:
    """The thousandths in a share as an operator writes it; ValueError, saying the form, for others."""
    found = _SHARE.fullmatch(text)
    thousandths = Decimal(found[1]) * _THOUSANDTHS[found[2]] if found else Decimal(0)
    if not 1 <= thousandths <= 999 or thousandths != int(thousandths):
        raise ValueError("a share is 0.1% to 99.9%, such as 5%, 0.5% or 5 per mille")
    return int(thousandths)


def plural(number: int, noun: str) -> str:
    """A whole count with its noun: 1 version, 2 versions, 12,034 records."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def gpu(
    *, busy: float | None, free: int, total: int, celsius: int | None, watts: float | None
) -> str:
    """How a GPU fares: its share of time at work, its memory in bytes, its temperature and what it takes."""
    told = [
        "" if busy is None else f"{busy:.0%} busy",
        f"{(total - free) / 2**30:.1f} of {total / 2**30:.1f} GiB used" if total else "",
        "" if celsius is None else f"{celsius} °C",
        "" if watts is None else f"{watts:.0f} W",
    ]
    return ", ".join(word for word in told if word) or NOTHING


def _three(value: float) -> str:
    """`value` with one decimal below ten, whole from there."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
