"""How far live data are from the reference, and how surely: the statistics of a drift check.

Knows: counts in, numbers out. Rules: pure, randomness is handed in; every p-value holds for tied values
and coarse bins; every effect is corrected for what chance alone would show. Leaves to others: thresholds
and verdicts (`report`), which counts to compare (`check`).

Throughout `reference` and `live` are parallel counts per bin; m and n are their sums, N = m + n.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Counts = NDArray[np.int64]
Reals = NDArray[np.float64]

EXACT_CELLS_MAX = 2_500_000  # of the exact distribution's table, N x min(m, n); over it, asymptotic
DRAWN_CELLS_MAX = 1_000_000  # counts drawn at once, 8 bytes each
P_MIN = 1e-300  # a p-value that underflows is reported as this


def ks_statistic(reference: Counts, live: Counts) -> float:
    """The largest difference of the two distribution functions at a bin's end; 0 when one is empty."""
    return _largest_gap(reference, live) / max(1, int(reference.sum()) * int(live.sum()))


def ks_ps(pairs: Sequence[tuple[Counts, Counts]]) -> list[float]:
    """P(the Kolmogorov-Smirnov statistic is at least the one seen), two-sided, of each pair as if alone.

    Pairs of equal m and n share the work.

    Up to EXACT_CELLS_MAX exact, given the counts of both samples together: all ways to deal them out
    are equally likely (Schroer & Trenkler 1995, Comput. Stat. Data Anal. 20, 185). Above it Kolmogorov's
    asymptotic distribution, which errs to the safe side for ties and bins. 1.0 when nothing can differ.
    """
    ps = [1.0] * len(pairs)
    groups: dict[tuple[int, int], list[int]] = {}
    for index, (reference, live) in enumerate(pairs):
        if np.count_nonzero(reference + live) > 1 and reference.any() and live.any():
            groups.setdefault((int(reference.sum()), int(live.sum())), []).append(index)
    for (m, n), members in groups.items():
        if (m + n) * min(m, n) <= EXACT_CELLS_MAX:
            exact = _exact_ks([pairs[index] for index in members], m, n)
            for index, p in zip(members, exact, strict=True):
                ps[index] = p
        else:
            for index in members:
                distance = ks_statistic(*pairs[index]) * math.sqrt(m * n / (m + n))
                ps[index] = max(P_MIN, float(special.kolmogorov(distance)))
    return ps


def wasserstein(edges: Reals, reference: Counts, live: Counts, tails: float) -> float:
    """The area between the distribution functions less what chance shows, in the value's unit.

    `edges` separate the bins, `tails` is the area beyond the outer ones. Within a bin the functions are
    taken as straight lines. Under no drift the difference at x is about normal with variance
    F (1 - F) (1/m + 1/n), so the area is expected to be the integral of sqrt(2/pi) times its root; seen
    and expected are subtracted as squares, floored at 0.
    """
    m, n = int(reference.sum()), int(live.sum())
    if not m or not n:
        return 0.0
    gaps = np.cumsum(reference)[:-1] / m - np.cumsum(live)[:-1] / n
    pooled = np.cumsum(reference + live)[:-1] / (m + n)
    deviations = np.sqrt(2 / math.pi * pooled * (1 - pooled) * (1 / m + 1 / n))
    widths = np.diff(edges)
    seen = float((widths * _mean_size(gaps[:-1], gaps[1:])).sum()) + tails
    expected = float((widths * (deviations[:-1] + deviations[1:]) / 2).sum())
    return math.sqrt(max(0.0, seen**2 - expected**2))


def cohens_w(reference: Counts, live: Counts) -> float:
    """How far the shares of categories are apart: Cohen's w less what chance shows.

    w**2 is the sum of (p - q)**2 / pooled share; Pearson's chi-square is it times m n / N, and its
    expectation under no drift, one less than the categories, is subtracted first (floor 0). With two
    categories w is the difference of the shares in standard deviations of a 0/1 value, so it compares
    with `wasserstein` over the reference's deviation.
    """
    if not reference.any() or not live.any():
        return 0.0
    m, n = int(reference.sum()), int(live.sum())
    pooled = reference + live
    live, pooled = live[pooled > 0], pooled[pooled > 0]
    excess = float(_pearson(live, pooled)) - (len(pooled) - 1)
    return math.sqrt(max(0.0, excess) * (m + n) / (m * n))


def chi_square(reference: Counts, live: Counts) -> float:
    """The larger of two statistics of the 2 x categories table: Pearson's and the likelihood ratio's.

    Pearson's sees a new category best, the likelihood ratio (G) one that vanished; the larger one sees
    either nearly as well as the better of the two. Empty categories count for nothing.
    """
    if not reference.any() or not live.any():
        return 0.0
    pooled = reference + live
    return float(_chi_squares(live[pooled > 0], pooled[pooled > 0]))


def chi_square_p(
    reference: Counts, live: Counts, *, permutations: int, rng: np.random.Generator
) -> float:
    """Permutation p-value of `chi_square`: (k + 1) / (permutations + 1), k draws at least as large.

    Rows are dealt out again to both samples (multivariate hypergeometric), so small and empty categories
    are no matter (Phipson & Smyth 2010). 1.0 when nothing can differ.
    """
    pooled, n = reference + live, int(live.sum())
    if np.count_nonzero(pooled) < 2 or not reference.any() or not live.any():
        return 1.0
    pooled = pooled[pooled > 0]
    least = chi_square(reference, live) * (1 - 1e-9)  # equal tables may round differently
    reached, step = 0, max(1, DRAWN_CELLS_MAX // len(pooled))
    for start in range(0, permutations, step):
        size = min(step, permutations - start)
        draws = rng.multivariate_hypergeometric(pooled, n, size=size, method="marginals")
        reached += int((_chi_squares(draws, pooled) >= least).sum())
    return (reached + 1) / (permutations + 1)


def share_p(reference: tuple[int, int], live: tuple[int, int]) -> float:
    """Fisher's exact p-value for two shares, each (rows of interest, other rows).

    Twice the smaller tail of the hypergeometric distribution, at most 1.
    """
    total, n = sum(reference) + sum(live), sum(live)
    interest = reference[0] + live[0]
    low, high = max(0, n - (total - interest)), min(n, interest)
    counts = np.arange(low, high + 1, dtype=np.float64)
    logs = _log_choose(interest, counts) + _log_choose(total - interest, n - counts)
    chances = np.exp(logs - _log_choose(total, np.float64(n)))
    seen = live[0] - low
    tail = min(float(chances[: seen + 1].sum()), float(chances[seen:].sum()))
    return min(1.0, max(P_MIN, 2.0 * tail))


def e_value(p: float) -> float:
    """The evidence in a p-value: the integral over kappa in (0, 1) of kappa p**(kappa - 1).

    With s = -ln p it is (e**s - 1 - s) / s**2 (Vovk & Wang 2021). Expected at most 1 without drift; values
    of separate windows multiply, those of several features average.
    """
    s = -math.log(p)
    if s < 1e-3:
        return 0.5 + s / 6 + s * s / 24
    return (math.expm1(s) - s) / (s * s)


def bonferroni(alpha: float, families: Sequence[int]) -> list[float]:
    """The level of each test in families of the given sizes, so that any false alarm has chance <= alpha.

    Families that hold tests share `alpha` equally, and the tests of a family its share; 0 for an empty one.
    """
    held = sum(1 for size in families if size)
    return [alpha / held / size if size else 0.0 for size in families]


def _exact_ks(pairs: Sequence[tuple[Counts, Counts]], m: int, n: int) -> list[float]:
    """One table for all pairs of m and n rows, row t of it made from row t - 1.

    State j: so many of the first t rows in rising order are live. At the end of a bin the states whose
    gap |j N - t n| reaches the one seen are taken out; what is taken out is p, to full precision.
    The smaller sample serves as the live one.
    """
    if n > m:
        pairs, m, n = [(live, reference) for reference, live in pairs], n, m
    total = m + n
    reach = np.full((total + 1, len(pairs), 1), np.iinfo(np.int64).max)
    ends = set()
    for index, (reference, live) in enumerate(pairs):
        at = np.cumsum(reference + live)
        reach[at, index] = _largest_gap(reference, live)
        ends.update(at.tolist())
    states = np.arange(n + 1)
    chances = np.zeros((len(pairs), n + 1))
    chances[:, 0] = 1.0
    ps = np.zeros(len(pairs))
    for t in range(1, total + 1):
        rise = chances * ((n - states) / (total - t + 1))
        chances -= rise
        chances[:, 1:] += rise[:, :-1]
        if t in ends:
            out = chances * (np.abs(states * total - t * n) >= reach[t])
            ps += out.sum(axis=1)
            chances -= out
    return [min(1.0, max(P_MIN, float(p))) for p in ps]


def _largest_gap(reference: Counts, live: Counts) -> int:
    """The Kolmogorov-Smirnov statistic times m n, a whole number."""
    gaps = np.cumsum(live) * int(reference.sum()) - np.cumsum(reference) * int(live.sum())
    return int(np.abs(gaps).max())


def _mean_size(a: Reals, b: Reals) -> Reals:
    """The mean of |x| along the straight line from a to b."""
    sizes = np.abs(a) + np.abs(b)
    crossing = (a * a + b * b) / (2 * np.where(sizes > 0, sizes, 1.0))
    return np.where(a * b < 0, crossing, sizes / 2)


def _chi_squares(live: Counts, pooled: Counts) -> Reals:
    """`chi_square` over the last axis of `live`; no category of `pooled` is empty."""
    share = _live_share(live, pooled)
    ratio = special.xlogy(live, live / (pooled * share))
    ratio += special.xlogy(pooled - live, (pooled - live) / (pooled * (1 - share)))
    larger: Reals = np.maximum(_pearson(live, pooled), 2 * ratio.sum(axis=-1))
    return larger


def _pearson(live: Counts, pooled: Counts) -> Reals:
    share = _live_share(live, pooled)
    squares = (live - pooled * share) ** 2 / (pooled * share * (1 - share))
    statistic: Reals = squares.sum(axis=-1)
    return statistic


def _live_share(live: Counts, pooled: Counts) -> Reals:
    share: Reals = live.sum(axis=-1, keepdims=True) / pooled.sum()
    return share


def _log_choose(n: int, k: Any) -> Any:
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
