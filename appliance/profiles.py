"""Reference and live profiles: what a model's data look like, in bins.

Knows: a profile's layout, rows and bins; how it is fitted, counted and merged. Rules: a live profile has
exactly the bins of its reference; profiles merge in any order. Leaves to others: single values
(`appliance.bins`), vectors (`runtime.kernels.vector`), statistics and verdicts (`appliance.drift`).
"""

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.bins import Bins, Count, fit_categorical, fit_continuous
from appliance.errors import DriftError
from appliance.layout import Floats, Kind, Sealed, VectorLayout

__all__ = [
    "Profile",
    "VectorLayout",
    "distinct_rows",
    "live_profile",
    "merge",
    "profile_from_vectors",
]

BINS_MAX = 256
BINS_MIN = 8
ROWS_PER_BIN = 4
# A profile stays under 64 KB of JSON: less 14 KB for a PCA and a thousand categories, shared by the
# continuous values, each with some 200 bytes of its own and 10 a bin.
BINS_BYTES_MAX = 50_000
VALUE_BYTES = 200
BIN_BYTES = 10


class Profile(Sealed, frozen=True, kw_only=True):
    """Bins of every value of `layout` over `rows` rows.

    `copies` counts the reference's rows that repeat an earlier one bit for bit; 0 in a live profile.
    A reference with hardly any makes copies in live data suspect.
    """

    format: Literal[1] = 1
    layout: VectorLayout
    rows: Count
    copies: Count = 0
    bins: tuple[Bins, ...]

    def __post_init__(self) -> None:
        if [(item.name, item.kind) for item in self.bins] != list(self.layout.values()):
            raise ValueError("the profile's bins do not follow its layout")
        if any(item.finite + item.missing != self.rows for item in self.bins):
            raise ValueError("the profile's counts do not add up to its rows")


def profile_from_vectors(layout: VectorLayout, vectors: Floats) -> Profile:
    """The reference profile of `vectors`, float32 (rows, len(layout.names)).

    The rows should be held-out ones: neither the model nor the layout's PCA was fitted on them.
    Raises DriftError without rows.
    """
    if not len(vectors):
        raise DriftError("a reference profile needs rows", remedy="add rows to the sample")
    bins = _bins_per_value(len(vectors), layout)
    empty = tuple(
        fit_continuous(value.name, column, bins)
        if value.kind is Kind.CONTINUOUS
        else fit_categorical(value.name, column)
        for value, column in zip(layout.values(), _columns(vectors), strict=True)
    )
    counted = live_profile(Profile(layout=layout, rows=0, bins=empty), vectors)
    copies = len(vectors) - len(distinct_rows(vectors))
    return msgspec.structs.replace(counted, copies=copies)


def live_profile(reference: Profile, vectors: Floats) -> Profile:
    """Count `vectors`, float32 (rows, len(layout.names)), in the bins of `reference`."""
    pairs = zip(reference.bins, _columns(vectors), strict=True)
    return Profile(
        layout=reference.layout,
        rows=len(vectors),
        bins=tuple(item.counted(column) for item, column in pairs),
    )


def merge(a: Profile, b: Profile) -> Profile:
    """The profile of the rows of `a` and `b` together; associative and commutative.

    Counts are exact, means, deviations and distances are so within rounding. Raises DriftError when
    the two have different bins.
    """
    if a.layout != b.layout:
        raise DriftError(
            "profiles of different layouts cannot be merged",
            remedy="merge profiles made from the same reference",
        )
    return Profile(
        layout=a.layout,
        rows=a.rows + b.rows,
        copies=a.copies + b.copies,
        bins=tuple(x.merged(y) for x, y in zip(a.bins, b.bins, strict=True)),
    )


def distinct_rows(vectors: Floats) -> NDArray[np.intp]:
    """Indices of the rows that repeat no earlier row bit for bit (0.0 and -0.0 are one), rising.

    A row with NaN or infinities is always distinct: what is missing does not show that two are one.
    """
    rows, width = vectors.shape
    distinct = np.zeros(rows, np.bool_)
    distinct[~np.isfinite(vectors).all(axis=1)] = True
    if width:
        plain = np.ascontiguousarray(vectors + np.float32(0.0))
        keys = plain.view(np.dtype((np.void, 4 * width))).ravel()
        distinct[np.unique(keys, return_index=True)[1]] = True
    return np.flatnonzero(distinct)


def _bins_per_value(rows: int, layout: VectorLayout) -> int:
    share = BINS_BYTES_MAX // max(1, layout.kinds.count(Kind.CONTINUOUS))
    fitting = (share - VALUE_BYTES) // BIN_BYTES
    return max(BINS_MIN, min(BINS_MAX, rows // ROWS_PER_BIN, fitting))


def _columns(vectors: Floats) -> Floats:
    return np.ascontiguousarray(vectors.T, dtype=np.float32)
