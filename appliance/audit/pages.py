"""Reading the log's rows in short transactions.

Knows: how to walk millions of rows without holding a read transaction. Rules: a page is read whole and its
transaction ended before anything is done with it, because a long reader keeps SQLite from folding its
write-ahead log, which then grows without end; a page is bounded in rows and bytes. Leaves to others: what
the rows mean (`audit.schema`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from sys import getsizeof

from appliance.audit.schema import BODY, SELECT_RECORD, CheckpointRow, Row
from appliance.database import Connection

PAGE_RECORDS = 512
PAGE_BYTES = 4 << 20
PAGE_CHECKPOINTS = 256
FETCH_RECORDS = 64
BEFORE_ALL, AFTER_ALL = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rows: `condition` in SQL with its `values`, and the index that has them in order.

    Naming the index keeps every page a short walk, whatever SQLite would guess about the data.
    """

    access: str = "NOT INDEXED"
    condition: str = "TRUE"
    values: tuple[str, ...] = ()


EVERYTHING = Selection()
_body = itemgetter(BODY)


def pages(
    connection: Connection,
    selection: Selection = EVERYTHING,
    *,
    after: int = BEFORE_ALL,
    before: int = AFTER_ALL,
) -> Iterator[list[Row]]:
    """Yield the selected rows with after < sequence < before, in order, in pages never empty."""
    sql = (
        f"{SELECT_RECORD} {selection.access} "
        f"WHERE sequence > ? AND sequence < ? AND {selection.condition} ORDER BY sequence LIMIT ?"
    )
    while page := _page(connection, sql, (after, before, *selection.values, PAGE_RECORDS)):
        yield page
        after = page[-1][0]


def newest(connection: Connection, selection: Selection, count: int) -> list[Row]:
    """The last `count` selected rows, newest first."""
    sql = (
        f"{SELECT_RECORD} {selection.access} "
        f"WHERE {selection.condition} ORDER BY sequence DESC LIMIT ?"
    )
    return connection.execute(sql, (*selection.values, count)).fetchall()


def rows_at(connection: Connection, sequences: Iterable[int]) -> list[Row]:
    """The rows of these sequences, in the order given."""
    one = f"{SELECT_RECORD} WHERE sequence = ?"
    return [connection.execute(one, (sequence,)).fetchone() for sequence in sequences]


def checkpoint_rows(connection: Connection, *, up_to: int) -> Iterator[CheckpointRow]:
    """Yield the checkpoints of at most `up_to` records, smallest first, read page by page."""
    after = BEFORE_ALL
    while page := connection.execute(
        "SELECT size, frontier, note FROM checkpoint WHERE size > ? AND size <= ? "
        "ORDER BY size LIMIT ?",
        (after, up_to, PAGE_CHECKPOINTS),
    ).fetchall():
        yield from page
        after = page[-1][0]


def last_checkpoints(connection: Connection, count: int) -> list[CheckpointRow]:
    """The `count` newest checkpoints, newest first."""
    return connection.execute(
        "SELECT size, frontier, note FROM checkpoint ORDER BY size DESC LIMIT ?", (count,)
    ).fetchall()


def count_records(connection: Connection) -> int:
    """How many records the log has, by its last sequence."""
    last = connection.execute("SELECT max(sequence) FROM record").fetchone()[0]
    return 0 if last is None else int(last) + 1


def _page(connection: Connection, sql: str, values: Sequence[int | str]) -> list[Row]:
    cursor = connection.execute(sql, values)
    page: list[Row] = []
    size = 0
    while size < PAGE_BYTES and (rows := cursor.fetchmany(FETCH_RECORDS)):
        page += rows
        # A damaged file can hold any type in any column; this works on all of them.
        size += sum(map(getsizeof, map(_body, rows)))
    cursor.close()
    return page
