"""`holdfast key status`, `rotate`, `seal` and `lost`.

Knows: what each does with which file, and what the operator must do next. Rules: a key that still signs the log is
not lost; nothing is removed before what replaces it was read back. Leaves to others: the files (`appliance.keys`),
sealing (`appliance.sealing`), the take-over (`runtime.boxkey`).
"""

import os
from dataclasses import dataclass
from pathlib import Path

import typer

from appliance import sealing
from appliance.audit.checkpoint import open_checkpoint, read_checkpoint
from appliance.audit.kinds import KeyChange
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.clock import SystemClock
from appliance.config import StateConfig
from appliance.errors import (
    ApplianceError,
    AuditBroken,
    ConfigError,
    KeyFileError,
    StateError,
    Unreachable,
)
from appliance.files import make_directory, sync_directory, unwritable
from appliance.keys import CREDENTIAL, NEXT_CREDENTIAL, BoxKeys, Order
from appliance.signing import SigningKey
from runtime.client import ControlClient
from tui.printing import cell, out, print_json, someone_is_there, table

RESTART = "Restart the runtime: it takes the new key into use, and the log tells of it."


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Where a log ends: how many records, the last checkpoint's note, the id of the key of the last record."""

    records: int
    note: str
    key_id: str


def status(state: StateConfig, *, as_json: bool) -> None:
    """Print which keys there are and which signs the log. Raises KeyFileError."""
    keys, end = BoxKeys(state), _end(state)
    sealed = sealing.STORE / CREDENTIAL
    signing = next((key for key in keys.all() if _signs(key, end)), None)
    told = {
        "log_key_id": end.key_id if end else None,
        "log_origin": read_checkpoint(end.note).origin if end and end.note else None,
        "key_id": keys.current.public.key_id if keys.current else None,
        "kept": "sealed" if sealing.is_sealed_here() else "file" if keys.current else "nowhere",
        "place": str(sealed if sealing.is_sealed_here() else state.box_key),
        "signs_the_log": signing is not None,
        "next_key_id": keys.following.public.key_id if keys.following else None,
        "public": str(keys.public),
    }
    if as_json:
        print_json(told)
        return
    shown = table("", "")
    shown.show_header = False
    shown.add_row("Log signed by", cell(told["log_key_id"] or "no log yet"))
    shown.add_row("Log's name", cell(told["log_origin"] or "no log yet"))
    shown.add_row("Key", cell(f"{told['kept']}: {told['place']}"))
    shown.add_row(
        "Public half", cell(f"{keys.public} (of the log's first key; give auditors a copy)")
    )
    if keys.following:
        shown.add_row("Waiting", cell(f"{keys.following.public.key_id}; the next start uses it"))
    out().print(shown)


def rotate(state: StateConfig, *, reason: str, by: str) -> None:
    """Make the key that follows, sealed where the current one is. Raises KeyFileError, StateError."""
    order, keys = Order(reason=_given(reason), by=by), BoxKeys(state)
    if sealing.is_sealed_here():
        public = _rotate_sealed(state, keys, order).public
    elif keys.current is None:
        raise KeyFileError(
            f"there is no key in {state.box_key} to follow",
            remedy="start the runtime once, which makes the first; or see `holdfast key lost`",
        )
    else:
        public = keys.prepare(order)
    _give_to_owner(state.box_key.parent)
    out().print(cell(f"The new key {public.key_id[:16]} waits. {RESTART}"))


def seal_box_key(state: StateConfig, *, sealer: str, ask: bool) -> None:
    """Seal the box key, made now on a box that has none, and remove its file. Raises KeyFileError."""
    path, keys = sealing.STORE / CREDENTIAL, BoxKeys(state)
    if sealing.is_sealed_here():
        raise KeyFileError(f"{path} is there already", remedy="`holdfast key status` shows it")
    if keys.following is not None:
        raise KeyFileError("a new key waits", remedy="restart the runtime first")
    if keys.current is None and keys.public.exists():
        raise KeyFileError("the box key is lost", remedy="see `holdfast key lost`")
    if ask:
        _confirm("Whoever needs the key on another machine must have a copy. Seal it?")
    sealing.seal(keys.current or SigningKey.generate(), path, sealer)
    state.box_key.unlink(missing_ok=True)
    console = out()
    console.print(cell(f"Sealed in {path}; the file {state.box_key} is removed."))
    console.print("A disk may still hold its old blocks: on a box in service, rotate the key now.")
    console.print("Restart the runtime: the service manager hands it the key from now on.")


def lost(state: StateConfig, *, reason: str, by: str, ask: bool) -> None:
    """Set the log aside and begin a new one. Raises KeyFileError when a key still signs it, StateError."""
    reason, end, keys = _given(reason), _end(state), BoxKeys(state)
    _refuse_while_serving(state)
    if any(_signs(key, end) for key in (*keys.all(), *_sealed_keys())):
        raise KeyFileError(
            "the key is not lost: it signs the log",
            remedy="to change it, use `holdfast key rotate`",
        )
    if ask:
        _confirm("The old log stays as it is; no model is active in the new one. Begin it?")
    old_id = end.key_id if end else "0" * 64
    aside = state.root / f"lost-{old_id[:16]}"
    _set_aside(state, keys, aside)
    new = SigningKey.generate()
    told = f"{reason}; the log before this one is in {aside.name}" + (
        f" and has {end.records} records" if end else " and cannot be read"
    )
    change = KeyChange(
        key="box",
        old_key_id=old_id,
        new_key_id=new.public.key_id,
        new_public=b"",
        signature=b"",
        reason=told,
        by=by,
    )
    new.save(state.box_key)
    with AuditLog.open(state.audit_log, key=new, clock=SystemClock()) as log:
        log.append([change])
    for directory in (state.box_key.parent, state.audit_log.parent):
        _give_to_owner(directory)
    console = out()
    console.print(cell(f"The old log: `holdfast audit verify --state {aside}`"))
    console.print(
        cell(f"The new log is signed by {new.public.key_id}; give auditors {keys.public}.")
    )
    console.print("Start the runtime, and activate each model anew: the new log knows no decision.")


def _rotate_sealed(state: StateConfig, keys: BoxKeys, order: Order) -> SigningKey:
    """Seal a new key as the one that follows; a follower that signs by now takes the current one's place."""
    current, following = sealing.STORE / CREDENTIAL, sealing.STORE / NEXT_CREDENTIAL
    if following.exists():
        waiting = sealing.opened(following)
        if not _signs(waiting, _end(state)):
            raise KeyFileError("a new key waits already", remedy="restart the runtime")
        sealing.seal(waiting, current)
        following.unlink()
    new = SigningKey.generate()
    keys.write_order(order)
    sealing.seal(new, following)
    return new


def _sealed_keys() -> list[SigningKey]:
    """The sealed keys that this machine can open."""
    found = []
    for name in (CREDENTIAL, NEXT_CREDENTIAL):
        try:
            found.append(sealing.opened(sealing.STORE / name))
        except KeyFileError:
            continue
    return found


def _set_aside(state: StateConfig, keys: BoxKeys, aside: Path) -> None:
    """Make `aside` a state directory with the log, its public keys and what is left of private ones.

    May be called again after it was cut off.
    """
    make_directory(aside / "keys", mode=0o750)
    make_directory(keys.public.parent, mode=0o750)
    try:
        if state.audit_log.parent.exists():
            state.audit_log.parent.rename(aside / "audit")
        for path in sorted(keys.public.parent.iterdir()):
            if path.name.startswith(("box", "next")):
                path.rename(aside / "keys" / path.name)
        for name in (CREDENTIAL, NEXT_CREDENTIAL):
            sealed = sealing.STORE / name
            if sealed.exists():
                sealed.rename(sealed.with_name(f"{name}.lost"))
        sync_directory(aside)
        sync_directory(state.root)
    except OSError as error:
        raise unwritable(aside, error) from error


def _refuse_while_serving(state: StateConfig) -> None:
    """StateError while a runtime writes the log that is to be set aside."""
    try:
        with ControlClient(state.control_socket) as control:
            control.status()
    except Unreachable:
        return
    except ApplianceError:
        pass  # whoever refuses to tell is there
    raise StateError("a runtime serves from this state directory", remedy="stop it first")


def _end(state: StateConfig) -> End | None:
    """Where the log ends; None when there is none that can be read."""
    try:
        with AuditReader(state.audit_log) as reader:
            last, notes = reader.tail(1), reader.checkpoints()
    except ApplianceError:
        return None
    if not last or not notes:
        return None
    return End(records=last[0].sequence + 1, note=notes[-1], key_id=last[0].box)


def _signs(key: SigningKey, end: End | None) -> bool:
    """Whether `key` made the last signature of the log that ends so."""
    if end is None:
        return False
    try:
        open_checkpoint(end.note, key.public, origin=read_checkpoint(end.note).origin)
    except AuditBroken:
        return False
    return True


def _give_to_owner(directory: Path) -> None:
    """Let the runtime's user, who owns the state directory, own what root wrote there.

    No link is followed: that user could have it lead to a file of root's.
    """
    if os.geteuid() != 0:
        return
    owner = directory.parent.stat()
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.chown(handle, owner.st_uid, owner.st_gid)
            for _, directories, files, inside in os.fwalk(dir_fd=handle):
                for name in (*directories, *files):
                    os.chown(name, owner.st_uid, owner.st_gid, dir_fd=inside, follow_symlinks=False)
        finally:
            os.close(handle)
    except OSError as error:
        raise StateError(
            f"cannot give {directory} to its owner: {error.strerror or error}",
            remedy="chown it to the runtime's user",
        ) from error


def _given(reason: str) -> str:
    if not reason.strip():
        raise ConfigError("a change of the key needs a reason", remedy="say why with --reason")
    return reason.strip()


def _confirm(question: str) -> None:
    if not someone_is_there():
        raise ConfigError("nobody is here to ask", remedy="say --yes if this is meant")
    typer.confirm(question, abort=True, err=True)
