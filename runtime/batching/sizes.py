"""How many rows a batch has. Pure.

Knows: the largest batch, preferred sizes, and the buckets that batches are padded to. Rules: no bucket
is left more than half empty while a smaller one could be full. Leaves to others: which requests these
are (`waiting`).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence


class Sizes:
    """The sizes of one model's batches, in rows."""

    def __init__(self, rows_max: int, *, preferred: Sequence[int], buckets: Sequence[int]) -> None:
        """Sizes beyond `rows_max` count as `rows_max`."""
        self.rows_max = rows_max
        self._preferred = sorted({min(rows, rows_max) for rows in preferred})
        self._buckets = sorted({min(rows, rows_max) for rows in buckets})
        self.enough = self._preferred[0] if self._preferred else rows_max

    def limit(self, fitting: int, waiting: int, lanes: int) -> int:
        """How many of `fitting` rows that could share a batch one of `lanes` free lanes takes at most.

        A fair share of all that are `waiting`, so that one lane does not take everything while the
        others sleep; of that the largest preferred size, or all where none is preferred or reached.
        """
        share = min(fitting, -(-waiting // lanes), self.rows_max)
        reached = bisect_right(self._preferred, share)
        if reached:
            return self._preferred[reached - 1]
        return self._well_filled(share)

    def padded(self, rows: int) -> int:
        """The size of the engine call for a batch of `rows`: the next bucket, if there is one."""
        above = bisect_left(self._buckets, rows)
        return self._buckets[above] if above < len(self._buckets) else rows

    def _well_filled(self, rows: int) -> int:
        """`rows`, or the full bucket below it when the one above would be less than half full."""
        below = bisect_right(self._buckets, rows)
        if 0 < below < len(self._buckets) and 2 * rows < self._buckets[below]:
            return self._buckets[below - 1]
        return rows
