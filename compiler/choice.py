"""Which of the proven engines is kept: measured on this box, one after another in turn.

Knows: how engines are timed and compared. Rules: the engines take turns, so that a busy moment hits all
alike; the smallest product of the two medians (one row, full batch) wins, so that both sizes weigh the
same whatever their scale. Leaves to others: proving them first (`proof`).
"""

from collections.abc import Mapping
from math import prod
from statistics import median

import numpy as np

from appliance.clock import Clock
from appliance.golden import Golden
from appliance.tensors import Array
from compiler.proof import served_outputs
from runtime.servable import Servable

TURNS_MIN, TURNS_MAX = 3, 200
TURN_NS_MAX = 400_000_000  # for all engines together at one batch size

Medians = dict[int, float]


def measure(servables: Mapping[str, Servable], golden: Golden, clock: Clock) -> dict[str, Medians]:
    """Median milliseconds of answering a request, by engine kind and rows (1 and the full batch).

    The servables are warm. Rows are golden ones.
    """
    medians: dict[str, Medians] = {kind: {} for kind in servables}
    batch_max = next(iter(servables.values())).interface.batch_max
    for rows, request in requests(golden, batch_max).items():
        for kind, times in _take_turns(servables, request, clock).items():
            medians[kind][rows] = median(times) / 1e6
    return medians


def requests(golden: Golden, batch_max: int) -> dict[int, dict[str, Array]]:
    """What is measured, by rows: one golden row and the full batch."""
    return {
        rows: _request(golden, rows, batched=batch_max > 0) for rows in sorted({1, batch_max or 1})
    }


def fastest(medians: Mapping[str, Medians]) -> str:
    """The kind with the smallest product of medians; the first of equal ones."""
    return min(medians, key=lambda kind: prod(medians[kind].values()))


def _take_turns(
    servables: Mapping[str, Servable], request: dict[str, Array], clock: Clock
) -> dict[str, list[int]]:
    times: dict[str, list[int]] = {kind: [] for kind in servables}
    start = clock.monotonic_ns()
    for turn in range(TURNS_MAX):
        if turn >= TURNS_MIN and clock.monotonic_ns() - start > TURN_NS_MAX:
            break
        for kind, servable in servables.items():
            began = clock.monotonic_ns()
            served_outputs(servable, request)
            times[kind].append(clock.monotonic_ns() - began)
    return times


def _request(golden: Golden, rows: int, *, batched: bool) -> dict[str, Array]:
    if not batched:
        return {name: array[0] for name, array in golden.inputs.items()}
    chosen = np.arange(rows) % golden.rows
    return {name: array[chosen] for name, array in golden.inputs.items()}
