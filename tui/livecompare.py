"""Versions of a box beside each other: from its log to a report.

Knows: which roles a model's versions play, since when, and how far back to read. Rules: reads only, so the
runtime need not be up; never farther back than the present roles were decided, so that every version had
the same traffic. Leaves to others: what is counted (`tui.comparison`), drawing (`tui.commands.compare`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from appliance.audit.kinds import Failure, Inference, Outcome
from appliance.audit.reader import AuditReader
from appliance.audit.record import Entry
from appliance.clock import timestamp
from appliance.config import StateConfig
from appliance.deployment import Deployment
from appliance.errors import UnknownModel, UnknownVersion
from tui.comparison import Agreement, Comparison, Served

# The log is read backwards in stretches of so many records, so that memory stays within bounds.
_STRETCH_RECORDS = 16_384

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareReport:
    """The versions of `model` over its last `requests` requests, since the roles are as they are.

    Times are RFC 3339 UTC: `since` of the decision's outcome, `first_time` and `last_time` of the oldest
    and newest record that counted, "" without one; so are the sequences, None without one.
    """

    model: str
    since: str
    requests: int
    first_sequence: int | None
    last_sequence: int | None
    first_time: str
    last_time: str
    versions: tuple[Served, ...]
    agreement: Agreement | None


def compare_served(
    state: StateConfig,
    model: str,
    *,
    requests: int,
    progress: Progress = lambda _done, _total: None,
) -> CompareReport:
    """Compare the versions that answered the last `requests` requests, or computed along.

    `progress` is told (found, wanted) requests now and then. Raises UnknownModel when nothing was decided
    about the model, UnknownVersion when it has no canary and no shadow, StateError when there is no log,
    AuditError.
    """
    with AuditReader(state.audit_log) as reader:
        began, deployment = _standing(reader, model)
        if deployment.canary is None and deployment.shadow is None:
            raise UnknownVersion(
                f"'{model}' has no canary and no shadow to compare",
                remedy="start one with `holdfast canary` or `holdfast shadow`",
            )
        comparison, counted = Comparison(deployment), _Counted()
        end = reader.size()
        while end > began.sequence and comparison.requests < requests:
            start = max(began.sequence, end - _STRETCH_RECORDS)
            for entry in _newest_first(reader, model, start, end):
                if comparison.requests == requests:
                    break
                comparison.add(entry.record)
                counted.add(entry.place)
            progress(comparison.requests, requests)
            end = start
    return CompareReport(
        model=model,
        since=timestamp(began.wall_ns),
        requests=comparison.requests,
        first_sequence=counted.first.sequence if counted.first else None,
        last_sequence=counted.last.sequence if counted.last else None,
        first_time=timestamp(counted.first.wall_ns) if counted.first else "",
        last_time=timestamp(counted.last.wall_ns) if counted.last else "",
        versions=comparison.served(),
        agreement=comparison.agreement(),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the log a record is, and when it was written (Unix nanoseconds)."""

    sequence: int
    wall_ns: int


@dataclass(frozen=True, slots=True)
class _Found:
    place: _Place
    record: Inference | Failure


@dataclass(slots=True)
class _Counted:
    """The oldest and newest place that counted; places come newest first."""

    first: _Place | None = None
    last: _Place | None = None

    def add(self, place: _Place) -> None:
        self.first = place
        self.last = self.last or place


def _standing(reader: AuditReader, model: str) -> tuple[_Place, Deployment]:
    """How the model stands, and where the log says so first of versions that play these roles."""
    found: tuple[_Place, Deployment] | None = None
    outcomes = (
        (entry, entry.record.deployment)
        for entry in reader.records(model=model, category="outcome")
        if isinstance(entry.record, Outcome)
    )
    for entry, deployment in outcomes:
        kept = found is not None and _who(found[1]) == _who(deployment)
        place = found[0] if found is not None and kept else _place(entry)
        found = (place, deployment)
    if found is None:
        raise UnknownModel(
            f"the audit log tells of no decision about a model '{model}'",
            remedy="see `holdfast versions`",
        )
    return found


def _who(deployment: Deployment) -> tuple[int | None, int | None, int | None]:
    """The versions that answer or compute along; a canary's share may change meanwhile."""
    return deployment.active, deployment.canary, deployment.shadow


def _newest_first(reader: AuditReader, model: str, start: int, end: int) -> list[_Found]:
    """The model's answers and failures with start <= sequence < end, without what nobody compares."""
    found = []
    for entry in reader.records(model=model, since_sequence=start, until_sequence=end):
        record = entry.record
        if isinstance(record, Inference):
            # Drift vectors are by far the largest part of a record.
            found.append(_Found(_place(entry), msgspec.structs.replace(record, vector=b"")))
        elif isinstance(record, Failure):
            found.append(_Found(_place(entry), record))
    return found[::-1]


def _place(entry: Entry) -> _Place:
    return _Place(entry.sequence, entry.wall_ns)
