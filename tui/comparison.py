"""Versions of a model beside each other, by what the audit log says of them. Pure.

Knows: what to count of an answer and of a failure; which record of a shadow belongs to which of the active
version; when two answers agree. Rules: records come newest first, one `add` each; a pinned request is
counted for no version, because its client chose it; nothing is said of an answer that the log does not
hold. Leaves to others: reading (`tui.livecompare`), deciding (an operator).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from appliance.audit.kinds import Failure, Inference
from appliance.deployment import Deployment
from tui.agreement import OutputAgreement, Outputs

_STANDARD_ERRORS = 1.96  # of an interval that holds the true rate 95 times in 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one version did. Times are of its answers, None without one.

    `total` is from the request's arrival to its answer, `compute` the engine's part with the recipe; a
    shadow has no hurry, so only its `compute` compares with the others'. `failure_low` and `failure_high`
    hold the true failure rate 95 times in 100; `failures` counts the failures by error code.
    """

    role: str
    version: int
    per_mille: int
    answered: int
    rows: int
    failed: int
    failure_rate: float | None
    failure_low: float | None
    failure_high: float | None
    failures: dict[str, int]
    p50_ms: float | None
    p99_ms: float | None
    compute_p50_ms: float | None
    compute_p99_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The shadow's answers beside the active version's, to the same inputs of the same request.

    `paired` requests have both; `identical` of them got the same bytes. `unread` got other bytes in
    answers that are too large for the log to hold. `outputs` are of those that it holds.
    """

    version: int
    paired: int
    identical: int
    unread: int
    outputs: tuple[OutputAgreement, ...]


@dataclass(slots=True)
class _Count:
    """What was found of one version so far; times in nanoseconds."""

    rows: int = 0
    total_ns: list[int] = field(default_factory=list)
    compute_ns: list[int] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


class Comparison:
    """What the records of one deployment's requests add up to; `requests` counts those, shadows aside."""

    def __init__(self, deployment: Deployment) -> None:
        self.requests = 0
        self._deployment = deployment
        named = {
            "active": deployment.active,
            "canary": deployment.canary,
            "shadow": deployment.shadow,
        }
        self._roles = {role: number for role, number in named.items() if number is not None}
        self._counts = {role: _Count() for role in self._roles}
        self._alone: dict[tuple[str, str], Inference] = {}
        self._paired = self._identical = self._unread = 0
        self._outputs = Outputs()

    def add(self, record: Inference | Failure) -> None:
        """Count one record."""
        self.requests += not self._is_shadows(record)
        if isinstance(record, Failure):
            self._add_failure(record)
        elif self._roles.get(record.route) == record.version:
            count = self._counts[record.route]
            count.rows += record.rows
            count.total_ns.append(record.total_ns)
            count.compute_ns.append(record.compute_ns)
            self._add_pair(record)

    def served(self) -> tuple[Served, ...]:
        """The versions that answer or compute along, the active one first."""
        return tuple(
            _served(role, number, self._deployment, self._counts[role])
            for role, number in self._roles.items()
        )

    def agreement(self) -> Agreement | None:
        """How the shadow agrees with the active version, None without a shadow."""
        if self._deployment.shadow is None:
            return None
        return Agreement(
            version=self._deployment.shadow,
            paired=self._paired,
            identical=self._identical,
            unread=self._unread,
            outputs=self._outputs.found(),
        )

    def _is_shadows(self, record: Inference | Failure) -> bool:
        """Whether the record tells of a computing along, for which no client waited."""
        if isinstance(record, Failure):
            return record.version == self._roles.get("shadow")
        return record.route == "shadow"

    def _add_failure(self, failure: Failure) -> None:
        for role, number in self._roles.items():
            if number == failure.version:
                self._counts[role].failures[failure.code] += 1

    def _add_pair(self, record: Inference) -> None:
        """Compare the record with its other half, or keep it until that comes."""
        if self._deployment.shadow is None or record.route == "canary":
            return
        # A client may use a request id again: the inputs' digest tells such requests apart.
        key = (record.request_id, record.input_sha256)
        other = self._alone.get(key)
        if other is None or other.route == record.route:
            self._alone[key] = record
            return
        del self._alone[key]
        self._paired += 1
        same = record.output_sha256 == other.output_sha256
        self._identical += same
        if record.outputs and other.outputs:
            active, shadow = (other, record) if record.route == "shadow" else (record, other)
            self._outputs.add(active.outputs, shadow.outputs, rows=active.rows)
        elif not same:
            self._unread += 1


def _served(role: str, number: int, deployment: Deployment, count: _Count) -> Served:
    answered, failed = len(count.total_ns), count.failures.total()
    low, high = interval(failed, answered + failed)
    return Served(
        role=role,
        version=number,
        per_mille=deployment.canary_per_mille if role == "canary" else 0,
        answered=answered,
        rows=count.rows,
        failed=failed,
        failure_rate=failed / (answered + failed) if answered + failed else None,
        failure_low=low,
        failure_high=high,
        failures=dict(sorted(count.failures.items())),
        p50_ms=_quantile_ms(count.total_ns, 0.5),
        p99_ms=_quantile_ms(count.total_ns, 0.99),
        compute_p50_ms=_quantile_ms(count.compute_ns, 0.5),
        compute_p99_ms=_quantile_ms(count.compute_ns, 0.99),
    )


def interval(found: int, of: int) -> tuple[float, float] | tuple[None, None]:
    """The rates between which the true one lies 95 times in 100, when it was `found` in `of` tries.

    Wilson's score interval (J. Am. Stat. Assoc. 22, 1927); (None, None) without a try.
    """
    if not of:
        return None, None
    rate, square = found / of, _STANDARD_ERRORS**2
    middle = rate + square / (2 * of)
    reach = _STANDARD_ERRORS * math.sqrt(rate * (1 - rate) / of + square / (4 * of**2))
    below, above = (middle - reach) / (1 + square / of), (middle + reach) / (1 + square / of)
    return max(0.0, below), min(1.0, above)


def _quantile_ms(times_ns: Sequence[int], share: float) -> float | None:
    """The smallest of `times_ns` that `share` of them do not exceed, in milliseconds."""
    if not times_ns:
        return None
    return float(np.quantile(times_ns, share, method="inverted_cdf")) / 1e6
