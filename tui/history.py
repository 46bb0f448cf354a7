"""A ring of past statuses, and the rates that follow from their counters. Pure.

Knows: what the runtime counted at each look of the last minutes. Rules: a rate is a difference of
counters over a difference of the runtime's own clock; a runtime that restarted, or a clock that stepped
back, starts a new history. Leaves to others: looking (`tui.gateway`).
"""

from collections import deque
from collections.abc import Iterator
from itertools import pairwise

from runtime.protocol import control_pb2 as wire
from tui.snapshot import Moment, Traffic

MOMENTS_MAX = 240
# The table's rate is an average over at least this long, so that it can be read; the plot is not.
SMOOTH_SECONDS = 5.0
_Counted = tuple[int, wire.ModelStatus]


class History:
    """What was seen of one runtime, newest last, at most `moments_max` looks."""

    def __init__(self, moments_max: int = MOMENTS_MAX) -> None:
        self._seen: deque[wire.StatusReply] = deque(maxlen=moments_max)

    def add(self, status: wire.StatusReply) -> None:
        """Remember `status`; forget all before it when it is not their continuation."""
        if self._seen and not _continues(self._seen[-1], status):
            self._seen.clear()
        self._seen.append(status)

    def traffic(self, model: str) -> Traffic:
        """The newest counters of `model` with its rates; zeros when it has not been seen."""
        looks = list(self._looks(model))
        if not looks:
            return Traffic()
        newest = looks[-1][1]
        return Traffic(
            answered=newest.answered,
            failed=newest.failed,
            rows=newest.rows,
            batches=newest.batches,
            queued=newest.queued,
            p50_ms=newest.p50_ms,
            p99_ms=newest.p99_ms,
            requests_per_second=_smooth_rate(looks),
            course=tuple(_course(looks)),
        )

    def _looks(self, model: str) -> Iterator[_Counted]:
        for status in self._seen:
            for line in status.models:
                if line.name == model:
                    yield status.wall_ns, line


def _continues(before: wire.StatusReply, after: wire.StatusReply) -> bool:
    return before.started_wall_ns == after.started_wall_ns and before.wall_ns < after.wall_ns


def _smooth_rate(looks: list[_Counted]) -> float | None:
    newest = looks[-1]
    past = [look for look in looks[:-1] if newest[0] - look[0] >= SMOOTH_SECONDS * 1e9]
    since = past[-1] if past else looks[0]
    return None if since is newest else _rate(since, newest)


def _rate(before: _Counted, after: _Counted) -> float:
    """Requests a second between two looks, answered and failed together."""
    requests = after[1].answered + after[1].failed - before[1].answered - before[1].failed
    return max(0, requests) / ((after[0] - before[0]) / 1e9)


def _course(looks: list[_Counted]) -> Iterator[Moment]:
    newest_ns = looks[-1][0]
    for before, after in pairwise(looks):
        yield Moment(
            seconds=(after[0] - newest_ns) / 1e9,
            requests_per_second=_rate(before, after),
            p50_ms=after[1].p50_ms,
            p99_ms=after[1].p99_ms,
        )
