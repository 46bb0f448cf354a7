"""`holdfast audit verify`, `tail` and `show`.

Knows: how a verification and records read. Rules: reads the log's files itself, so the runtime need not
be up; never claims more than `appliance.audit.verify` proves. Leaves to others: reading and proving.
"""

from collections.abc import Sequence
from pathlib import Path

from appliance.audit.kinds import KeyChange, Verified
from appliance.audit.reader import AuditReader
from appliance.audit.record import Entry
from appliance.audit.search import Sought
from appliance.audit.verify import Verification
from appliance.audit.verify import verify as verify_log
from appliance.clock import timestamp
from appliance.config import StateConfig
from appliance.errors import AuditBroken, AuditError, KeyFileError
from appliance.signing import PublicKey
from tui import wording
from tui.noting import leave_note
from tui.printing import cell, out, print_json, progress, table
from tui.recordtext import record_lines

# Where the day and the whole seconds end in an RFC 3339 time.
DAY_CELLS, SECONDS_CELLS = 11, 19
WIDE_CELLS = 100


def verify(
    state: StateConfig,
    *,
    key: Path | None,
    against: Path | None,
    witnesses: Sequence[Path],
    as_json: bool,
) -> None:
    """Re-read the whole log and print what was found.

    `key` is the box's public key (its own by default), `against` a checkpoint that left the box,
    `witnesses` the public keys of those who must have cosigned that. Raises AuditBroken naming the first broken place, StateError when there is no log, KeyFileError.
    """
    with AuditReader(state.audit_log) as reader:
        public = _public_key(key or state.box_key.with_suffix(".pub"))
        if key is not None:
            _check_whose_log(reader, public, key)
    outside = None if against is None else _read_note(against)
    with progress("records") as bar:
        task = bar.add_task("Verifying", total=None)
        try:
            found = verify_log(
                state.audit_log,
                public,
                against=outside,
                witnesses=[PublicKey.load(path) for path in witnesses],
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        except AuditBroken as error:
            leave_note(
                state, Verified(records=0, root="", ok=False, broken=str(error), against=0, by="")
            )
            raise
    leave_note(
        state,
        Verified(
            records=found.records,
            root=found.root.hex(),
            ok=True,
            broken="",
            against=found.outside or 0,
            by="",
        ),
    )
    with AuditReader(state.audit_log) as reader:
        notes = reader.checkpoints()
    if as_json:
        print_json(_verification_json(state.audit_log, found, notes))
    else:
        _print_verification(state.audit_log, found, notes)


def tail(state: StateConfig, *, count: int, sought: Sought, as_json: bool) -> None:
    """Print the last `count` records of what is sought, oldest first. Raises StateError when there is no log."""
    with AuditReader(state.audit_log) as reader:
        entries = reader.tail(count, sought=sought)
    if as_json:
        print_json(entries)
        return
    console = out()
    wide = console.width >= WIDE_CELLS
    shown = table(
        "Record",
        "Time",
        "Category",
        "Model",
        "Result",
        "Id",
        *(("Principal",) if wide else ()),
        right=("Record",),
        whole=("Time", "Id"),
    )
    for entry in entries:
        shown.add_row(*(cell(text) for text in _tail_cells(entry, wide=wide)))
    console.print(shown)


def show(state: StateConfig, event_id: str, *, as_json: bool) -> None:
    """Print every record of a request or decision. Raises UnknownRecord."""
    with AuditReader(state.audit_log) as reader:
        entries = reader.show(event_id)
    if as_json:
        print_json(entries)
        return
    console = out()
    for entry in entries:
        category, *_ = entry.record.columns()
        console.print(cell(f"Record {entry.sequence}: {category}", "bold"))
        shown = table("", "")
        shown.show_header = False
        shown.add_row(cell("time"), cell(timestamp(entry.wall_ns)))
        for name, value in record_lines(entry.record):
            shown.add_row(cell(name), cell(value))
        console.print(shown)
        console.print()


def _check_whose_log(reader: AuditReader, public: PublicKey, path: Path) -> None:
    """Raise KeyFileError when the log names another key than the one given: that is no broken log."""
    try:
        boxes = [entry.box for entry in reader.tail(1)]
        changes = [entry.record for entry in reader.key_changes()]
    except AuditError:
        return  # verifying tells what is wrong with it
    for change in changes:
        if isinstance(change, KeyChange):
            boxes += [change.old_key_id, change.new_key_id]
    if boxes and public.key_id not in boxes:
        raise KeyFileError(
            f"{path} is key {public.key_id[:16]}, the log is of box {boxes[0][:16]}",
            remedy="give a copy of that box's public key with --key FILE",
        )


def _public_key(path: Path) -> PublicKey:
    try:
        return PublicKey.load(path)
    except KeyFileError as error:
        raise KeyFileError(
            str(error), remedy="give a copy of the box's public key with --key FILE"
        ) from error


def _read_note(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AuditError(
            f"cannot read the checkpoint {path}: {error}", remedy="check the path"
        ) from error


def _verification_json(log: Path, found: Verification, notes: list[str]) -> dict[str, object]:
    return {
        "log": str(log),
        "records": found.records,
        "removed": found.removed,
        "root": found.root.hex(),
        "checkpoints": found.checkpoints,
        "checkpointed": found.checkpointed,
        "outside": found.outside,
        "cosigned": found.cosigned,
        "checkpoint": notes[-1] if notes else None,
        "promise": found.promise,
    }


def _print_verification(log: Path, found: Verification, notes: list[str]) -> None:
    console = out()
    console.print(cell("The audit log verifies.", "bold green"))
    shown = table("", "")
    shown.show_header = False
    shown.add_row("Log", cell(log))
    shown.add_row("Records", f"{found.records:,}")
    shown.add_row("Root", found.root.hex())
    shown.add_row(
        "Checkpoints",
        f"{found.checkpoints:,}, the last over {wording.plural(found.checkpointed, 'record')}",
    )
    console.print(shown)
    console.print()
    console.print(cell(found.promise))
    if notes:
        console.print()
        console.print("The last checkpoint; keep a copy off the box:", style="dim")
        # Written as it is, so that a copy of these lines is the note byte for byte.
        console.file.write(notes[-1])


def _tail_cells(entry: Entry, *, wide: bool) -> tuple[object, ...]:
    """One line of the tail; a narrow terminal gets the time of day alone, so that ids stay whole."""
    category, model, version, event_id, result, principal = entry.record.columns()
    when = timestamp(entry.wall_ns)[:SECONDS_CELLS] + "Z"
    named = f"{model}/{version}" if version else model
    last = (principal,) if wide else ()
    told = (value or wording.NOTHING for value in (named, result, event_id, *last))
    return (entry.sequence, when if wide else when[DAY_CELLS:], category, *told)
