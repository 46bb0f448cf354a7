"""What can be said of 256 records together, so that a search passes over them without reading them. Pure.

Knows: the words of a tile. Rules: a tile names every category, model, result and principal of its records and
the span of their times, so what it does not name is not there. Leaves to others: where tiles are kept
(`audit.schema`), searching (`audit.search`).

One row for each 256 records costs a commit less than an index of each kind for every record, and a search
through a million records reads four thousand such rows.
"""

from typing import Final

import msgspec

TILE_RECORDS: Final = 256


def word(column: str, value: str) -> str:
    """What stands in a tile of which some record has `value` in `column`: one line of its own."""
    return f"\n{column}={msgspec.json.encode(value).decode()}\n"


class Tile:
    """The words of the records from `number` * 256 on, gathered as they are written."""

    __slots__ = ("_said", "number", "wall_max", "wall_min")

    def __init__(self, number: int) -> None:
        self.number = number
        self.wall_min = self.wall_max = 0
        self._said: set[tuple[str, str, str, str]] = set()

    def add(self, wall_ns: int, category: str, model: str, result: str, principal: str) -> None:
        """Take one record in."""
        if not self._said:
            self.wall_min = self.wall_max = wall_ns
        elif wall_ns > self.wall_max:
            self.wall_max = wall_ns
        elif wall_ns < self.wall_min:
            self.wall_min = wall_ns
        self._said.add((category, model, result, principal))

    def copy(self) -> "Tile":
        """An independent tile of the same records."""
        other = Tile(self.number)
        other.wall_min, other.wall_max, other._said = self.wall_min, self.wall_max, set(self._said)
        return other

    def row(self) -> tuple[int, int, int, str]:
        """Number, earliest and latest wall time, and the words, each line once and in order."""
        columns = ("category", "model", "result", "principal")
        words = {
            word(column, value)
            for said in self._said
            for column, value in zip(columns, said, strict=True)
        }
        return (self.number, self.wall_min, self.wall_max, "".join(sorted(words)))
