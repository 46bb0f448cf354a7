"""Requests to send again: from the audit log's records, or by chance. Pure.

Knows: when the requests of records came, how arrivals are sped up, cut and drawn. Rules: the same records,
or the same seed, give the same arrivals. A record tells when it was written, in groups; its request came as
much earlier as its answer took, so arrivals are known to within a write to the disk. Leaves to others:
reading the log (`tui.livetune`), sending (`runtime.tuning`).
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from appliance.audit.kinds import Inference
from appliance.audit.record import Entry
from runtime.tuning import Arrivals


def recorded(entries: Sequence[Entry]) -> Arrivals:
    """The requests of these records; between two boots of the machine no time passes."""
    came: list[tuple[int, int]] = []
    ahead_ns, boot, last_ns = 0, "", 0
    for entry in entries:
        record = entry.record
        if not isinstance(record, Inference) or record.route == "shadow":
            continue
        at_ns = entry.monotonic_ns - record.total_ns
        if entry.boot_id != boot:
            ahead_ns, boot = last_ns - at_ns, entry.boot_id
        came.append((at_ns + ahead_ns, max(record.rows, 1)))
        last_ns = max(at_ns + ahead_ns, last_ns)
    came.sort()
    return _from_zero([at for at, _ in came], [rows for _, rows in came])


def poisson(rate: float, rows: int, requests: int, *, seed: int = 0) -> Arrivals:
    """`requests` of `rows` rows each at `rate` a second, independent of each other."""
    gaps = np.random.default_rng(seed).exponential(1e9 / rate, requests)
    return _from_zero([int(at) for at in np.cumsum(gaps)], [rows] * requests)


def sped(arrivals: Arrivals, speed: float) -> Arrivals:
    """The same at `speed` times the rate."""
    return _from_zero([round(at / speed) for at in arrivals.at_ns], arrivals.rows)


def cut(arrivals: Arrivals, pause_ns_max: int) -> Arrivals:
    """The same without what of a pause is longer: nothing is left of a request by then."""
    gaps = (min(later - sooner, pause_ns_max) for sooner, later in pairwise(arrivals.at_ns))
    return _from_zero(list(accumulate(gaps, initial=0)), arrivals.rows)


def filled(arrivals: Arrivals, requests: int) -> Arrivals:
    """The arrivals, at least two, over again until there are so many, as far apart as they are on average."""
    count = len(arrivals.at_ns)
    lap_ns = arrivals.at_ns[-1] * count // (count - 1)
    at_ns = [arrivals.at_ns[i % count] + lap_ns * (i // count) for i in range(requests)]
    return _from_zero(at_ns, [arrivals.rows[i % count] for i in range(requests)])


def busiest(arrivals: Arrivals, requests: int) -> Arrivals:
    """So many of the arrivals in a row, where they are the closest together."""
    last = len(arrivals.at_ns) - requests
    if last <= 0:
        return arrivals
    at = arrivals.at_ns
    start = min(range(last + 1), key=lambda place: at[place + requests - 1] - at[place])
    chosen = slice(start, start + requests)
    return _from_zero(at[chosen], arrivals.rows[chosen])


def halves(arrivals: Arrivals) -> tuple[Arrivals, Arrivals]:
    """The first and the second half of the arrivals, at least two, each from zero."""
    middle = len(arrivals.at_ns) // 2
    at, rows = arrivals.at_ns, arrivals.rows
    return _from_zero(at[:middle], rows[:middle]), _from_zero(at[middle:], rows[middle:])


def rate(arrivals: Arrivals) -> float:
    """Requests a second; 0 for a single one."""
    span_ns = arrivals.at_ns[-1]
    return (len(arrivals.at_ns) - 1) * 1e9 / span_ns if span_ns else 0.0


def _from_zero(at_ns: Sequence[int], rows: Sequence[int]) -> Arrivals:
    first = at_ns[0] if at_ns else 0
    return Arrivals(at_ns=tuple(at - first for at in at_ns), rows=tuple(rows))
