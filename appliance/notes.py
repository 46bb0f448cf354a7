"""Records that another process leaves for the runtime to write down.

Knows: the directory of notes and what may be in it. Rules: the audit log has one writer; whoever else has
something to record leaves it as a file, whole or not at all, and the runtime takes it up; who left it is said by the
file's owner, not by the file. Leaves to others: writing it down (`runtime.notes`).
"""

import os
import pwd
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import msgspec

from appliance.audit.kinds import (
    AccessChanged,
    DriftChecked,
    Erased,
    Exported,
    Installed,
    Verified,
)
from appliance.config import StateConfig
from appliance.errors import AuditError
from appliance.files import make_directory, open_regular, unwritable, write_file

Notable: TypeAlias = DriftChecked | Installed | Verified | Exported | Erased | AccessChanged
NOTE_BYTES_MAX = 64 << 10
SUFFIX, TAKEN_SUFFIX = ".note", ".taken"
# Whoever may write the state directory's group may leave a note, and nobody may remove another's.
DIRECTORY_MODE = 0o3770

_encoder = msgspec.json.Encoder(order="sorted")
_decoder: msgspec.json.Decoder[Notable] = msgspec.json.Decoder(Notable)


def notes_directory(state: StateConfig) -> Path:
    """Where notes are left."""
    return state.root / "notes"


def prepare(state: StateConfig) -> Path:
    """Make the directory of notes, which then belongs to this process's user. Raises StateError."""
    return make_directory(notes_directory(state), mode=DIRECTORY_MODE)


def leave(state: StateConfig, record: Notable) -> None:
    """Leave `record` for the runtime, which names the owner of the file as `by`; StateError when refused.

    It is recorded within a second, or when the runtime starts.
    """
    write_file(prepare(state) / f"{uuid.uuid4().hex}{SUFFIX}", _encoder.encode(record), mode=0o640)


def left(state: StateConfig) -> list[Path]:
    """The notes that wait, oldest first, and those taken but perhaps not recorded; StateError when unreadable."""
    directory = notes_directory(state)
    try:
        if not directory.is_dir():
            return []
        while True:
            found = [path for path in directory.iterdir() if path.suffix in (SUFFIX, TAKEN_SUFFIX)]
            with suppress(FileNotFoundError):  # one was taken up meanwhile: look again
                return sorted(found, key=lambda path: (path.lstat().st_mtime_ns, path.name))
    except OSError as error:
        raise unwritable(directory, error) from error


def read_note(path: Path) -> Notable:
    """The record in the note at `path`, `by` its owner. Raises AuditError when it is none."""
    try:
        with open_regular(path) as file:
            owner = os.fstat(file.fileno()).st_uid
            data = file.read(NOTE_BYTES_MAX + 1)
    except OSError as error:
        raise _no_note(path, str(error)) from error
    if len(data) > NOTE_BYTES_MAX:
        raise _no_note(path, f"it is over {NOTE_BYTES_MAX} bytes")
    try:
        record: Notable = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_note(path, str(error)) from error
    known: Notable = msgspec.structs.replace(record, by=user_name(owner))
    return known


def user_name(number: int) -> str:
    """The name of the system's user `number`, or the number when it has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _no_note(path: Path, why: str) -> AuditError:
    return AuditError(f"{path} is no note: {why}", remedy="find out who left it; remove it")
