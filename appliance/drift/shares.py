"""Shares: bins coarse enough to draw, reference beside live.

Knows: joining fine bins into a few of about equal reference share. Rules: open ends stay bins of their
own, since what falls there the reference never saw; shares and missing add up to 1. Leaves to others:
drawing (the console).
"""

import numpy as np
from numpy.typing import NDArray

from appliance.bins import Bins, CategoricalBins, ContinuousBins
from appliance.drift.report import ValueShares
from appliance.layout import VectorLayout, floats

Counts = NDArray[np.int64]

INNER_BINS_MAX = 14
LABELS_MAX = 32


def value_shares(layout: VectorLayout, reference: Bins, live: Bins) -> ValueShares:
    """The shares of one value, counted in the same bins both times."""
    if isinstance(reference, ContinuousBins) and isinstance(live, ContinuousBins):
        return _continuous(reference, live)
    assert isinstance(reference, CategoricalBins)
    assert isinstance(live, CategoricalBins)
    return _categorical(layout, reference, live)


def _continuous(reference: ContinuousBins, live: ContinuousBins) -> ValueShares:
    edges = floats(reference.edges)
    kept = _spread_edges(np.asarray(reference.counts))
    starts = np.append(0, kept + 1)
    return ValueShares(
        feature=reference.name,
        kind=reference.kind,
        edges=tuple(edges[kept].tolist()),
        labels=(),
        reference=_shares(np.add.reduceat(reference.counts, starts), reference),
        live=_shares(np.add.reduceat(live.counts, starts), live),
        reference_missing=_missing_share(reference),
        live_missing=_missing_share(live),
        reference_mean=reference.mean,
        live_mean=live.mean,
        reference_std=reference.std,
        live_std=live.std,
    )


def _spread_edges(counts: Counts) -> NDArray[np.intp]:
    """Indices of the first, the last and some inner edges, about equal counts between them."""
    below = np.cumsum(counts)[:-1]
    if not len(below):
        return np.empty(0, np.intp)
    levels = np.arange(1, INNER_BINS_MAX) * counts.sum() / INNER_BINS_MAX
    last = len(below) - 1
    inner = np.minimum(np.searchsorted(below, levels), last)
    return np.unique(np.concatenate([[0], inner, [last]])).astype(np.intp)


def _categorical(
    layout: VectorLayout, reference: CategoricalBins, live: CategoricalBins
) -> ValueShares:
    """The largest categories by name, then "other" for the rest, if any, and "unseen"."""
    both = np.asarray([reference.counts, live.counts])
    largest = np.argsort(-both.sum(axis=0), kind="stable")
    drawn, rest = np.sort(largest[:LABELS_MAX]), np.sort(largest[LABELS_MAX:])
    labels = [layout.label(reference.name, reference.categories[at]) for at in drawn]
    columns = [both[:, drawn], both[:, rest].sum(axis=1, keepdims=True)][: 2 if len(rest) else 1]
    counts = np.hstack([*columns, [[reference.unseen], [live.unseen]]])
    return ValueShares(
        feature=reference.name,
        kind=reference.kind,
        edges=(),
        labels=(*labels, *(["other"] if len(rest) else []), "unseen"),
        reference=_shares(counts[0], reference),
        live=_shares(counts[1], live),
        reference_missing=_missing_share(reference),
        live_missing=_missing_share(live),
        reference_mean=0.0,
        live_mean=0.0,
        reference_std=0.0,
        live_std=0.0,
    )


def _shares(counts: Counts, bins: Bins) -> tuple[float, ...]:
    return tuple((counts / (bins.finite + bins.missing)).tolist())


def _missing_share(bins: Bins) -> float:
    return bins.missing / (bins.finite + bins.missing)
