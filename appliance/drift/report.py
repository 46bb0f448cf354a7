"""Drift reports: what a check found, value by value, and when that is an alarm.

Knows: thresholds, findings and verdicts. Rules: every statistic of every value is in the report, also
the quiet ones, so that other thresholds can be tried on it later; an alarm needs a p-value under its
level, an effect worth caring about and enough rows. Leaves to others: computing (`distance`, `check`),
wording and drawing (the console).
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from appliance.layout import Kind
from appliance.version import ModelName, VersionNumber

Positive = Annotated[int, msgspec.Meta(ge=1)]
NonNegative = Annotated[float, msgspec.Meta(ge=0.0)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Part of a drift report."""


class Thresholds(Table, frozen=True, kw_only=True):
    """When a finding is an alarm.

    alpha: chance of any false alarm in one check. effect_min: least relevant effect, in standard
    deviations (see `FindingKind`). rows_min: least effective rows, live and reference. permutations: draws
    of a permutation test.
    """

    alpha: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] = 0.05
    effect_min: NonNegative = 0.1
    rows_min: Positive = 30
    permutations: Annotated[int, msgspec.Meta(ge=99, le=1_000_000)] = 4999


class Verdict(StrEnum):
    """What a finding, or a whole check, comes to."""

    QUIET = "quiet"
    TOO_LITTLE_DATA = "too little data"
    REAL_BUT_SMALL = "real but small"
    DRIFT = "drift"


class FindingKind(StrEnum):
    """What was compared, and so what `statistic` and `effect` are.

    DISTRIBUTION: the Kolmogorov-Smirnov statistic; Wasserstein distance over the reference's standard
    deviation. CATEGORIES: chi-square or likelihood ratio, whichever is larger; Cohen's w. MISSING: live
    less reference share of NaN and infinities; Cohen's w of it, the difference in standard deviations of
    a yes/no value. Effects are corrected for what chance alone would show.
    """

    DISTRIBUTION = "distribution"
    CATEGORIES = "categories"
    MISSING = "missing"


class Finding(Table, frozen=True, kw_only=True):
    """What one test says of one value of the drift vector (`feature`).

    `p` is compared with `level`, the test's part of alpha, `effect` with `effect_min`; `e` is the
    evidence in p; `n` counts the live rows that were tested.
    """

    feature: str
    kind: FindingKind
    statistic: float
    p: Share
    level: Share
    e: NonNegative
    effect: NonNegative
    effect_min: NonNegative
    n: Annotated[int, msgspec.Meta(ge=0)]
    verdict: Verdict


class ValueShares(Table, frozen=True, kw_only=True):
    """One value of the drift vector, reference beside live, ready to be drawn.

    Bins are coarse: a continuous value has one between each two `edges` and an open one at each end, a
    categorical value one a label. Shares are of all rows, so bins and missing add up to 1. Means and
    deviations are of the finite values; both 0 for a categorical value.
    """

    feature: str
    kind: Kind
    edges: tuple[float, ...]
    labels: tuple[str, ...]
    reference: tuple[Share, ...]
    live: tuple[Share, ...]
    reference_missing: Share
    live_missing: Share
    reference_mean: float
    live_mean: float
    reference_std: NonNegative
    live_std: NonNegative


class DriftReport(Table, frozen=True, kw_only=True):
    """The result of one check of the live rows of a version against its reference.

    The window goes from audit record `first_sequence`, answered at `first_time` (RFC 3339), to the last
    ones. `copies` counts rows that repeat an earlier one bit for bit; they are left out of
    `effective_rows`, unless the reference has its share of them too. `e` is the mean of the findings'.
    """

    format: Literal[1] = 1
    model: ModelName
    version: VersionNumber
    verdict: Verdict
    first_sequence: int
    last_sequence: int
    first_time: str
    last_time: str
    rows: int
    copies: int
    effective_rows: int
    reference_rows: int
    e: NonNegative
    thresholds: Thresholds
    findings: tuple[Finding, ...]
    values: tuple[ValueShares, ...]


def finding_verdict(
    *, p: float, level: float, effect: float, effect_min: float, rows: int, rows_min: int
) -> Verdict:
    """The verdict on one finding; `rows` is the smaller of its live and reference rows."""
    if rows < rows_min:
        return Verdict.TOO_LITTLE_DATA
    if p > level:
        return Verdict.QUIET
    return Verdict.DRIFT if effect >= effect_min else Verdict.REAL_BUT_SMALL


def overall_verdict(findings: Iterable[Finding], *, rows: int, rows_min: int) -> Verdict:
    """The verdict on a check: too little data, else the gravest finding's.

    A value with too few rows of its own, say a column that is mostly missing, does not silence the rest.
    """
    if rows < rows_min:
        return Verdict.TOO_LITTLE_DATA
    found = {finding.verdict for finding in findings}
    grave = (Verdict.DRIFT, Verdict.REAL_BUT_SMALL)
    return next((verdict for verdict in grave if verdict in found), Verdict.QUIET)
