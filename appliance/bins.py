"""Bins: how often each value of the drift vector falls where.

Knows: fitting bins to reference values, counting in them, merging. Rules: the reference fixes the bins and
they never move; NaN and infinities are counted, never dropped; merged counts are those of all rows together.
Leaves to others: which values there are (`appliance.layout`), statistics (`appliance.drift.distance`).
"""

from typing import Annotated, ClassVar, Self, TypeAlias

import msgspec
import numpy as np

from appliance.errors import DriftError
from appliance.layout import Floats, Kind, Sealed, floats

Count = Annotated[int, msgspec.Meta(ge=0)]

CATEGORIES_MAX = 1024
TINY = np.finfo(np.float32).tiny


class ContinuousBins(Sealed, frozen=True, kw_only=True, tag_field="kind", tag="continuous"):
    """Counts of a continuous value between fixed `edges` (float32, rising).

    Bin i holds edge[i-1] < x <= edge[i]; the first and the last are open ends, which the reference
    itself leaves empty. `missing` counts NaN and infinities; `mean` and `std` are of the finite
    values; `below` and `above` are the summed distances of open-end values from the nearest edge.
    """

    kind: ClassVar[Kind] = Kind.CONTINUOUS
    name: str
    edges: bytes
    counts: tuple[Count, ...]
    missing: Count = 0
    mean: float = 0.0
    std: float = 0.0
    below: float = 0.0
    above: float = 0.0

    def __post_init__(self) -> None:
        edges = floats(self.edges)
        if not np.isfinite(edges).all() or (edges[1:] <= edges[:-1]).any():
            raise ValueError(f"the edges of '{self.name}' do not rise")
        if len(self.counts) != len(edges) + 1:
            raise ValueError(f"'{self.name}' has {len(edges)} edges and {len(self.counts)} bins")

    @property
    def finite(self) -> int:
        """How many rows have a finite value."""
        return sum(self.counts)

    def counted(self, column: Floats) -> Self:
        """The same bins with the counts of `column`, float32 (rows,)."""
        edges, values = floats(self.edges), _finite(column)
        counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
        wide = values.astype(np.float64)
        below = above = 0.0
        if len(edges):
            below = float(np.maximum(edges[0] - wide, 0.0).sum())
            above = float(np.maximum(wide - edges[-1], 0.0).sum())
        return msgspec.structs.replace(
            self,
            counts=tuple(counts.tolist()),
            missing=len(column) - len(values),
            mean=float(wide.mean()) if len(values) else 0.0,
            std=float(wide.std()) if len(values) else 0.0,
            below=below,
            above=above,
        )

    def merged(self, other: object) -> Self:
        """The counts of both; mean and std by Chan, Golub & LeVeque (1979), symmetric in the two.

        Raises DriftError when `other` has other bins.
        """
        if not isinstance(other, ContinuousBins) or other.edges != self.edges:
            raise _other_bins(self.name)
        both = max(1, self.finite + other.finite)
        mine, theirs = self.finite / both, other.finite / both
        between = mine * theirs * (self.mean - other.mean) ** 2
        return msgspec.structs.replace(
            self,
            counts=_added(self.counts, other.counts),
            missing=self.missing + other.missing,
            mean=mine * self.mean + theirs * other.mean,
            std=float((mine * self.std**2 + theirs * other.std**2 + between) ** 0.5),
            below=self.below + other.below,
            above=self.above + other.above,
        )


class CategoricalBins(Sealed, frozen=True, kw_only=True, tag_field="kind", tag="categorical"):
    """Counts of a categorical value by the reference's `categories` (up to 1024, most frequent).

    `unseen` counts categories that are not listed, `missing` NaN and infinities.
    """

    kind: ClassVar[Kind] = Kind.CATEGORICAL
    name: str
    categories: Annotated[tuple[int, ...], msgspec.Meta(max_length=CATEGORIES_MAX)]
    counts: tuple[Count, ...]
    unseen: Count = 0
    missing: Count = 0

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.categories):
            raise ValueError(f"'{self.name}' needs one count a category")
        if list(self.categories) != sorted(set(self.categories)):
            raise ValueError(f"the categories of '{self.name}' do not rise")

    @property
    def finite(self) -> int:
        """How many rows have a category."""
        return sum(self.counts) + self.unseen

    def counted(self, column: Floats) -> Self:
        """The same bins with the counts of `column`, float32 (rows,)."""
        values = _finite(column)
        found, times = np.unique(values, return_counts=True)
        tally = dict(zip(found.tolist(), times.tolist(), strict=True))
        counts = tuple(tally.get(float(category), 0) for category in self.categories)
        return msgspec.structs.replace(
            self,
            counts=counts,
            unseen=len(values) - sum(counts),
            missing=len(column) - len(values),
        )

    def merged(self, other: object) -> Self:
        """The counts of both. Raises DriftError when `other` has other categories."""
        if not isinstance(other, CategoricalBins) or other.categories != self.categories:
            raise _other_bins(self.name)
        return msgspec.structs.replace(
            self,
            counts=_added(self.counts, other.counts),
            unseen=self.unseen + other.unseen,
            missing=self.missing + other.missing,
        )


Bins: TypeAlias = ContinuousBins | CategoricalBins


def fit_continuous(name: str, column: Floats, bins: int) -> ContinuousBins:
    """Empty bins whose edges are the `bins` quantiles of `column`, each a value that occurs.

    An atom, a value that more than one quantile falls on, and the least value get one more edge just
    below them, so that the distribution function is known on both sides of its jump.
    """
    values = np.sort(_finite(column))
    if not len(values):
        return ContinuousBins(name=name, edges=b"", counts=(0,))
    ranks = -(-np.arange(1, bins + 1) * len(values) // bins) - 1
    quantiles, levels = np.unique(values[ranks], return_counts=True)
    atoms = np.append(quantiles[levels > 1], values[0])
    edges = np.unique(np.concatenate([quantiles, _just_below(atoms)]))
    edges = edges[np.isfinite(edges)].astype("<f4")
    return ContinuousBins(name=name, edges=edges.tobytes(), counts=(0,) * (len(edges) + 1))


def fit_categorical(name: str, column: Floats) -> CategoricalBins:
    """Empty bins for the most frequent values of `column`, which are whole numbers."""
    found, times = np.unique(_finite(column), return_counts=True)
    most = np.argsort(-times, kind="stable")[:CATEGORIES_MAX]
    categories = tuple(sorted(int(value) for value in found[most]))
    return CategoricalBins(name=name, categories=categories, counts=(0,) * len(categories))


def _finite(column: Floats) -> Floats:
    """The finite values; subnormal ones become 0, because some engines flush them and some do not."""
    values = column[np.isfinite(column)]
    return np.where(np.abs(values) < TINY, np.float32(0.0), values)


def _just_below(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        lower = np.nextafter(values, np.float32(-np.inf))
    return np.where(np.abs(lower) < TINY, -TINY, lower)


def _other_bins(name: str) -> DriftError:
    return DriftError(
        f"'{name}' is counted in different bins",
        remedy="merge profiles made from the same reference",
    )


def _added(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))
