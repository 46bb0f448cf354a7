"""Comparisons: reference bins beside live bins, each value by the statistic that suits it.

Knows: which statistic is for which bins, and the scale of effects. Rules: missing values are compared on
their own, so that no value is dropped silently. Leaves to others: the statistics (`distance`), levels
and verdicts (`check`, `report`).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.bins import Bins, CategoricalBins, ContinuousBins
from appliance.drift import distance
from appliance.drift.report import FindingKind
from appliance.layout import floats
from appliance.profiles import Profile

Counts = NDArray[np.int64]


class Comparison(NamedTuple):
    """One comparison before verdicts; `varies` is False when its counts could not have differed.

    Statistic and effect are those of `FindingKind`.
    """

    feature: str
    kind: FindingKind
    varies: bool
    statistic: float
    p: float
    effect: float
    reference_rows: int
    live_rows: int


def compare(
    reference: Profile, live: Profile, *, permutations: int, rng: np.random.Generator
) -> Iterator[Comparison]:
    """Compare every value: what is missing, if anything is, then the rest. Bins must be the same."""
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
        else:
            assert isinstance(a, CategoricalBins)
            assert isinstance(b, CategoricalBins)
            yield _categories(a, b, permutations, rng)


def _missing(reference: Bins, live: Bins) -> Comparison:
    a, b = (reference.missing, reference.finite), (live.missing, live.finite)
    return _comparison(
        FindingKind.MISSING,
        reference,
        (np.asarray(a), np.asarray(b)),
        statistic=b[0] / sum(b) - a[0] / sum(a),
        p=distance.share_p(a, b),
        effect=distance.cohens_w(np.asarray(a), np.asarray(b)),
    )


def _distribution(reference: ContinuousBins, live: ContinuousBins, p: float) -> Comparison:
    counts = np.asarray(reference.counts), np.asarray(live.counts)
    edges = floats(reference.edges).astype(np.float64)
    tails = (live.below + live.above) / max(1, live.finite)
    area = distance.wasserstein(edges, *counts, tails)
    return _comparison(
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
) -> Comparison:
    counts = (
        np.asarray((*reference.counts, reference.unseen)),
        np.asarray((*live.counts, live.unseen)),
    )
    return _comparison(
        FindingKind.CATEGORIES,
        reference,
        counts,
        statistic=distance.chi_square(*counts),
        p=distance.chi_square_p(*counts, permutations=permutations, rng=rng),
        effect=distance.cohens_w(*counts),
    )


def _comparison(
    kind: FindingKind,
    reference: Bins,
    counts: tuple[Counts, Counts],
    *,
    statistic: float,
    p: float,
    effect: float,
) -> Comparison:
    rows = int(counts[0].sum()), int(counts[1].sum())
    return Comparison(
        feature=reference.name,
        kind=kind,
        varies=bool(all(rows) and np.count_nonzero(counts[0] + counts[1]) > 1),
        statistic=statistic,
        p=p,
        effect=effect,
        reference_rows=rows[0],
        live_rows=rows[1],
    )
