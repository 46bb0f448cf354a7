"""Which settings of a model to measure, and which of them is best. Pure.

Knows: the order of the search, how long each round measures, and how two settings compare. Rules: a few
ordered rounds instead of a full grid: lanes and threads first, which decide the most, then batches for the
best of those, then the best few again and longer; what runs now is in every round, so that it is only
replaced by what is better under the same load. Leaves to others: measuring (`runtime.tuning`), deciding.

A setting meets the goal when its 99th percentile does beyond chance: 97.5 times in 100 the true share of late
requests is below a hundredth (the upper end of Wilson's interval). With a thousand requests three may be
late, with two thousand eleven. Of those that meet it the best is the one that takes the least processor time
a row, since what it leaves is room for more; where that makes no difference, what runs now, then the
plainest, then the lowest p99.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from msgspec.structs import replace

from appliance.deployment import Tuning
from runtime.tuning import Measured
from tui.comparison import interval

LANES_MAX = 8
LAYOUTS_KEPT, BATCHES_KEPT, FINALISTS = 2, 6, 3
LATE_SHARE = 0.01
SAME_COST = 1.1  # costs within so much of the least are taken for equal: runs differ by as much
SHARED_ROWS = 2.0  # in a batch, on average, from which on it may be worth padding
DELAY_SHARES = (16, 4)  # of the goal: one part in so many

Verdict = Literal["yes", "no", "open"]
Found: TypeAlias = Mapping[Tuning, Measured]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Settings to be measured, each with so many requests; after it at most `left` requests are to come."""

    settings: tuple[Tuning, ...]
    requests: int
    left: int


def rounds(
    present: Tuning, *, cores: int, batch_max: int, goal_us: int, requests: int
) -> Generator[Round, Found, None]:
    """The rounds of a search; each wants what was found of its settings. The last has `requests` requests.

    present: what runs now, its rows within `batch_max`. cores: that the model may use. batch_max: rows of the largest batch.
    """
    short, middle = max(requests // 10, 1), max(requests // 4, 1)
    batches = list(_batches(batch_max, goal_us))
    # At most: what was kept may be what runs now, or be there twice.
    last = (FINALISTS + 2) * requests
    third = (BATCHES_KEPT + 1) * middle + last
    second = (LAYOUTS_KEPT * len(batches) + 1) * short + third

    laid_out = [_laid_out(present, batch_max, layout) for layout in layouts(cores)]
    first = _once(present, laid_out)
    found = yield Round(settings=first, requests=short, left=second)
    kept = [setting for setting in ranked(found) if setting in laid_out][:LAYOUTS_KEPT]
    tried = [replace(setting, **batch) for setting in kept for batch in batches]
    found = yield Round(settings=_once(present, tried), requests=short, left=third)
    found = yield Round(
        settings=_once(present, ranked(found)[:BATCHES_KEPT]), requests=middle, left=last
    )
    finalists = ranked(found)[:FINALISTS]
    padded = [_padded(each) for each in finalists[:1] if found[each].batch_rows >= SHARED_ROWS]
    yield Round(settings=_once(present, finalists + padded), requests=requests, left=0)


def layouts(cores: int) -> list[tuple[int, int]]:
    """Lanes and threads of each: all cores shared by 1, 2, 4 lanes and so on, then half of them."""
    lanes = [number for number in (1, 2, 4, 8) if number <= min(cores, LANES_MAX)]
    halves = [(number, cores // (2 * number)) for number in lanes if cores // (2 * number)]
    return [(number, 0) for number in lanes] + halves


def ranked(found: Found) -> list[Tuning]:
    """The measured settings, the most promising first."""
    able = [setting for setting, measured in found.items() if not measured.trouble]
    return sorted(able, key=lambda setting: _rank(found[setting]))


def verdict(measured: Measured) -> Verdict:
    """Whether the setting meets the goal; "open" where so few requests do not tell."""
    if measured.trouble or measured.abandoned or not measured.requests:
        return "no"
    low, high = interval(measured.late, measured.requests)
    assert low is not None
    assert high is not None
    if high <= LATE_SHARE:
        return "yes"
    return "no" if low > LATE_SHARE else "open"


def joined(one: Measured, other: Measured) -> Measured:
    """Two measurements of one setting, both with answers or troubled, as one.

    Percentiles are those of the slower one; the cost is the lower one, since whatever else the machine was at
    only adds to it.
    """
    requests = one.requests + other.requests
    both = (one, other)
    return Measured(
        requests=requests,
        late=one.late + other.late,
        abandoned=one.abandoned or other.abandoned,
        throughput=_mean([(each.requests, each.throughput) for each in both]),
        p50_ms=_slower(one.p50_ms, other.p50_ms),
        p99_ms=_slower(one.p99_ms, other.p99_ms),
        batch_rows=_mean([(each.requests, each.batch_rows) for each in both]),
        cpu_us_row=min(one.cpu_us_row, other.cpu_us_row),
        trouble=one.trouble or other.trouble,
    )


def best(found: Found, present: Tuning) -> Tuning | None:
    """The best of the settings that meet the goal, None when none does."""
    able = [setting for setting, measured in found.items() if verdict(measured) == "yes"]
    if not able:
        return None
    least = min(found[setting].cpu_us_row for setting in able)
    cheap = [setting for setting in able if found[setting].cpu_us_row <= SAME_COST * least]
    if present in cheap:
        return present
    return min(cheap, key=lambda setting: (*_extras(setting), found[setting].p99_ms or 0.0))


def _slower(one: float | None, other: float | None) -> float | None:
    """The larger of two times; None when either of them got no answer."""
    return None if one is None or other is None else max(one, other)


def _mean(parts: Sequence[tuple[int, float]]) -> float:
    """The mean of rates weighted by what was counted (harmonic); 0 when one of them is 0."""
    if not all(rate for _, rate in parts):
        return 0.0
    return sum(count for count, _ in parts) / sum(count / rate for count, rate in parts)


def _extras(setting: Tuning) -> tuple[int, int, int]:
    """What makes a setting less plain than others: buckets, a delay, lanes."""
    return len(setting.bucket_rows), setting.delay_us_max, setting.lanes


def _rank(measured: Measured) -> tuple[bool, float]:
    """By cost where few enough were late, then by how many were."""
    share = measured.late / max(measured.requests, 1)
    missed = measured.abandoned or share > LATE_SHARE
    return missed, share if missed else measured.cpu_us_row


def _laid_out(present: Tuning, batch_max: int, layout: tuple[int, int]) -> Tuning:
    lanes, threads = layout
    return replace(
        present,
        rows_max=batch_max,
        delay_us_max=0,
        bucket_rows=(),
        lanes=lanes,
        threads=threads,
    )


def _batches(batch_max: int, goal_us: int) -> Iterable[dict[str, int]]:
    """Sizes from one row to the largest, by fours, each without a delay; the large ones also with one."""
    sizes = sorted({batch_max, *(4**power for power in range(10) if 4**power < batch_max)})
    for rows in sizes:
        yield {"rows_max": rows, "delay_us_max": 0}
    for rows in sizes[1:][-2:]:
        for share in DELAY_SHARES:
            yield {"rows_max": rows, "delay_us_max": _rounded(goal_us // share)}


def _padded(setting: Tuning) -> Tuning:
    """The setting with buckets by doubling."""
    powers = (2**power for power in range(20))
    sizes = {setting.rows_max, *(rows for rows in powers if rows < setting.rows_max)}
    return replace(setting, bucket_rows=tuple(sorted(sizes)))


def _rounded(number: int) -> int:
    """To two digits, so that it can be read."""
    size = int(10 ** max(len(str(number)) - 2, 0))
    return number // size * size


def _once(present: Tuning, settings: Sequence[Tuning]) -> tuple[Tuning, ...]:
    """What runs now, then the settings, each once."""
    return tuple(dict.fromkeys((present, *settings)))
