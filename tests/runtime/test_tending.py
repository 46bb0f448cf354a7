"""The log is tended between commits: notes taken up, files sealed and removed."""

import getpass
from pathlib import Path

import msgspec
import pytest

from appliance.audit.kinds import Gap, Removed, Sealed, Verified
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.segments import sealed_segments
from appliance.audit.verify import verify
from appliance.config import AuditConfig, StateConfig
from appliance.errors import AuditError, StateError
from appliance.notes import leave, left, notes_directory, read_note
from appliance.signing import SigningKey
from runtime.notes import take_up
from runtime.tending import Tending

NOTE = Verified(records=7, root="0" * 64, ok=True, broken="", against=0, by="somebody else")


class HandClock:
    def __init__(self):
        self.seconds = 1_700_000_000

    def wall_ns(self):
        return self.seconds * 10**9

    monotonic_ns = wall_ns


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def state(tmp_path):
    return StateConfig(directory=str(tmp_path))


@pytest.fixture
def key():
    return SigningKey.generate()


@pytest.fixture
def log(state, clock, key):
    with AuditLog.open(state.audit_log, key=key, clock=clock, boot_id="boot") as log:
        yield log


def kinds(state):
    with AuditReader(state.audit_log) as reader:
        return [type(entry.record) for entry in reader.records()]


def test_a_note_is_recorded_with_its_owner_and_removed(log, state):
    leave(state, NOTE)
    assert take_up(state, log) == 1
    assert left(state) == []
    with AuditReader(state.audit_log) as reader:
        assert reader.tail(1)[0].record == msgspec.structs.replace(NOTE, by=getpass.getuser())


def test_what_is_no_note_is_put_aside(log, state):
    leave(state, NOTE)
    (note,) = left(state)
    for name, content in (("a", b"{}"), ("b", b"x" * 70_000), ("c", b'{"category":"stop"}')):
        note.with_name(f"{name}.note").write_bytes(content)
    (note.with_name("d.note")).symlink_to("/etc/passwd")
    assert take_up(state, log) == 1
    assert left(state) == []
    assert len(list(notes_directory(state).glob("*.refused"))) == 4
    with pytest.raises(AuditError, match="is no note"):
        read_note(notes_directory(state) / "gone.note")


def test_a_note_that_is_taken_while_they_are_looked_at_is_passed_over(state, monkeypatch):
    leave(state, NOTE)
    leave(state, NOTE)
    stays, goes = left(state)
    look = Path.lstat

    def look_too_late(path):
        goes.unlink(missing_ok=True)
        return look(path)

    monkeypatch.setattr(Path, "lstat", look_too_late)
    assert left(state) == [stays]


def test_a_note_that_may_not_be_removed_is_not_recorded_again_and_again(log, state, monkeypatch):
    leave(state, NOTE)
    size = log.size

    def refuse(*_):
        raise PermissionError("not yours")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refuse)
        for _ in range(3):
            with pytest.raises(StateError, match="not yours"):
                take_up(state, log)
    assert log.size == size
    with monkeypatch.context() as patched:
        patched.setattr(log, "append", refuse)
        with pytest.raises(PermissionError):
            take_up(state, log)
    assert take_up(state, log) == 1  # taken before, recorded only now
    assert (log.size, left(state)) == (size + 1, [])


def test_notes_that_cannot_be_read_keep_nothing_else_from_being_done(
    log, state, clock, monkeypatch
):
    tending = Tending(log, AuditConfig(segment_days=1), state, clock)
    log.append([Gap(count=1, reason="test")])
    clock.seconds += 2 * 86_400

    def refuse(*_):
        raise StateError("no notes", remedy="check it")

    monkeypatch.setattr("runtime.tending.take_up", refuse)
    tending()
    assert len(sealed_segments(state.audit_log)) == 1


def test_a_file_is_sealed_and_removed_in_time(log, state, clock, key):
    tending = Tending(log, AuditConfig(segment_days=30, retention_days=200), state, clock)
    for month in range(9):
        log.append([Gap(count=month, reason="test")])
        clock.seconds += 31 * 86_400
        tending()
    segments = sealed_segments(state.audit_log)
    removed = [segment.removed for segment in segments]
    assert (removed[0], removed[-1], sorted(removed, reverse=True)) == (True, False, removed)
    assert {Sealed, Removed, Gap} <= set(kinds(state))
    assert verify(state.audit_log, key.public).removed == segments[removed.count(True) - 1].end


def test_what_fails_is_tried_again_later(log, state, clock, monkeypatch):
    tending = Tending(log, AuditConfig(), state, clock)
    asked = []

    def refuse(**_):
        asked.append(clock.seconds)
        raise StateError("the disk refuses", remedy="check it")

    monkeypatch.setattr(log, "seal_due", refuse)
    for _ in range(3):
        tending()
    clock.seconds += 61
    tending()
    assert len(asked) == 2
