"""The audit log's reader: finds and streams records, beside a running writer or without one.

Knows: the questions that the console, the drift check and the boot ask of a log. Rules: reads only, in
short transactions; each record is checked against its leaf and its columns before it is shown. Leaves to
others: proving the whole (`audit.verify`), appending (`audit.log`).
"""

import heapq
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from appliance.audit.pages import (
    EVERYTHING,
    Selection,
    count_records,
    last_checkpoints,
    newest,
    pages,
    rows_at,
)
from appliance.audit.record import CATEGORIES, Decision, Entry, Outcome
from appliance.audit.schema import SCHEMA, Row, entry_of
from appliance.database import SQLITE_ERRORS, Connection, Database
from appliance.deployment import Deployment
from appliance.errors import AuditError, UnknownRecord

SHOW_COUNT = 1000


class AuditReader:
    """A log file opened for reading; StateError when it is missing or no audit log.

    Every method raises AuditBroken on a record that does not fit its leaf or its columns, AuditError when
    the file cannot be read. One thread at a time.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database.read(path, SCHEMA)

    def size(self) -> int:
        """How many records the log has."""
        with self._reading() as connection:
            return count_records(connection)

    def tail(
        self, count: int, *, model: str | None = None, category: str | None = None
    ) -> list[Entry]:
        """The last `count` records, of one model or category if given, oldest first."""
        rows: list[Row] = []
        for selection in _selections(model, category):
            with self._reading() as connection:
                rows += newest(connection, selection, count)
        rows.sort(key=_sequence, reverse=True)
        return [_entry(row) for row in reversed(rows[:count])]

    def show(self, event_id: str, *, count: int = SHOW_COUNT) -> list[Entry]:
        """The last `count` records of a request or decision, oldest first; UnknownRecord if none."""
        of_event = Selection(
            access="INDEXED BY record_event", condition="event_id = ?", values=(event_id,)
        )
        with self._reading() as connection:
            rows = newest(connection, of_event, count)
        if not rows:
            raise UnknownRecord(
                f"the audit log has no record of '{event_id}'",
                remedy="give a request id or decision id as `holdfast audit tail` prints them",
            )
        return [_entry(row) for row in reversed(rows)]

    def records(
        self,
        *,
        model: str | None = None,
        category: str | None = None,
        since_sequence: int = 0,
        until_sequence: int | None = None,
    ) -> Iterator[Entry]:
        """Stream records with since <= sequence < until in order, of one model or category if given.

        Between two of them no transaction is open; what is appended meanwhile comes too.
        """
        streams = [
            self._stream(selection, since_sequence) for selection in _selections(model, category)
        ]
        for row in heapq.merge(*streams, key=_sequence):
            if until_sequence is not None and row[0] >= until_sequence:
                return
            yield _entry(row)

    def first_since(self, wall_ns: int) -> int:
        """The lowest sequence recorded at `wall_ns` or later; the log's size when there is none."""
        with self._reading() as connection:
            found = connection.execute(
                "SELECT min(sequence) FROM record WHERE wall_ns >= ?", (wall_ns,)
            ).fetchone()[0]
            return count_records(connection) if found is None else int(found)

    def last_outcomes(self) -> dict[str, Deployment]:
        """How each model stands: the deployment of its newest outcome, by model name."""
        rows = self._found(
            "SELECT max(sequence) AS newest FROM record INDEXED BY record_model "
            "WHERE category = 'outcome' GROUP BY model ORDER BY newest"
        )
        outcomes = [record for row in rows if isinstance(record := _entry(row).record, Outcome)]
        return {outcome.model: outcome.deployment for outcome in outcomes}

    def open_decisions(self) -> list[Decision]:
        """Decisions that no outcome followed, oldest first: what a crash interrupted."""
        rows = self._found(
            "SELECT sequence FROM record AS made INDEXED BY record_rare "
            "WHERE category = 'decision' AND category <> 'inference' AND NOT EXISTS "
            "(SELECT 1 FROM record AS came WHERE came.event_id = made.event_id "
            "AND came.category = 'outcome') ORDER BY sequence"
        )
        return [record for row in rows if isinstance(record := _entry(row).record, Decision)]

    def checkpoints(self, count: int = 1) -> list[str]:
        """The last `count` checkpoints as signed notes, oldest first, unverified."""
        with self._reading() as connection:
            return [note for _, _, note in reversed(last_checkpoints(connection, count))]

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _found(self, sql: str) -> list[Row]:
        """The rows of the sequences that `sql` selects."""
        with self._reading() as connection:
            found = connection.execute(sql).fetchall()
            return rows_at(connection, (sequence for (sequence,) in found))

    def _stream(self, selection: Selection, since_sequence: int) -> Iterator[Row]:
        with self._reading() as connection:
            for page in pages(connection, selection, after=since_sequence - 1):
                yield from page

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            yield self._database.connection
        except SQLITE_ERRORS as error:
            raise AuditError(
                f"the audit log {self._database.path} cannot be read: {error}",
                remedy="check the disk, then run `holdfast audit verify`",
            ) from error


def _selections(model: str | None, category: str | None) -> list[Selection]:
    """The walks that together give the wanted records, each in order of sequence."""
    if category is not None and category not in CATEGORIES:
        raise UnknownRecord(
            f"there is no category '{category}'", remedy=f"use one of {', '.join(CATEGORIES)}"
        )
    if model is not None:
        return [
            Selection(
                access="INDEXED BY record_model",
                condition="category = ? AND model = ?",
                values=(each, model),
            )
            for each in (CATEGORIES if category is None else (category,))
        ]
    if category is None:
        return [EVERYTHING]
    if category == "inference":
        return [Selection(condition="category = ?", values=(category,))]
    rare = "category = ? AND category <> 'inference'"
    return [Selection(access="INDEXED BY record_rare", condition=rare, values=(category,))]


def _sequence(row: Row) -> int:
    return row[0]


def _entry(row: Row) -> Entry:
    return entry_of(row, row[0])
