"""Finds records in one file of the log without reading all of it.

Knows: how tiles tell where a record can be. Rules: what is found does not depend on the tiles, only how soon;
each page is a short transaction. Leaves to others: the files (`audit.shelf`), checking what was found
(`audit.reader`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from appliance.audit.pages import AFTER_ALL, PAGE_RECORDS, page, select
from appliance.audit.schema import Row
from appliance.audit.tiles import TILE_RECORDS, word
from appliance.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """What is looked for: equal where given; recorded with since_ns <= wall time < until_ns, UTC."""

    category: str | None = None
    model: str | None = None
    result: str | None = None
    principal: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    def _equal(self) -> list[tuple[str, str]]:
        named = {
            "category": self.category,
            "model": self.model,
            "result": self.result,
            "principal": self.principal,
        }
        return [(column, value) for column, value in named.items() if value is not None]

    def of_rows(self) -> tuple[str, list[int | str]]:
        """The condition on a record's row, in SQL with its values."""
        conditions = [f"{column} = ?" for column, _ in self._equal()]
        values: list[int | str] = [value for _, value in self._equal()]
        for condition, value in (("wall_ns >= ?", self.since_ns), ("wall_ns < ?", self.until_ns)):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        return " AND ".join(conditions) or "TRUE", values

    def of_tiles(self) -> tuple[str, list[int | str]]:
        """The condition on a tile that may hold such a record, in SQL with its values."""
        conditions = ["instr(words, ?)" for _ in self._equal()]
        values: list[int | str] = [word(column, value) for column, value in self._equal()]
        for condition, value in (("wall_max >= ?", self.since_ns), ("wall_min < ?", self.until_ns)):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        return " AND ".join(conditions) or "TRUE", values


def forward(database: Database, sought: Sought, *, first: int, end: int) -> Iterator[list[Row]]:
    """Yield what is sought with first <= sequence < end, in order, in pages never empty."""
    condition, values = sought.of_rows()
    # A list, not an index: the rows of a span lie side by side.
    sql = (
        f"{select(database)} NOT INDEXED WHERE sequence >= ? AND sequence < ? AND {condition} "
        "ORDER BY sequence LIMIT ?"
    )
    at = first
    while at < end:
        start, stop, last = _next_span(database, sought, at)
        stop = min(stop, end)
        rows = page(database, sql, (start, stop, *values), PAGE_RECORDS)
        if rows:
            yield rows
            at = rows[-1][0] + 1
        elif last:
            return
        else:
            at = stop


def newest(database: Database, sought: Sought, count: int) -> list[Row]:
    """The last `count` rows of what is sought, newest first."""
    condition, values = sought.of_rows()
    sql = (
        f"{select(database)} NOT INDEXED WHERE sequence >= ? AND sequence < ? AND {condition} "
        "ORDER BY sequence DESC LIMIT ?"
    )
    found: list[Row] = []
    for start, stop in _spans_back(database, sought):
        found += database.connection.execute(
            sql, (start, stop, *values, count - len(found))
        ).fetchall()
        if len(found) >= count:
            break
    return found


def first_since(database: Database, wall_ns: int) -> int | None:
    """The lowest sequence in this file recorded at `wall_ns` or later, None when there is none."""
    for rows in forward(database, Sought(since_ns=wall_ns), first=0, end=AFTER_ALL):
        return rows[0][0]
    return None


def _next_span(database: Database, sought: Sought, at: int) -> tuple[int, int, bool]:
    """Where from `at` on the next rows may be: start, stop, and whether nothing can come after."""
    if database.format == 1:
        return at, AFTER_ALL, True
    # The end of the tiles first: a tile that is written meanwhile belongs to the last span.
    tiled = _tiled(database)
    condition, values = sought.of_tiles()
    found = database.connection.execute(
        f"SELECT number FROM tile WHERE number >= ? AND number < ? AND {condition} "
        "ORDER BY number LIMIT 1",
        (at // TILE_RECORDS, tiled, *values),
    ).fetchone()
    if found is None:
        return max(at, tiled * TILE_RECORDS), AFTER_ALL, True
    return max(at, found[0] * TILE_RECORDS), (found[0] + 1) * TILE_RECORDS, False


def _spans_back(database: Database, sought: Sought) -> Iterator[tuple[int, int]]:
    if database.format == 1:
        yield 0, AFTER_ALL
        return
    tiled = _tiled(database)
    yield tiled * TILE_RECORDS, AFTER_ALL
    condition, values = sought.of_tiles()
    while True:
        found = database.connection.execute(
            f"SELECT number FROM tile WHERE number < ? AND {condition} ORDER BY number DESC LIMIT 1",
            (tiled, *values),
        ).fetchone()
        if found is None:
            return
        tiled = found[0]
        yield tiled * TILE_RECORDS, (tiled + 1) * TILE_RECORDS


def _tiled(database: Database) -> int:
    """The number of the first tile that this file does not have."""
    last = database.connection.execute("SELECT max(number) FROM tile").fetchone()[0]
    return 0 if last is None else int(last) + 1
