"""Tuning one model of a box: from its log, its store and a measuring process to a report.

Knows: which version is measured, with which requests, and what runs now. Rules: reads only, so the runtime
need not be up and is not touched; every setting of a round gets the same requests. Leaves to others: the
order of the search (`tui.search`), measuring (`runtime.tuning`), drawing and deciding (`tui.commands.tune`).
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from msgspec.structs import replace

from appliance.audit.kinds import Inference
from appliance.audit.reader import AuditReader
from appliance.audit.record import Entry
from appliance.clock import timestamp
from appliance.config import Config
from appliance.deployment import Deployment, Tuning
from appliance.errors import EngineLoad, UnknownRecord, UnknownVersion
from appliance.store import Store
from runtime.tuning import Arrivals, Measured, Measuring, Order
from tui.arrivals import busiest, cut, filled, halves, poisson, rate, recorded, sped
from tui.search import LATE_SHARE, Round, Verdict, best, joined, rounds, verdict

# The log is read backwards in stretches of so many records, so that memory stays within bounds.
_STRETCH_RECORDS = 16_384
# A pause of so many goals leaves nothing of what came before.
_PAUSE_GOALS, _PAUSE_NS_MIN = 10, 50_000_000

Progress: TypeAlias = Callable[[int, int], None]
Measure: TypeAlias = Callable[[Tuning, Arrivals, int, Callable[[int], None]], Measured]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to tune for: the goal, and the requests to measure with.

    `requests` is how many a finalist is measured with. They are the last ones of the log, or with `per_second`
    Poisson arrivals at that rate of `rows` rows each; both at `speed` times their pace.
    """

    p99_ms: float
    requests: int
    per_second: float | None = None
    rows: int = 1
    speed: float = 1.0

    @property
    def goal_ns(self) -> int:
        """The goal in nanoseconds."""
        return round(self.p99_ms * 1e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One setting and the longest that was measured of it; see `runtime.tuning.Measured`.

    `meets` says whether the 99th percentile meets the goal: "open" where so few requests do not tell.
    """

    setting: Tuning
    meets: Verdict
    requests: int
    late: int
    abandoned: bool
    throughput: float
    p50_ms: float | None
    p99_ms: float | None
    batch_rows: float
    cpu_us_row: float
    trouble: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneReport:
    """What was tried for `model`, whose active `version` was measured, in the order of the search.

    `present` is what runs now, `chosen` the best that meets the goal, None when none does. Requests were
    sent at `requests_per_second` on average; `source` is "log" or "poisson"; of the log, `first_time` and
    `last_time` are RFC 3339 UTC of the oldest and newest record, else "".
    """

    model: str
    version: int
    goal_ms: float
    source: str
    first_time: str
    last_time: str
    requests_per_second: float
    present: Tuning
    chosen: Tuning | None
    tried: tuple[Tried, ...]

    def of(self, setting: Tuning) -> Tried:
        """What was measured of `setting`, which must have been tried."""
        return next(tried for tried in self.tried if tried.setting == setting)


def tune_model(
    config: Config,
    model: str,
    wanted: Wanted,
    progress: Progress = lambda _done, _total: None,
) -> TuneReport:
    """Search for the best setting of `model`'s active version.

    `progress` is told (done, wanted) requests. Raises UnknownModel, UnknownVersion when none is active,
    UnknownRecord when the log has no requests to send again, EngineLoad when the version cannot be
    measured, StoreError, StateError when there is no log, AuditError.
    """
    store = Store(config.state.store)
    store.versions(model)
    with AuditReader(config.state.audit_log) as reader:
        deployment = reader.last_outcomes().get(model, Deployment(model=model))
        if deployment.active is None:
            raise UnknownVersion(
                f"no version of '{model}' is active, so there is nothing to tune",
                remedy="activate one first",
            )
        entries = [] if wanted.per_second else _last_requests(reader, model, wanted.requests)
    arrivals = _arrivals(model, entries, wanted)
    store.open(model, deployment.active)
    order = Order(
        config=config,
        model=model,
        version=deployment.active,
        goal_ns=wanted.goal_ns,
        tuning=deployment.tuning,
    )
    with Measuring(order) as measuring:
        present = measuring.ready.present
        found, chosen = search(
            measuring.measure,
            arrivals,
            present,
            cores=len(os.sched_getaffinity(0)),
            batch_max=measuring.ready.batch_max,
            goal_us=wanted.goal_ns // 1000,
            progress=progress,
        )
    return TuneReport(
        model=model,
        version=deployment.active,
        goal_ms=wanted.p99_ms,
        source="log" if entries else "poisson",
        first_time=timestamp(entries[0].wall_ns) if entries else "",
        last_time=timestamp(entries[-1].wall_ns) if entries else "",
        requests_per_second=rate(arrivals),
        present=present,
        chosen=chosen,
        tried=tuple(_tried(setting, measured) for setting, measured in found.items()),
    )


def search(
    measure: Measure,
    arrivals: Arrivals,
    present: Tuning,
    *,
    cores: int,
    batch_max: int,
    goal_us: int,
    progress: Progress = lambda _done, _total: None,
) -> tuple[dict[Tuning, Measured], Tuning | None]:
    """The longest measurement of every setting tried, and the best one that meets the goal.

    Raises EngineLoad when not one could be measured.
    """
    requests = len(arrivals.at_ns)
    course = rounds(present, cores=cores, batch_max=batch_max, goal_us=goal_us, requests=requests)
    everything: dict[Tuning, Measured] = {}
    done = 0
    now = next(course)
    while True:
        total = done + len(now.settings) * now.requests + now.left
        found: dict[Tuning, Measured] = {}
        for setting, some, late_max in _trials(now, arrivals):
            progress(done, total)
            measured = measure(setting, some, late_max, _counting(progress, done, total))
            found[setting] = joined(found[setting], measured) if setting in found else measured
            done += len(some.at_ns)
        everything |= found
        _check_any(found)
        try:
            now = course.send(found)
        except StopIteration:
            progress(done, done)
            return everything, best(found, present)


def _trials(now: Round, arrivals: Arrivals) -> Iterator[tuple[Tuning, Arrivals, int]]:
    """Setting, arrivals and how many may be late, for each trial of a round.

    Finalists are measured to their end, so that the figures are there also when nothing meets the goal, and in
    two halves, there and back: what the machine is at beside them then meets all of them.
    """
    if now.left:
        some = busiest(arrivals, now.requests)
        for setting in now.settings:
            yield setting, some, int(now.requests * LATE_SHARE)
    else:
        first, second = halves(arrivals)
        for setting in now.settings:
            yield setting, first, now.requests
        for setting in reversed(now.settings):
            yield setting, second, now.requests


def _counting(progress: Progress, done: int, total: int) -> Callable[[int], None]:
    return lambda reached: progress(done + reached, total)


def _last_requests(reader: AuditReader, model: str, requests: int) -> list[Entry]:
    """The last answers to clients, oldest first, without their vectors."""
    kept: deque[Entry] = deque()
    end = reader.size()
    while end > 0 and len(kept) < requests:
        start = max(0, end - _STRETCH_RECORDS)
        kept.extendleft(_newest_first(reader, model, start, end))
        end = start
    return list(kept)[-requests:]


def _newest_first(reader: AuditReader, model: str, start: int, end: int) -> Iterable[Entry]:
    found = []
    for entry in reader.records(
        model=model, category="inference", since_sequence=start, until_sequence=end
    ):
        record = entry.record
        if isinstance(record, Inference) and record.route != "shadow":
            found.append(replace(entry, record=replace(record, vector=b"", outputs=())))
    return reversed(found)


def _arrivals(model: str, entries: list[Entry], wanted: Wanted) -> Arrivals:
    if wanted.per_second:
        return poisson(wanted.per_second * wanted.speed, wanted.rows, wanted.requests)
    if len(entries) < 2:
        raise UnknownRecord(
            f"the audit log has no requests of '{model}' to send again",
            remedy="let it answer some first, or give a rate with --rate",
        )
    pause_ns = max(_PAUSE_GOALS * wanted.goal_ns, _PAUSE_NS_MIN)
    return filled(cut(sped(recorded(entries), wanted.speed), pause_ns), wanted.requests)


def _check_any(found: dict[Tuning, Measured]) -> None:
    """Raise EngineLoad when no setting of a round could be measured."""
    if all(measured.trouble for measured in found.values()):
        trouble = next(iter(found.values())).trouble
        raise EngineLoad(f"no setting can be measured: {trouble}", remedy="see the message")


def _tried(setting: Tuning, measured: Measured) -> Tried:
    return Tried(
        setting=setting,
        meets=verdict(measured),
        requests=measured.requests,
        late=measured.late,
        abandoned=measured.abandoned,
        throughput=measured.throughput,
        p50_ms=measured.p50_ms,
        p99_ms=measured.p99_ms,
        batch_rows=measured.batch_rows,
        cpu_us_row=measured.cpu_us_row,
        trouble=measured.trouble,
    )
