"""Reading the log's rows in short transactions.

Knows: how to walk millions of rows without holding a read transaction. Rules: a page is read whole and its
transaction ended before anything is done with it, because a long reader keeps SQLite from folding its
write-ahead log, which then grows without end; a page is bounded in rows and bytes. Leaves to others: what
the rows mean (`audit.schema`), which rows are wanted (`audit.search`).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from sys import getsizeof

from appliance.audit.record import EVIDENCE_REMEDY
from appliance.audit.schema import (
    BODY,
    SELECT_RECORD,
    SELECT_RECORD_1,
    CheckpointRow,
    Row,
    SubtreeRow,
    broken,
)
from appliance.database import SQLITE_ERRORS, Connection, Database
from appliance.errors import AuditBroken

PAGE_RECORDS = 512
PAGE_BYTES = 4 << 20
PAGE_CHECKPOINTS = 256
FETCH_RECORDS = 64
BEFORE_ALL, AFTER_ALL = -(1 << 63), (1 << 63) - 1

_body = itemgetter(BODY)


def select(database: Database) -> str:
    """The beginning of a query for rows, whatever the file's format."""
    return SELECT_RECORD_1 if database.format == 1 else SELECT_RECORD


def pages(
    database: Database, *, after: int = BEFORE_ALL, before: int = AFTER_ALL
) -> Iterator[list[Row]]:
    """Yield the rows with after < sequence < before, in order, in pages never empty."""
    sql = (
        f"{select(database)} NOT INDEXED WHERE sequence > ? AND sequence < ? "
        "ORDER BY sequence LIMIT ?"
    )
    while rows := page(database, sql, (after, before), PAGE_RECORDS):
        yield rows
        if rows[-1][0] <= after:  # or a damaged page would be read without end
            raise broken(rows[-1][0], f"it stands behind record {after}")
        after = rows[-1][0]


def page(database: Database, sql: str, values: Sequence[int | str], count: int) -> list[Row]:
    """The first `count` rows of `sql`, or fewer: cut where they have PAGE_BYTES, and before what cannot be read.

    `sql` ends in a limit, which `values` leaves out. An error is thus about the first row asked for.
    """
    while True:
        try:
            return _page(database, sql, (*values, count))
        except SQLITE_ERRORS:
            if count == 1:
                raise
            count //= 2


def _page(database: Database, sql: str, values: Sequence[int | str]) -> list[Row]:
    cursor = database.connection.execute(sql, values)
    found: list[Row] = []
    size = 0
    while size < PAGE_BYTES and (rows := cursor.fetchmany(FETCH_RECORDS)):
        found += rows
        # A damaged file can hold any type in any column; this works on all of them.
        size += sum(map(getsizeof, map(_body, rows)))
    cursor.close()
    return found


def rows_at(database: Database, sequences: Iterable[int]) -> list[Row]:
    """The rows of these sequences, in the order given."""
    one = f"{select(database)} WHERE sequence = ?"
    return [database.connection.execute(one, (sequence,)).fetchone() for sequence in sequences]


def rare_rows(database: Database, categories: Iterable[str]) -> list[Row]:
    """The rows of these categories, in order; not for "inference", of which there are millions."""
    found: list[int] = []
    for category in categories:
        found += [
            sequence
            for (sequence,) in database.connection.execute(
                "SELECT sequence FROM record INDEXED BY record_rare "
                "WHERE category = ? AND category <> 'inference'",
                (category,),
            )
        ]
    return rows_at(database, sorted(found))


def leaves(database: Database, first: int, end: int) -> list[bytes]:
    """The leaf hashes of the records with first <= sequence < end."""
    return [
        leaf
        for (leaf,) in database.connection.execute(
            "SELECT leaf FROM record WHERE sequence >= ? AND sequence < ? ORDER BY sequence",
            (first, end),
        )
    ]


def subtree_rows(database: Database, level: int, first: int, end: int) -> list[SubtreeRow]:
    """The subtrees of `level` with first <= number < end that were completed in this file."""
    return database.connection.execute(
        "SELECT level, number, hash FROM subtree WHERE level = ? AND number >= ? AND number < ? "
        "ORDER BY number",
        (level, first, end),
    ).fetchall()


@contextmanager
def reading_checkpoints() -> Iterator[None]:
    """Tell a file whose checkpoints cannot be read within as AuditBroken: no record is in doubt by that."""
    try:
        yield
    except SQLITE_ERRORS as error:
        raise AuditBroken(
            f"the checkpoints cannot be read: {error}", remedy=EVIDENCE_REMEDY
        ) from error


def checkpoint_rows(database: Database, *, up_to: int) -> Iterator[CheckpointRow]:
    """Yield the checkpoints of at most `up_to` records, smallest first, read page by page; AuditBroken."""
    sql = (
        "SELECT size, frontier, note FROM checkpoint WHERE size > ? AND size <= ? "
        "ORDER BY size LIMIT ?"
    )
    after = BEFORE_ALL
    while True:
        with reading_checkpoints():
            values = (after, up_to, PAGE_CHECKPOINTS)
            found = database.connection.execute(sql, values).fetchall()
        if not found:
            return
        yield from found
        if found[-1][0] <= after:  # or a damaged page would be read without end
            raise AuditBroken(
                f"checkpoint {found[-1][0]}: it stands behind {after}", remedy=EVIDENCE_REMEDY
            )
        after = found[-1][0]


def last_checkpoints(database: Database, count: int) -> list[CheckpointRow]:
    """The `count` newest checkpoints, newest first."""
    return database.connection.execute(
        "SELECT size, frontier, note FROM checkpoint ORDER BY size DESC LIMIT ?", (count,)
    ).fetchall()


def first_sequence(connection: Connection) -> int | None:
    """The first sequence of a file: the size of its first checkpoint; None when it has none yet."""
    found = connection.execute("SELECT min(size) FROM checkpoint").fetchone()[0]
    return None if found is None else int(found)


def count_records(connection: Connection) -> int:
    """How many records the log has at the end of this file, by its last sequence."""
    last = connection.execute("SELECT max(sequence) FROM record").fetchone()[0]
    if last is None:
        return first_sequence(connection) or 0
    return int(last) + 1
