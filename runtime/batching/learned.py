"""How long the engine takes, learned from its calls. Pure.

Knows: the cost of a row, in batches and alone. Rules: a slow call counts at once and is forgotten slowly,
so that a model which is quick only now and then is not taken for a quick one. Leaves to others: what
follows from it (`batcher`, `waiting`).
"""

FORGET_SHIFT = 3  # an eighth a call


class Learned:
    """Recent costs in nanoseconds; 0 for what has not been seen."""

    def __init__(self, *, inline_ns: int) -> None:
        """A call of at most `inline_ns` counts as quick; 0: none does."""
        self._inline_ns = inline_ns
        self._alone_ns = 0  # a row of a request that had the engine for itself: a falling maximum
        self.row_ns = 0  # a row of any call: a running mean

    def add(self, took_ns: int, *, rows: int, requests: int) -> None:
        """Count one call of `rows` rows, of so many requests."""
        row_ns = max(took_ns // rows, 1)
        self.row_ns += ((row_ns - self.row_ns) >> FORGET_SHIFT) if self.row_ns else row_ns
        if requests == 1:
            fallen = self._alone_ns - (self._alone_ns >> FORGET_SHIFT)
            self._alone_ns = max(row_ns, fallen)

    def quick(self, rows: int) -> bool:
        """Whether a call of `rows` rows will not hold its thread up for long."""
        return 0 < self._alone_ns <= self._inline_ns and self.row_ns * rows <= self._inline_ns
