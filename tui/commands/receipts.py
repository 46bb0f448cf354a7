"""`holdfast audit receipt`, `checkpoint`, `consistency`, the commands that check them, and `checker`.

Knows: how proofs are written and how a check reads. Rules: a file that leaves was checked first; a check says
what it proves and what not; what left is recorded. Leaves to others: making and checking (`appliance.audit.receipt`), drawing a code
(`tui.qr`).
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from appliance.audit import checker as checker_room
from appliance.audit.checkpoint import read_checkpoint
from appliance.audit.cosignature import Cosigned, cosigned_by
from appliance.audit.reader import AuditReader
from appliance.audit.receipt import answer_among, growth_of, open_growth, open_receipt, receipt_of
from appliance.audit.record import decode
from appliance.clock import timestamp
from appliance.config import StateConfig
from appliance.errors import AuditError, ConfigError, NotCovered, Unproven, Unreachable
from appliance.files import write_file
from appliance.signing import PublicKey
from tui import wording
from tui.checkpoints import cosigned_checkpoint, newest_checkpoint
from tui.exported import tell_exported
from tui.printing import aside, cell, out, print_json, table
from tui.qr import qr_lines
from tui.recordtext import record_lines

FILE_BYTES_MAX = 64 << 20


def receipt(
    state: StateConfig, request_id: str, *, sequence: int | None, output: Path | None
) -> None:
    """Write the receipt of a request's answer, or of record `sequence`.

    Of a record that no checkpoint covers yet a running runtime is asked to sign one. Raises ConfigError unless one
    of them is named, UnknownRecord, NotCovered, AuditBroken, StateError.
    """
    if bool(request_id) == (sequence is not None):
        raise ConfigError(
            "which record is not clear", remedy="give a request id, or --record with a number"
        )
    with AuditReader(state.audit_log) as log:
        if sequence is None:
            entries = log.show(request_id)
            sequence = answer_among(entries).sequence
            if len(entries) > 1:
                aside().print(
                    f"{request_id} has {len(entries)} records; this is the receipt of record {sequence}, "
                    "--record takes another.",
                    markup=False,
                )
        try:
            data = receipt_of(log, sequence, cosigned=cosigned_checkpoint(state))
        except NotCovered as error:
            _have_signed(state, sequence, error)
            data = receipt_of(log, sequence, cosigned=cosigned_checkpoint(state))
    _write(data, output)
    tell_exported(state, "receipt", data, output, range(sequence, sequence + 1))


def _have_signed(state: StateConfig, sequence: int, error: NotCovered) -> None:
    """Have the runtime sign a checkpoint over record `sequence`; NotCovered when none is running."""
    from runtime.client import ControlClient  # noqa: PLC0415 - gRPC is loaded only where a runtime is asked

    try:
        with ControlClient(state.control_socket) as control:
            control.sign(sequence)
    except Unreachable:
        raise NotCovered(
            f"{error}, and the runtime, which alone can sign one, is not running",
            remedy="start the runtime: it signs a checkpoint over all records as it starts",
        ) from None


def check_receipt(file: Path, *, key: Path, witnesses: Sequence[Path], as_json: bool) -> None:
    """Print the record that a receipt proves. Raises Unproven, KeyFileError, AuditError."""
    found = open_receipt(_read(file), PublicKey.load(key))
    cosigned = _witnessed(found.note, witnesses)
    if as_json:
        print_json(
            {
                "record": msgspec.Raw(found.record),
                "sequence": found.place,
                "origin": found.checkpoint.origin,
                "size": found.checkpoint.size,
                "root": found.checkpoint.root.hex(),
                "cosigned": cosigned,
            }
        )
        return
    entry = decode(found.record)
    console = out()
    console.print(cell("The receipt verifies.", "bold green"))
    shown = table("", "")
    shown.show_header = False
    shown.add_row("Log", cell(found.checkpoint.origin))
    shown.add_row("Record", f"{found.place:,} of the first {found.checkpoint.size:,}")
    shown.add_row("Time", cell(timestamp(entry.wall_ns)))
    for name, value in record_lines(entry.record):
        shown.add_row(cell(name), cell(value))
    _add_cosigned(shown.add_row, cosigned)
    console.print(shown)
    console.print(
        cell(
            "The holder of the box key signed a log with just this record in this place. That the log was "
            "not rewritten since, a later checkpoint and its consistency proof show."
        )
    )


def checkpoint(state: StateConfig, *, output: Path | None, qr: bool, as_json: bool) -> None:
    """Print or write the newest checkpoint, cosigned if witnesses did. Raises NotCovered, StateError."""
    newest = newest_checkpoint(state)
    note = newest.told
    said = read_checkpoint(note)
    if as_json:
        print_json(
            {"origin": said.origin, "size": said.size, "root": said.root.hex(), "note": note}
        )
    elif output is not None or not qr:
        _write(note.encode(), output)
        if newest.remark:
            aside().print(cell(newest.remark))
        if output is not None:
            tell_exported(state, "checkpoint", note.encode(), output, range(said.size))
    if qr and not as_json:
        console = out()
        for line in qr_lines(newest.note):
            console.print(cell(line, "bright_white on black"), no_wrap=True, crop=False)


def consistency(state: StateConfig, old: Path, new: Path | None, *, output: Path | None) -> None:
    """Write the proof that the log grew from `old` to `new`. Raises Unproven when it did not, AuditError."""
    earlier = _text(old)
    with AuditReader(state.audit_log) as log:
        notes = log.checkpoints()
        later = _text(new) if new is not None else (notes[-1] if notes else "")
        data = growth_of(log, earlier, later)
    _write(data, output)


def check_consistency(file: Path, *, key: Path, witnesses: Sequence[Path], as_json: bool) -> None:
    """Print what a consistency proof proves. Raises Unproven, KeyFileError, AuditError."""
    old, new, note = open_growth(_read(file), PublicKey.load(key))
    cosigned = _witnessed(note, witnesses)
    if as_json:
        print_json(
            {
                "origin": new.origin,
                "old_size": old.size,
                "size": new.size,
                "root": new.root.hex(),
                "cosigned": cosigned,
            }
        )
        return
    console = out()
    console.print(cell("The proof verifies.", "bold green"))
    console.print(
        cell(
            f"{new.origin} grew from {wording.plural(old.size, 'record')} to {new.size:,}: the later checkpoint "
            f"signs the same first {old.size:,}. Whether the box still keeps them, this does not show."
        )
    )
    shown = table("", "")
    shown.show_header = False
    _add_cosigned(shown.add_row, cosigned)
    if cosigned:
        console.print(shown)


def checker(*, output: Path | None) -> None:
    """Write the checker's source, word for word as it runs here."""
    _write(Path(checker_room.__file__).read_bytes(), output)


def _witnessed(note: str, witnesses: Sequence[Path]) -> list[Cosigned]:
    """Who of `witnesses` cosigned; Unproven when one did not."""
    found: list[Cosigned] = []
    for path in witnesses:
        cosigned = cosigned_by(note, [PublicKey.load(path)])
        if not cosigned:
            raise Unproven(
                f"the witness of {path} has not cosigned the checkpoint",
                remedy="take a receipt that was made after the witness was asked",
            )
        found += cosigned
    return found


def _add_cosigned(add_row: object, cosigned: Sequence[Cosigned]) -> None:
    assert callable(add_row)
    for name, seconds in cosigned:
        when = datetime.fromtimestamp(seconds, UTC).isoformat()
        add_row("Cosigned", cell(f"{name} at {when}"))


def _write(data: bytes, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(data.decode())
        return
    write_file(output, data)
    aside().print(cell(f"Written: {output}"))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise AuditError(f"cannot read {path}: {error}", remedy="check the path") from error
    if len(data) > FILE_BYTES_MAX:
        raise AuditError(f"{path} is too large", remedy="give a receipt or a proof")
    return data


def _text(path: Path) -> str:
    try:
        return _read(path).decode()
    except UnicodeDecodeError as error:
        raise AuditError(f"{path} is no text: {error}", remedy="check the path") from error
