"""The audit log's reader: finds and streams records, beside a running writer or without one.

Knows: the questions that the console, the drift check, receipts and the boot ask of a log. Rules: reads only, in
short transactions, over all files of the log; each record is checked against its leaf and its columns before it
is shown. Leaves to others: proving the whole (`audit.verify`), appending (`audit.log`), passing over what is not
sought (`audit.search`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from appliance.audit import pages, search
from appliance.audit.kinds import CATEGORIES, AnyRecord, Decision, Outcome, Sealed
from appliance.audit.record import Entry
from appliance.audit.schema import Row, broken, entry_of
from appliance.audit.search import Sought
from appliance.audit.shelf import Opened, Shelf
from appliance.audit.tree import Frontier
from appliance.database import SQLITE_ERRORS
from appliance.deployment import Deployment
from appliance.errors import AuditError, UnknownRecord

SHOW_COUNT = 1000


class AuditReader:
    """The log that grows in a file, opened for reading; StateError when it is missing or no audit log.

    Every method raises AuditBroken on a record that does not fit its leaf or its columns, AuditError when
    a file cannot be read. One thread at a time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shelf = Shelf(path)
        # The changes of keys before this record: no file of those changes any more, and there may be thousands.
        self._changes, self._changes_end = list[Entry](), 0

    def size(self) -> int:
        """How many records the log has had; the oldest of them may be removed (`first`)."""
        with self._reading() as shelf:
            return shelf.size()

    def first(self) -> int:
        """The sequence of the oldest record that is still there."""
        with self._reading() as shelf:
            return shelf.first()

    def tail(
        self,
        count: int,
        *,
        model: str | None = None,
        category: str | None = None,
        sought: Sought | None = None,
    ) -> list[Entry]:
        """The last `count` records, of one model or category if given, or as `sought`, oldest first."""
        wanted = _sought(model, category, sought)
        rows: list[Row] = []
        with self._reading() as shelf:
            for file in shelf.newest_first():
                rows += search.newest(file.database, wanted, count - len(rows))
                if len(rows) >= count:
                    break
        return [_entry(row) for row in reversed(rows)]

    def show(self, event_id: str, *, count: int = SHOW_COUNT) -> list[Entry]:
        """The last `count` records of a request or decision, oldest first; UnknownRecord if none."""
        rows: list[Row] = []
        with self._reading() as shelf:
            for file in shelf.newest_first():
                rows += file.database.connection.execute(
                    f"{pages.select(file.database)} INDEXED BY record_event WHERE event_id = ? "
                    "ORDER BY sequence DESC LIMIT ?",
                    (event_id, count - len(rows)),
                ).fetchall()
                if len(rows) >= count:
                    break
        if not rows:
            raise UnknownRecord(
                f"the audit log has no record of '{event_id}'",
                remedy="give a request id or decision id as `holdfast audit tail` prints them",
            )
        return [_entry(row) for row in reversed(rows)]

    def at(self, sequence: int) -> Entry:
        """The record in place `sequence`; UnknownRecord when the log has none there, or none any more."""
        with self._reading():
            file = self._file_of(sequence)
            rows = [row for row in pages.rows_at(file.database, [sequence]) if row is not None]
        if not rows:
            raise _no_place(sequence)
        return entry_of(rows[0], sequence)

    def records(
        self,
        *,
        model: str | None = None,
        category: str | None = None,
        sought: Sought | None = None,
        since_sequence: int = 0,
        until_sequence: int | None = None,
    ) -> Iterator[Entry]:
        """Stream records with since <= sequence < until in order, of one model or category, or as `sought`.

        Between two of them no transaction is open; what is appended meanwhile comes too.
        """
        wanted = _sought(model, category, sought)
        at, end = since_sequence, pages.AFTER_ALL if until_sequence is None else until_sequence
        while at < end:
            with self._reading() as shelf:
                looked = shelf.refresh()
                for file in shelf.files(first=at, end=end):
                    for rows in search.forward(file.database, wanted, first=at, end=end):
                        for row in rows:
                            at = row[0] + 1
                            yield _entry(row)
                if shelf.refresh() == looked:
                    return

    def first_since(self, wall_ns: int) -> int:
        """The lowest sequence recorded at `wall_ns` or later; the log's size when there is none."""
        with self._reading() as shelf:
            for file in shelf.files():
                found = search.first_since(file.database, wall_ns)
                if found is not None:
                    return found
            return shelf.size()

    def last_outcomes(self) -> dict[str, Deployment]:
        """How each model stands: by its newest outcome, by model name, those that changed last at the end.

        Each file says in its first record what stood when it was begun.
        """
        stood: dict[str, Deployment] = {}
        for record in self._since_sealed():
            if isinstance(record, Sealed):
                stood = {each.model: each for each in record.standing}
            elif isinstance(record, Outcome):
                stood.pop(record.model, None)
                stood[record.model] = record.deployment
        return stood

    def open_decisions(self) -> list[Decision]:
        """Decisions that no outcome followed, oldest first: what a crash interrupted.

        No file is sealed between a decision and its outcome.
        """
        decided: dict[str, Decision] = {}
        for record in self._since_sealed():
            if isinstance(record, Decision):
                decided[record.decision_id] = record
            elif isinstance(record, Outcome):
                decided.pop(record.decision_id, None)
        return list(decided.values())

    def key_changes(self) -> list[Entry]:
        """Every change of a key, oldest first; they outlive the files that they were in."""
        newest: list[Entry] = []
        with self._reading() as shelf:
            for file in shelf.files(first=self._changes_end, removed=True):
                newest = _rare_entries(file, ("key_change",))
                if file.end != pages.AFTER_ALL:
                    self._changes += newest
                    self._changes_end, newest = file.end, []
        return self._changes + newest

    def checkpoints(self, count: int = 1) -> list[str]:
        """The last `count` checkpoints as signed notes, oldest first, unverified."""
        found: dict[int, str] = {}
        with self._reading() as shelf:
            for file in shelf.newest_first(removed=True):
                rows = pages.last_checkpoints(file.database, count)
                found |= {size: note for size, _, note in rows if size not in found}
                if len(found) >= count:
                    break
        return [found[size] for size in sorted(found)[-count:]]

    def checkpoint_from(self, size: int) -> str | None:
        """The first checkpoint over at least `size` records as a signed note, unverified; None if none yet."""
        with self._reading() as shelf:
            for file in shelf.files(first=size - 1, removed=True):
                row = file.database.connection.execute(
                    "SELECT note FROM checkpoint WHERE size >= ? ORDER BY size LIMIT 1", (size,)
                ).fetchone()
                if row is not None:
                    return str(row[0])
        return None

    def leaves(self, first: int, end: int) -> list[bytes]:
        """The leaf hashes of the records with first <= sequence < end; UnknownRecord if one is gone."""
        found: list[bytes] = []
        with self._reading() as shelf:
            for file in shelf.files(first=first, end=end):
                found += pages.leaves(file.database, first, end)
        if len(found) != end - first:
            raise _no_place(first)
        return found

    def subtrees(self, level: int, first: int, end: int) -> list[bytes]:
        """The roots of the subtrees of 256**level records with first <= number < end, of all time."""
        found: list[bytes] = []
        with self._reading() as shelf:
            span = 256**level
            for file in shelf.files(first=first * span, end=end * span, removed=True):
                rows = pages.subtree_rows(file.database, level, first, end)
                found += [row[2] for row in rows]
        if len(found) != end - first:
            raise broken(first * 256**level, f"subtrees {first} to {end - 1} are not whole")
        return found

    def edge(self) -> Frontier:
        """The tree's frontier where the records begin that are still here: empty unless files were removed.

        Raises AuditBroken when it was not kept.
        """
        first = self.first()
        if not first:
            return Frontier()
        with self._reading() as shelf:
            for file in shelf.files(first=first - 1, removed=True):
                row = file.database.connection.execute(
                    "SELECT frontier FROM checkpoint WHERE size = ?", (first,)
                ).fetchone()
                if row is not None:
                    return Frontier.from_bytes(first, row[0])
        raise broken(first, "the hashes of what was removed before it are missing")

    def close(self) -> None:
        """Close the files."""
        self._shelf.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _since_sealed(self) -> list[AnyRecord]:
        """The decisions, outcomes and seals of the newest file that begins with its seal, and after."""
        found: list[AnyRecord] = []
        with self._reading() as shelf:
            for file in shelf.newest_first():
                entries = _rare_entries(file, ("sealed", "decision", "outcome"))
                found[:0] = [entry.record for entry in entries]
                if found and isinstance(found[0], Sealed):
                    break
        return found

    def _file_of(self, sequence: int) -> Opened:
        for file in self._shelf.files(first=sequence, end=sequence + 1):
            if file.first <= sequence < file.end:
                return file
        raise _no_place(sequence)

    @contextmanager
    def _reading(self) -> Iterator[Shelf]:
        try:
            self._shelf.refresh()
            yield self._shelf
        except SQLITE_ERRORS as error:
            raise AuditError(
                f"the audit log {self._path} cannot be read: {error}",
                remedy="check the disk, then run `holdfast audit verify`",
            ) from error


def _sought(model: str | None, category: str | None, sought: Sought | None) -> Sought:
    wanted = sought or Sought(model=model, category=category)
    if wanted.category is not None and wanted.category not in CATEGORIES:
        raise UnknownRecord(
            f"there is no category '{wanted.category}'",
            remedy=f"use one of {', '.join(CATEGORIES)}",
        )
    return wanted


def _rare_entries(file: Opened, categories: tuple[str, ...]) -> list[Entry]:
    return [_entry(row) for row in pages.rare_rows(file.database, categories)]


def _no_place(sequence: int) -> UnknownRecord:
    return UnknownRecord(
        f"the audit log has no record {sequence}, or none any more",
        remedy="see with `holdfast audit status` which records it holds",
    )


def _entry(row: Row) -> Entry:
    return entry_of(row, row[0])
