"""How long the engine takes, learned from its calls. Pure.

Knows: what a row costs on the mean, and at its best. Rules: what a call has to wait for the interpreter or a
processor is no cost of the engine, so the best is believed and forgotten slowly; a call that holds its thread
up for really long counts at once and for a while. Leaves to others: what follows from it (`batcher`,
`waiting`).
"""

FORGET_SHIFT, RISE_SHIFT = 3, 6  # an eighth a call; a sixty-fourth
# A call that takes so many times what is quick holds off the next so many from being taken for quick.
LONG, CALM_CALLS = 10, 8


class Learned:
    """Recent costs in nanoseconds; 0 for what has not been seen."""

    def __init__(self, *, inline_ns: int) -> None:
        """A call of at most `inline_ns` counts as quick; 0: none does."""
        self._inline_ns = inline_ns
        self._best_ns = 0  # a row, at its best
        self._calm = CALM_CALLS  # calls since one was long
        self.row_ns = 0  # a row: a running mean

    def add(self, took_ns: int, *, rows: int) -> None:
        """Count one call of `rows` rows."""
        row_ns = max(took_ns // rows, 1)
        self.row_ns += ((row_ns - self.row_ns) >> FORGET_SHIFT) if self.row_ns else row_ns
        if row_ns < self._best_ns or not self._best_ns:
            self._best_ns = row_ns
        else:
            self._best_ns += (row_ns - self._best_ns) >> RISE_SHIFT
        self._calm = 0 if took_ns > LONG * self._inline_ns else self._calm + 1

    def quick(self, rows: int) -> bool:
        """Whether a call of `rows` rows will not hold its thread up for long."""
        known = self._best_ns > 0 and self._calm >= CALM_CALLS
        return known and self._best_ns * rows <= self._inline_ns
