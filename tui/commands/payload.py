"""`holdfast audit show ID --payload` and `holdfast audit erase`.

Knows: how a payload reads on a terminal, and the two ways to erase one. Rules: what is shown was checked against
its record; a running runtime erases itself, since it alone writes, and without one the erasure is recorded at
the next start. Leaves to others: drawing (`tui.picturing`), erasing (`appliance.payloads`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from appliance.audit.kinds import Erased, Failure, Inference
from appliance.audit.reader import AuditReader
from appliance.config import StateConfig
from appliance.errors import ApplianceError, ConfigError, PayloadGone, Unreachable
from appliance.files import make_directory, write_file
from appliance.notes import leave
from appliance.payloads import Payload, PayloadReader, PayloadWriter
from appliance.store import Store
from runtime.client import ControlClient
from tui import wording
from tui.exported import tell_exported
from tui.picturing import View, views_of
from tui.printing import aside, cell, out, print_json

LINES_MAX = 40
LINE_CELLS = 160


def show(state: StateConfig, request_id: str, *, output: Path | None, as_json: bool) -> None:
    """Print what is kept of a request's inputs, and write it to files in `output`.

    As JSON it is one list. Raises UnknownRecord, PayloadGone saying why it is not there, PayloadBroken, StateError.
    """
    kept, taken = _kept(state, request_id), set[str]()
    if as_json:
        print_json([payload for _, payload in kept])
    for sequence, payload in kept:
        views = views_of(payload.inputs, _columns(state, payload))
        written = [] if output is None else [_write(output, view, taken) for view in views]
        if not as_json:
            _print(payload, views)
        for path in written:
            aside().print(cell(f"Written to {path}"), soft_wrap=True)
        data = b"".join(tensor.data for tensor in payload.inputs)
        tell_exported(state, "payload", data, output, range(sequence, sequence + 1))


def erase(state: StateConfig, request_id: str, *, reason: str, as_json: bool) -> None:
    """Erase what is kept of a request's inputs and print how much that was.

    Raises PayloadGone when nothing is kept, RequestError, StateError.
    """
    try:
        with ControlClient(state.control_socket) as control:
            count = control.erase(request_id, reason=reason)
        recorded = "recorded"
    except Unreachable:
        count = _erase_alone(state, request_id, reason)
        recorded = "to be recorded when the runtime starts"
    if as_json:
        print_json({"request_id": request_id, "payloads": count, "recorded": recorded})
    else:
        told = f"Erased {wording.plural(count, 'payload')} of request '{request_id}'; {recorded}."
        out().print(cell(told))


def _kept(state: StateConfig, request_id: str) -> list[tuple[int, Payload]]:
    """What is kept, each with the sequence of its record."""
    with AuditReader(state.audit_log) as log:
        entries = log.show(request_id)
    named = [
        (entry.sequence, entry.record.payload_sha256)
        for entry in entries
        if isinstance(entry.record, Inference | Failure) and entry.record.payload_sha256
    ]
    if not named:
        raise PayloadGone(
            f"no payload of '{request_id}' was kept",
            remedy="[payloads] says which are kept; `holdfast audit show` has the record",
        )
    with PayloadReader(state.payloads) as reader:
        read = [(sequence, reader.find(sha256)) for sequence, sha256 in named]
    found = [(sequence, payload) for sequence, payload in read if payload is not None]
    if not found:
        erased = [entry.record for entry in entries if isinstance(entry.record, Erased)]
        why = (
            f"erased: {erased[-1].reason} (by {erased[-1].by})"
            if erased
            else "not here: gone by age or budget, which a record tells; erased, and the record of that waits for "
            "the runtime; not written yet, as in the second after its answer; or lost in a crash before that"
        )
        raise PayloadGone(
            f"the payload of '{request_id}' is {why}",
            remedy="nothing brings back what is gone; the record and its digests stay",
        )
    return found


def _columns(state: StateConfig, payload: Payload) -> Mapping[str, Sequence[str]]:
    """The columns' names of the tables that the version takes; none when it is no longer stored."""
    try:
        manifest = Store(state.store).describe(payload.model, payload.version).manifest
    except ApplianceError:
        return {}
    return {item.raw.name: item.columns for item in manifest.recipe.inputs}


def _write(directory: Path, view: View, taken: set[str]) -> Path:
    """Write `view` under a name that is none of `taken`, which has it then."""
    # An input's name may hold what a file's may not, and some file systems do not tell cases apart.
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in view.name)
    path = make_directory(directory) / (name.lstrip(".") or "input")
    stem, number = path.stem, 1
    while path.name.casefold() in taken:
        number += 1
        path = path.with_name(f"{stem}-{number}{path.suffix}")
    taken.add(path.name.casefold())
    write_file(path, view.data, mode=0o640)
    return path


def _print(payload: Payload, views: Sequence[View]) -> None:
    console = out()
    told = f"Request {payload.request_id} to {payload.model} version {payload.version}"
    console.print(cell(f"{told}, kept as '{payload.why}'; it fits its record.", "bold"))
    for view in views:
        console.print()
        console.print(cell(f"{view.name}: {view.remark}", "dim"))
        for line in view.lines[:LINES_MAX]:
            more = "..." if len(line) > LINE_CELLS else ""
            console.print(cell(line[:LINE_CELLS] + more), soft_wrap=True)
        if len(view.lines) > LINES_MAX:
            rest = wording.plural(len(view.lines) - LINES_MAX, "line")
            console.print(cell(f"and {rest} more; write them with --output DIR", "dim"))


def _erase_alone(state: StateConfig, request_id: str, reason: str) -> int:
    """Erase without a runtime, under its lock, and leave a note for it to record."""
    if not reason.strip():
        raise ConfigError("an erasure needs a reason", remedy="say why with --reason")
    writer = PayloadWriter.open(state.payloads)
    try:
        removed = writer.erase(request_id)
    finally:
        writer.close()
    for model, count in removed.models.items():
        leave(state, Erased(request_id=request_id, model=model, count=count, reason=reason, by=""))
    if not removed.models:
        raise PayloadGone(
            f"nothing is kept of the inputs of request '{request_id}'",
            remedy="see `holdfast audit show` for what its records say",
        )
    if removed.error is not None:
        raise removed.error
    return sum(removed.models.values())
