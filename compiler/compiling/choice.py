"""Which engine is kept: measured on this box, one after another in turn.

Knows: how engines are timed and compared. Rules: the engines take turns, so that a busy moment hits all
alike; the smallest product of the medians (one row, full batch) is the fastest, so that both sizes weigh
the same whatever their scale. Leaves to others: proving them (`proof`), what is kept (`candidates`).
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import TypeVar

import numpy as np

from appliance.clock import Clock
from appliance.errors import LimitMissed
from appliance.golden import Golden
from appliance.manifest import Limits
from appliance.proof import Timing
from appliance.tensors import Array
from compiler.proving.running import served_outputs
from runtime.servable import Servable

TURNS_MIN, TURNS_MAX = 3, 200
TURN_NS_MAX = 400_000_000  # for all engines together at one batch size

Timings = tuple[Timing, ...]
Key = TypeVar("Key")


def measure(servables: Mapping[Key, Servable], golden: Golden, clock: Clock) -> dict[Key, Timings]:
    """How long each engine takes to answer a request of one row, and one of the full batch.

    The servables are warm. Rows are golden ones.
    """
    timings: dict[Key, Timings] = dict.fromkeys(servables, ())
    batch_max = next(iter(servables.values())).interface.batch_max
    for rows, request in requests(golden, batch_max).items():
        for key, times in _take_turns(servables, request, clock).items():
            timings[key] += (_timing(rows, times),)
    return timings


def requests(golden: Golden, batch_max: int) -> dict[int, dict[str, Array]]:
    """What is measured, by rows: one golden row and the full batch."""
    return {
        rows: _request(golden, rows, batched=batch_max > 0) for rows in sorted({1, batch_max or 1})
    }


def by_speed(timings: Mapping[Key, Timings]) -> list[Key]:
    """The engines, the smallest product of medians first; equal ones in the order given."""
    return sorted(timings, key=lambda key: prod(item.median_ms for item in timings[key]))


def check_latency(timings: Timings, limits: Limits) -> None:
    """Raise LimitMissed when the median of one row is over the spec's limit."""
    found, allowed = timings[0].median_ms, limits.latency_ms_max
    if allowed is not None and found > allowed:
        raise LimitMissed(
            f"answering one row takes {found:.3g} ms, over {allowed:g}",
            remedy="raise latency_ms_max in the spec's [limits], allow other precisions with "
            'precision = "auto", or give a smaller model',
        )


def _timing(rows: int, times: Sequence[int]) -> Timing:
    milliseconds = np.asarray(times) / 1e6
    return Timing(
        rows=rows,
        median_ms=round(float(np.median(milliseconds)), 4),
        p99_ms=round(float(np.percentile(milliseconds, 99)), 4),
    )


def _take_turns(
    servables: Mapping[Key, Servable], request: dict[str, Array], clock: Clock
) -> dict[Key, list[int]]:
    times: dict[Key, list[int]] = {key: [] for key in servables}
    start = clock.monotonic_ns()
    for turn in range(TURNS_MAX):
        if turn >= TURNS_MIN and clock.monotonic_ns() - start > TURN_NS_MAX:
            break
        for key, servable in servables.items():
            began = clock.monotonic_ns()
            served_outputs(servable, request)
            times[key].append(clock.monotonic_ns() - began)
    return times


def _request(golden: Golden, rows: int, *, batched: bool) -> dict[str, Array]:
    if not batched:
        return {name: array[0, ...] for name, array in golden.inputs.items()}
    chosen = np.arange(rows) % golden.rows
    return {name: array[chosen] for name, array in golden.inputs.items()}
