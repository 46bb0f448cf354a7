"""What became of every engine that a build tried: the decision table.

Knows: the verdicts. Rules: every attempt gets one line, with whatever it reached before it was left.
Leaves to others: trying (`candidates`), showing (`report`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from appliance.errors import ApplianceError, ProofError
from appliance.manifest import Precision
from appliance.proof import KEPT, Inspected, Proof, Timing, Trial
from compiler.proving.comparison import Compared

FALLBACK = "passed, kept to fall back on"
SLOWER = "slower than the kept engine, not proven"


class Attempt(NamedTuple):
    """An engine to try: its kind and precision."""

    engine: str
    precision: Precision

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


@dataclass(slots=True, kw_only=True)
class Outcomes:
    """What is known of each attempt so far."""

    attempts: tuple[Attempt, ...]
    failed: dict[Attempt, ApplianceError] = field(default_factory=dict)
    sizes: dict[Attempt, int] = field(default_factory=dict)
    timings: Mapping[Attempt, tuple[Timing, ...]] = field(default_factory=dict)
    proofs: dict[Attempt, Proof] = field(default_factory=dict)
    compared: dict[Attempt, Compared] = field(default_factory=dict)
    inspected: dict[Attempt, Inspected] = field(default_factory=dict)

    def trials(self, kept: Attempt, fallback: Attempt | None) -> tuple[Trial, ...]:
        """A line an attempt, in the order in which they were tried."""
        return tuple(self._trial(attempt, kept, fallback) for attempt in self.attempts)

    def none_passed(self, wanted: Sequence[Attempt]) -> ApplianceError:
        """One error for all `wanted`: of the first that was made but not proven, else of the first."""
        failed = {attempt: self.failed[attempt] for attempt in wanted if attempt in self.failed}
        errors = list(failed.values())
        told = next((error for error in errors if isinstance(error, ProofError)), errors[0])
        reasons = "; ".join(f"{attempt}: {error}" for attempt, error in failed.items())
        return type(told)(f"no engine passed: {reasons}", remedy=told.remedy)

    def _trial(self, attempt: Attempt, kept: Attempt, fallback: Attempt | None) -> Trial:
        proof, error = self.proofs.get(attempt), self.failed.get(attempt)
        errors = proof or self.compared.get(attempt)
        if error is not None:
            verdict = f"[{error.code}] {error}"
        elif attempt == kept:
            verdict = KEPT
        elif attempt == fallback:
            verdict = FALLBACK
        else:
            verdict = SLOWER
        return Trial(
            engine=attempt.engine,
            precision=attempt.precision,
            timings=self.timings.get(attempt, ()),
            error_max=None if errors is None else errors.error_max,
            error_p99=None if errors is None else errors.error_p99,
            metric=proof.reached[0].value if proof and proof.reached else None,
            bytes=self.sizes.get(attempt),
            inspected=self.inspected.get(attempt),
            verdict=verdict,
        )
