"""`holdfast audit export`: records as lines that other programs read, with the checkpoint that covers them.

Knows: the forms. Rules: JSON Lines holds each record's canonical bytes, so its leaf hash can be made from the line;
CSV and Parquet hold the columns to search by and the whole record beside them; what left is noted in the log. Leaves
to others: finding records (`appliance.audit.reader`), proving (`appliance.audit.verify`), Parquet's bytes
(`tui.parquet`).
"""

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from appliance.audit.checkpoint import read_checkpoint
from appliance.audit.kinds import Exported
from appliance.audit.reader import AuditReader
from appliance.audit.record import Entry, encode
from appliance.audit.search import Sought
from appliance.clock import timestamp
from appliance.config import StateConfig
from appliance.errors import AuditError
from appliance.files import sync_directory, unwritable, write_file
from tui import parquet, wording
from tui.noting import leave_note
from tui.printing import cell, out, print_json, progress

Form: TypeAlias = Literal["jsonl", "csv", "parquet"]
CSV_HEAD = tuple(name for name in parquet.COLUMNS if name != "leaf")
CHECKPOINT_SUFFIX = ".checkpoint"
TOLD_EVERY = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(
    state: StateConfig, target: Path, *, form: Form, sought: Sought, force: bool, as_json: bool
) -> None:
    """Write the records that are sought to `target` as `form`, and a checkpoint beside it.

    The checkpoint covers every record written. Raises AuditError when a file is there already and not `force`,
    or nothing covers the records yet; ConfigError when Parquet is not installed; StateError when the file system
    refuses.
    """
    if form == "parquet":
        parquet.library()
    beside = target.with_name(target.name + CHECKPOINT_SUFFIX)
    taken = [path for path in (target, beside) if path.exists()]
    if taken and not force:
        raise AuditError(f"{taken[0]} is there already", remedy="give another name, or --force")
    with AuditReader(state.audit_log) as reader:
        first, end = reader.first(), reader.size()
        left_out = 0
        note = reader.checkpoint_from(end)
        if note is None:
            # What no checkpoint covers yet is left out: a file without proof of its end proves nothing.
            note = reader.checkpoints()[-1]
            end, size = read_checkpoint(note).size, end
            left_out = size - end
        entries = _Counted(_whole(reader, first, reader.records(sought=sought, until_sequence=end)))
        digest = _write(target, entries, form=form, note=note, end=end)
    write_file(beside, note.encode("utf-8"))
    exported = Exported(
        what="records", first=first, end=end, sha256=digest, destination=str(target), by=""
    )
    leave_note(state, exported)
    if as_json:
        print_json(
            {
                "file": str(target),
                "checkpoint": str(beside),
                "records": entries.count,
                "end": end,
                "left_out": left_out,
                "sha256": digest,
            }
        )
        return
    console = out()
    console.print(cell(f"{entries.count:,} records written to {target}", "bold green"))
    console.print(cell(f"The checkpoint over the first {end:,} is in {beside}"))
    if left_out:
        told = f"Left out: {wording.plural(left_out, 'younger record')}, which no checkpoint covers yet. Export again in a while."
        console.print(cell(told, "yellow"))
    console.print(cell(f"SHA-256 {digest}"))


def _whole(reader: AuditReader, first: int, entries: Iterable[Entry]) -> Iterator[Entry]:
    """`entries`; AuditError at their end when the log does not begin with record `first` any more."""
    yield from entries
    if reader.first() != first:
        raise AuditError(
            "retention removed records of the log meanwhile", remedy="export once more"
        )


def _write(target: Path, entries: "_Counted", *, form: Form, note: str, end: int) -> str:
    """Write `entries`, all before `end`; the SHA-256 of the file."""
    making = target.with_name(f".{target.name}.making")
    try:
        with making.open("wb") as file, progress("records") as bar:
            task = bar.add_task("Exporting", total=end)
            entries.tell = lambda: bar.update(task, completed=entries.sequence)
            hashed = _Hashed(file)
            if form == "parquet":
                parquet.write_records(hashed, entries, about={"holdfast.checkpoint": note})
            else:
                for line in _csv_lines(entries) if form == "csv" else map(_json_line, entries):
                    hashed.write(line)
            bar.update(task, completed=end)
            file.flush()
            os.fsync(file.fileno())
        making.replace(target)
        sync_directory(target.absolute().parent)
    except OSError as error:
        making.unlink(missing_ok=True)
        raise unwritable(target, error) from error
    except BaseException:
        making.unlink(missing_ok=True)
        raise
    return hashed.digest


class _Hashed:
    """A file that is written in order, and the SHA-256 of what was."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class _Counted:
    """Passes entries on; `count` of them so far, the last one at `sequence`; now and then `tell` is called."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = iter(entries)
        self.count = self.sequence = 0
        self.tell: Callable[[], object] = lambda: None

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __next__(self) -> Entry:
        entry = next(self._entries)
        self.count += 1
        self.sequence = entry.sequence
        if not self.count % TOLD_EVERY:
            self.tell()
        return entry


def _json_line(entry: Entry) -> bytes:
    return encode(entry) + b"\n"


def _csv_lines(entries: Iterable[Entry]) -> Iterator[bytes]:
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    yield line.getvalue().encode("utf-8")
    line.seek(0)
    line.truncate()
    for entry in entries:
        category, model, version, event_id, result, principal = entry.record.columns()
        when, body = timestamp(entry.wall_ns), encode(entry).decode("utf-8")
        told = (category, model, version, event_id or "", result, principal)
        writer.writerow((entry.sequence, when, *map(_no_formula, told), body))
        yield line.getvalue().encode("utf-8")
        line.seek(0)
        line.truncate()


def _no_formula(value: object) -> object:
    """A text that a spreadsheet would run is shown as text: clients choose models and ids."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
