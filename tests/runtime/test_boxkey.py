"""The box key: made once, handed over by the old one, never replaced in silence."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audit.checkpoint import open_checkpoint, read_checkpoint
from appliance.audit.kinds import Boot, KeyChange
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.verify import verify
from appliance.clock import SystemClock
from appliance.config import StateConfig
from appliance.errors import AuditBroken, KeyFileError
from appliance.keys import CREDENTIAL, CREDENTIALS_VARIABLE, NEXT_CREDENTIAL, BoxKeys, Order
from appliance.signing import PublicKey, SigningKey
from runtime.boxkey import open_with_key

BOOT = Boot(release="test", config_sha256="0" * 64)


@pytest.fixture
def state(tmp_path):
    return StateConfig(directory=str(tmp_path / "state"))


def start(state):
    """One life of a runtime, as far as its log goes; the id of the key that signed at its end."""
    log = open_with_key(
        state, lambda key: AuditLog.open(state.audit_log, key=key, clock=SystemClock())
    )
    with log:
        log.append([BOOT])
    return signer(state)


def signer(state):
    with AuditReader(state.audit_log) as reader:
        return reader.tail(1)[0].box


def changes(state):
    with AuditReader(state.audit_log) as reader:
        return [entry.record for entry in reader.tail(100) if isinstance(entry.record, KeyChange)]


def test_the_first_start_makes_the_key_and_later_ones_keep_it(state):
    first = start(state)
    assert start(state) == first == PublicKey.load(state.box_key.with_suffix(".pub")).key_id
    assert changes(state) == []


def test_a_start_that_was_cut_off_before_its_log_goes_on_with_the_same_key(state):
    key = BoxKeys(state).begin()
    assert start(state) == key.public.key_id


def test_a_new_key_takes_over_at_the_next_start_and_the_log_tells(state):
    first = start(state)
    new = BoxKeys(state).prepare(Order(reason="a year has passed", by="anna"))
    with pytest.raises(KeyFileError, match="waits already"):
        BoxKeys(state).prepare(Order())
    assert signer(state) == first
    assert start(state) == new.key_id
    (change,) = changes(state)
    assert (change.reason, change.by) == ("a year has passed", "anna")
    assert (change.old_key_id, change.new_key_id) == (first, new.key_id)
    assert start(state) == new.key_id
    names = sorted(path.name for path in state.box_key.parent.iterdir())
    assert names == sorted(["box.pem", "box.pub", f"box-{new.key_id[:16]}.pub"])
    assert SigningKey.load(state.box_key).public.key_id == new.key_id


def test_the_log_verifies_across_keys_with_the_first_and_with_the_newest(state):
    start(state)
    for _ in range(3):
        newest = BoxKeys(state).prepare(Order(reason="again", by="anna"))
        start(state)
    first = PublicKey.load(state.box_key.with_suffix(".pub"))
    for public in (first, newest):
        assert verify(state.audit_log, public).records == signed_size(state)
    with pytest.raises(AuditBroken):
        verify(state.audit_log, SigningKey.generate().public)


def signed_size(state):
    with AuditReader(state.audit_log) as reader:
        return read_checkpoint(reader.checkpoints()[-1]).size


def test_all_checkpoints_keep_the_name_of_the_first_key(state):
    start(state)
    new = BoxKeys(state).prepare(Order())
    start(state)
    with AuditReader(state.audit_log) as reader:
        notes = reader.checkpoints(10)
    assert len({read_checkpoint(note).origin for note in notes}) == 1
    open_checkpoint(notes[-1], new, origin=read_checkpoint(notes[0]).origin)


@settings(max_examples=20)
@given(cut=st.integers(0, 6))
def test_a_change_that_is_cut_off_anywhere_goes_on_at_the_next_start(tmp_path_factory, cut):
    """Each step that touches the disk may be the last one before the power fails."""
    state = StateConfig(directory=str(tmp_path_factory.mktemp("cut")))
    first = start(state)
    new = BoxKeys(state).prepare(Order(reason="r", by="b"))

    class Cut(BaseException):
        pass

    left = [cut]

    def step(call):
        def stepped(*given, **named):
            if not left[0]:
                raise Cut
            left[0] -= 1
            return call(*given, **named)

        return stepped

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (AuditLog, "change_key"),
            (PublicKey, "save"),
            (os, "unlink"),
            (os, "replace"),
            (os, "rename"),
        ):
            patch.setattr(owner, name, step(getattr(owner, name)))
        try:
            start(state)
        except Cut:
            left[0] = 10**6
    assert start(state) == new.key_id
    assert len(changes(state)) == 1
    assert changes(state)[0].old_key_id == first
    assert not list(state.box_key.parent.glob("next.*"))
    verify(state.audit_log, PublicKey.load(state.box_key.with_suffix(".pub")))


def test_a_log_is_not_begun_anew_where_there_was_one(state):
    start(state)
    state.audit_log.unlink()
    with pytest.raises(AuditBroken, match="missing or empty"):
        start(state)


@pytest.mark.parametrize("log", ["there", "gone"])
def test_a_lost_key_is_not_replaced_by_a_new_one(state, log):
    start(state)
    state.box_key.unlink()
    if log == "gone":
        state.audit_log.unlink()
    with pytest.raises(KeyFileError, match="key is lost") as lost:
        start(state)
    assert "holdfast key lost" in lost.value.remedy
    assert not state.box_key.exists()


def test_another_boxes_key_opens_no_log(state):
    start(state)
    SigningKey.generate().save(state.box_key)
    with pytest.raises(AuditBroken):
        start(state)


class Sealed:
    """The credentials that the service manager would hand over."""

    def __init__(self, directory, monkeypatch):
        directory.mkdir()
        self._directory = directory
        monkeypatch.setenv(CREDENTIALS_VARIABLE, str(directory))

    def hand_over(self, name, key):
        (self._directory / name).write_bytes(key.pem())

    def take_away(self, name):
        (self._directory / name).unlink()


@pytest.fixture
def sealed(tmp_path, monkeypatch):
    return Sealed(tmp_path / "credentials", monkeypatch)


def test_a_sealed_key_never_touches_the_state_directory(state, sealed):
    key = SigningKey.generate()
    sealed.hand_over(CREDENTIAL, key)
    assert start(state) == start(state) == key.public.key_id
    assert [path.name for path in state.box_key.parent.iterdir()] == ["box.pub"]


def test_a_sealed_key_is_followed_by_a_sealed_key(state, sealed):
    old, new = SigningKey.generate(), SigningKey.generate()
    sealed.hand_over(CREDENTIAL, old)
    start(state)
    BoxKeys(state).write_order(Order(reason="r", by="root"))
    sealed.hand_over(NEXT_CREDENTIAL, new)
    for _ in range(2):
        assert start(state) == new.public.key_id
    assert [change.by for change in changes(state)] == ["root"]
    sealed.take_away(NEXT_CREDENTIAL)  # as the next `key rotate` does
    sealed.hand_over(CREDENTIAL, new)
    assert start(state) == new.public.key_id


def test_a_key_moves_from_its_file_to_the_seal(state, sealed):
    first = start(state)
    sealed.hand_over(CREDENTIAL, SigningKey.load(state.box_key))
    assert start(state) == first
    state.box_key.unlink()
    assert start(state) == first


def test_two_different_keys_are_one_too_many(state, sealed):
    start(state)
    sealed.hand_over(CREDENTIAL, SigningKey.generate())
    with pytest.raises(KeyFileError, match="two keys"):
        start(state)


def test_an_order_that_cannot_be_read_is_named(state):
    start(state)
    BoxKeys(state).prepare(Order(reason="r"))
    (state.box_key.parent / "next.json").write_text("{")
    with pytest.raises(KeyFileError, match=r"next\.json"):
        start(state)
