"""`holdfast audit export`: records as lines that other programs read, with the checkpoint that covers them.

Knows: the two forms. Rules: JSON Lines holds each record's canonical bytes, so its leaf hash can be made from the line;
CSV holds the columns to search by and the whole record beside them; what left is noted in the log. Leaves to others:
finding records (`appliance.audit.reader`), proving (`appliance.audit.verify`).
"""

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from appliance.audit.checkpoint import read_checkpoint
from appliance.audit.kinds import Exported
from appliance.audit.reader import AuditReader
from appliance.audit.record import Entry, encode
from appliance.audit.search import Sought
from appliance.clock import timestamp
from appliance.config import StateConfig
from appliance.errors import AuditError
from appliance.files import sync_directory, unwritable, write_file
from tui.noting import leave_note
from tui.printing import cell, out, print_json, progress

CSV_HEAD = (
    "sequence",
    "time",
    "category",
    "model",
    "version",
    "event_id",
    "result",
    "principal",
    "record",
)
CHECKPOINT_SUFFIX = ".checkpoint"
TOLD_EVERY = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(
    state: StateConfig, target: Path, *, form: str, sought: Sought, force: bool, as_json: bool
) -> None:
    """Write the records that are sought to `target` as `form` ("jsonl" or "csv"), and a checkpoint beside it.

    The checkpoint covers every record written. Raises AuditError when a file is there already and not `force`,
    or nothing covers the records yet; StateError when the file system refuses.
    """
    beside = target.with_name(target.name + CHECKPOINT_SUFFIX)
    taken = [path for path in (target, beside) if path.exists()]
    if taken and not force:
        raise AuditError(f"{taken[0]} is there already", remedy="give another name, or --force")
    with AuditReader(state.audit_log) as reader:
        first, end = reader.first(), reader.size()
        note = reader.checkpoint_from(end)
        if note is None:
            # What no checkpoint covers yet is left out: a file without proof of its end proves nothing.
            note = reader.checkpoints()[-1]
            end = read_checkpoint(note).size
        count, digest = _write(reader, target, form=form, sought=sought, end=end)
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
                "records": count,
                "end": end,
                "sha256": digest,
            }
        )
        return
    console = out()
    console.print(cell(f"{count:,} records written to {target}", "bold green"))
    console.print(cell(f"The checkpoint over the first {end:,} is in {beside}"))
    console.print(cell(f"SHA-256 {digest}"))


def _write(
    reader: AuditReader, target: Path, *, form: str, sought: Sought, end: int
) -> tuple[int, str]:
    """Write the sought records before `end`; how many, and the SHA-256 of the file."""
    digest, count = hashlib.sha256(), 0
    making = target.with_name(f".{target.name}.making")
    try:
        with making.open("wb") as file, progress("records") as bar:
            task = bar.add_task("Exporting", total=end)
            entries = _Counted(reader.records(sought=sought, until_sequence=end))
            for line in _csv_lines(entries) if form == "csv" else map(_json_line, entries):
                file.write(line)
                digest.update(line)
                count += 1
                if not count % TOLD_EVERY:
                    bar.update(task, completed=entries.sequence)
            bar.update(task, completed=end)
            file.flush()
            os.fsync(file.fileno())
        making.replace(target)
        sync_directory(target.absolute().parent)
    except OSError as error:
        making.unlink(missing_ok=True)
        raise unwritable(target, error) from error
    return entries.count, digest.hexdigest()


class _Counted:
    """Passes entries on; `count` of them so far, the last one at `sequence`."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = iter(entries)
        self.count = self.sequence = 0

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __next__(self) -> Entry:
        entry = next(self._entries)
        self.count += 1
        self.sequence = entry.sequence
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
