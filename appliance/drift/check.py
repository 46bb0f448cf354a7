"""The drift check: a window of live rows and a reference profile make a report.

Knows: which statistic suits which value, how alpha is shared out, what copied rows count for. Rules:
the same window, reference and seed give the same report; missing values are tested on their own and
never dropped silently. Leaves to others: the statistics (`distance`), verdicts (`report`), gathering rows
(`window`).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.bins import Bins, CategoricalBins, ContinuousBins
from appliance.clock import timestamp
from appliance.drift import distance
from appliance.drift.report import (
    DriftReport,
    Finding,
    FindingKind,
    Thresholds,
    finding_verdict,
    overall_verdict,
)
from appliance.drift.shares import value_shares
from appliance.drift.window import VectorRecord, Window, decode_vector, vectors_from_records
from appliance.errors import DriftError
from appliance.layout import Floats, floats
from appliance.profiles import Profile, distinct_rows, live_profile

__all__ = ["VectorRecord", "Window", "check", "decode_vector", "vectors_from_records"]

Counts = NDArray[np.int64]

COPIES_SHARE_MAX = 0.05  # over it, copies are in the nature of the data and say nothing


class Test(NamedTuple):
    """One comparison before verdicts; `varies` is False when its counts could not have differed."""

    feature: str
    kind: FindingKind
    varies: bool
    statistic: float
    p: float
    effect: float
    reference_rows: int
    live_rows: int


def check(
    window: Window, reference: Profile, *, thresholds: Thresholds, rng: np.random.Generator
) -> DriftReport:
    """Compare the rows of `window` with `reference`.

    `rng` serves the permutation tests; seed it from what is recorded (say `window.last_sequence`) and
    the report can be made again. Raises DriftError when the model has no drift features or the vectors
    are not the reference's.
    """
    _check_width(window, reference)
    rows = _effective_rows(window.vectors, reference)
    live = live_profile(reference, rows)
    tests = list(_tests(reference, live, thresholds, rng))
    findings = _findings(tests, thresholds)
    varied = [finding.e for finding, test in zip(findings, tests, strict=True) if test.varies]
    return DriftReport(
        model=window.model,
        version=window.version,
        verdict=overall_verdict(
            findings, rows=min(live.rows, reference.rows), rows_min=thresholds.rows_min
        ),
        first_sequence=window.first_sequence,
        last_sequence=window.last_sequence,
        first_time=timestamp(window.first_wall_ns),
        last_time=timestamp(window.last_wall_ns),
        rows=len(window.vectors),
        copies=len(window.vectors) - len(distinct_rows(window.vectors)),
        effective_rows=live.rows,
        reference_rows=reference.rows,
        e=sum(varied) / len(varied) if varied else 0.0,
        thresholds=thresholds,
        findings=findings,
        values=tuple(
            value_shares(reference.layout, *pair)
            for pair in zip(reference.bins, live.bins, strict=True)
        ),
    )


def _check_width(window: Window, reference: Profile) -> None:
    width = len(reference.bins)
    if not width:
        raise DriftError(
            f"{window.model} version {window.version} has no drift features: "
            "its inputs and outputs are neither images nor numbers of fixed length",
            remedy="watch its traffic and latency instead",
        )
    if window.vectors.shape[1] != width:
        raise DriftError(
            f"the vectors have {window.vectors.shape[1]} values, the reference profile has {width}",
            remedy="check the rows of the version whose profile this is",
        )


def _effective_rows(vectors: Floats, reference: Profile) -> Floats:
    """The rows without exact copies: bursts of one frame would pass for many (drift by repetition).

    When the reference itself repeats rows, as tables of a few categories do, copies are kept.
    """
    if reference.copies > COPIES_SHARE_MAX * reference.rows:
        return vectors
    return vectors[distinct_rows(vectors)]


def _tests(
    reference: Profile, live: Profile, thresholds: Thresholds, rng: np.random.Generator
) -> Iterator[Test]:
    """The tests of every value: of what is missing, if anything is, then of the rest."""
    pairs = list(zip(reference.bins, live.bins, strict=True))
    continuous = [
        (np.asarray(a.counts), np.asarray(b.counts))
        for a, b in pairs
        if isinstance(a, ContinuousBins)
    ]
    ps = iter(distance.ks_ps(continuous))
    for a, b in pairs:
        if a.missing or b.missing:
            yield _missing(a, b)
        if isinstance(a, ContinuousBins) and isinstance(b, ContinuousBins):
            yield _distribution(a, b, next(ps))
        elif isinstance(a, CategoricalBins) and isinstance(b, CategoricalBins):
            yield _categories(a, b, thresholds.permutations, rng)


def _missing(reference: Bins, live: Bins) -> Test:
    a, b = (reference.missing, reference.finite), (live.missing, live.finite)
    return _test(
        FindingKind.MISSING,
        reference,
        (np.asarray(a), np.asarray(b)),
        statistic=b[0] / sum(b) - a[0] / sum(a),
        p=distance.share_p(a, b),
        effect=distance.moved_share(np.asarray(a), np.asarray(b)),
    )


def _distribution(reference: ContinuousBins, live: ContinuousBins, p: float) -> Test:
    counts = np.asarray(reference.counts), np.asarray(live.counts)
    edges = floats(reference.edges).astype(np.float64)
    tails = (live.below + live.above) / max(1, live.finite)
    area = distance.wasserstein(edges, *counts, tails)
    return _test(
        FindingKind.DISTRIBUTION,
        reference,
        counts,
        statistic=distance.ks_statistic(*counts),
        p=p,
        effect=area / _scale(reference),
    )


def _scale(reference: ContinuousBins) -> float:
    """The reference's deviation; for a value that hardly varies, a small part of its size.

    Below it differences are rounding, as between two engines.
    """
    return max(reference.std, 1e-4 * abs(reference.mean), 1e-6)


def _categories(
    reference: CategoricalBins, live: CategoricalBins, permutations: int, rng: np.random.Generator
) -> Test:
    counts = (
        np.asarray((*reference.counts, reference.unseen)),
        np.asarray((*live.counts, live.unseen)),
    )
    return _test(
        FindingKind.CATEGORIES,
        reference,
        counts,
        statistic=distance.chi_square(*counts),
        p=distance.chi_square_p(*counts, permutations=permutations, rng=rng),
        effect=distance.moved_share(*counts),
    )


def _test(
    kind: FindingKind,
    reference: Bins,
    counts: tuple[Counts, Counts],
    *,
    statistic: float,
    p: float,
    effect: float,
) -> Test:
    rows = int(counts[0].sum()), int(counts[1].sum())
    return Test(
        feature=reference.name,
        kind=kind,
        varies=bool(all(rows) and np.count_nonzero(counts[0] + counts[1]) > 1),
        statistic=statistic,
        p=p,
        effect=effect,
        reference_rows=rows[0],
        live_rows=rows[1],
    )


def _findings(tests: list[Test], thresholds: Thresholds) -> tuple[Finding, ...]:
    """Verdicts, alpha shared out among the kinds of test and then the tests that could differ.

    Which could is known from both samples together, not from how they differ, so the levels hold.
    """
    kinds = list(FindingKind)
    sizes = [sum(1 for test in tests if test.varies and test.kind is kind) for kind in kinds]
    levels = dict(zip(kinds, distance.bonferroni(thresholds.alpha, sizes), strict=True))
    effects = {
        FindingKind.DISTRIBUTION: thresholds.effect_min,
        FindingKind.CATEGORIES: thresholds.moved_min,
        FindingKind.MISSING: thresholds.missing_min,
    }
    return tuple(
        Finding(
            feature=test.feature,
            kind=test.kind,
            statistic=test.statistic,
            p=test.p,
            level=levels[test.kind],
            e=distance.e_value(test.p),
            effect=test.effect,
            effect_min=effects[test.kind],
            n=test.live_rows,
            verdict=finding_verdict(
                p=test.p,
                level=levels[test.kind],
                effect=test.effect,
                effect_min=effects[test.kind],
                rows=min(test.live_rows, test.reference_rows),
                rows_min=thresholds.rows_min,
            ),
        )
        for test in tests
    )
