"""`holdfast key`: on a state directory, with and without a seal; no runtime is needed."""

import json
import shutil
import stat

import pytest
from typer.testing import CliRunner

from appliance import sealing
from appliance.audit.kinds import Boot
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.clock import SystemClock
from appliance.config import StateConfig
from appliance.errors import AccessError, KeyFileError, StateError
from appliance.keys import CREDENTIAL, CREDENTIALS_VARIABLE, NEXT_CREDENTIAL
from appliance.signing import PublicKey, SigningKey
from runtime.boxkey import open_with_key
from tui.cli import app
from tui.commands import key as commands

KEY_UNUSABLE, CONFIG_INVALID = 12, 10
BOOT = Boot(release="test", config_sha256="0" * 64)
needs_seal = pytest.mark.skipif(
    shutil.which("systemd-creds") is None, reason="systemd-creds is not installed here"
)


@pytest.fixture
def state(tmp_path):
    return StateConfig(directory=str(tmp_path / "state"))


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """Where sealed keys lie: a directory of the test's own."""
    monkeypatch.setattr(sealing, "STORE", tmp_path / "credstore")
    return tmp_path / "credstore"


@pytest.fixture
def nothing_to_seal_with(monkeypatch):
    """Seal with the null key, as systemd-creds does in the first boot of a machine without TPM."""
    monkeypatch.setattr(sealing, "_run", _null_key(sealing._run))


def _null_key(run):
    def ran(arguments, given):
        swapped = ["--with-key=tpm2-absent" if "--with-key" in a else a for a in arguments]
        return run(swapped, given)

    return ran


def start(state):
    """One life of a runtime, as far as its log goes."""
    with open_with_key(
        state, lambda key: AuditLog.open(state.audit_log, key=key, clock=SystemClock())
    ) as log:
        log.append([BOOT])
    with AuditReader(state.audit_log) as reader:
        return reader.tail(1)[0].box


def key(state, *arguments, code=0):
    done = CliRunner().invoke(app, ["--state", state.directory, "key", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def shown(state):
    return json.loads(key(state, "status", "--json"))


def verified(directory):
    arguments = ["--state", str(directory), "audit", "verify", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.output)["records"]


def test_status_before_the_first_start(state):
    told = shown(state)
    assert told["kept"] == "nowhere"
    assert told["log_key_id"] is None
    assert "no log yet" in key(state, "status")


def test_a_rotated_key_is_vouched_for_and_recorded_with_its_reason(state):
    assert "no key" in key(state, "rotate", "--reason", "x", code=KEY_UNUSABLE)
    first = start(state)
    assert "needs a reason" in key(state, "rotate", "--reason", " ", code=CONFIG_INVALID)
    assert "waits" in key(state, "rotate", "--reason", "yearly", "--actor", "anna")
    assert "waits already" in key(state, "rotate", "--reason", "x", code=KEY_UNUSABLE)
    told = shown(state)
    assert (told["log_key_id"], told["signs_the_log"]) == (first, True)
    assert told["next_key_id"] == start(state)
    told = shown(state)
    assert told["log_key_id"] == told["key_id"] != first
    assert told["log_origin"] == f"holdfast/{first[:16]}"
    assert verified(state.directory) == 3
    public = PublicKey.load(state.box_key.with_suffix(".pub"))
    assert public.key_id == first


def test_a_key_that_signs_is_not_lost(state):
    start(state)
    assert "not lost" in key(state, "lost", "--reason", "x", "--yes", code=KEY_UNUSABLE)


def test_after_a_lost_key_the_old_log_still_verifies_and_a_new_one_begins(state):
    old = start(state)
    state.box_key.unlink()
    with pytest.raises(KeyFileError):
        start(state)
    assert "say --yes" in key(state, "lost", "--reason", "disk died", code=CONFIG_INVALID)
    key(state, "lost", "--reason", "disk died", "--actor", "anna", "--yes")
    with AuditReader(state.audit_log) as reader:
        first = reader.tail(10)[0].record
    assert (first.old_key_id, first.signature, first.by) == (old, b"", "anna")
    assert (
        first.reason
        == f"disk died; the log before this one is in lost-{old[:16]} and has 1 records"
    )
    assert start(state) == first.new_key_id != old
    assert verified(state.directory) == 2
    assert verified(state.root / f"lost-{old[:16]}") == 1


def test_a_lost_key_and_a_log_that_nobody_can_read(state):
    start(state)
    state.box_key.unlink()
    state.audit_log.write_bytes(b"garbage")
    key(state, "lost", "--reason", "disk died", "--yes")
    with AuditReader(state.audit_log) as reader:
        assert "cannot be read" in reader.tail(1)[0].record.reason


@needs_seal
@pytest.mark.usefixtures("nothing_to_seal_with")
class TestSealed:
    """With systemd-creds itself, and the key that it uses where a machine has none."""

    def test_a_sealed_key_opens_here_and_leaves_no_file(self, state, store, tmp_path, monkeypatch):
        first = start(state)
        assert "say --yes" in key(state, "seal", code=CONFIG_INVALID)
        key(state, "seal", "--yes")
        assert not state.box_key.exists()
        sealed = store / CREDENTIAL
        assert stat.S_IMODE(sealed.stat().st_mode) == 0o600
        assert b"PRIVATE" not in sealed.read_bytes()
        assert sealing.opened(sealed).public.key_id == first
        assert shown(state)["kept"] == "sealed"
        assert "there already" in key(state, "seal", "--yes", code=KEY_UNUSABLE)
        assert "not lost" in key(state, "lost", "--reason", "x", "--yes", code=KEY_UNUSABLE)
        hand_over(store, tmp_path, monkeypatch)
        assert start(state) == first

    def test_sealed_keys_follow_each_other(self, state, store, tmp_path, monkeypatch):
        first = start(state)
        key(state, "seal", "--yes")
        seen = [first]
        for _ in range(3):
            key(state, "rotate", "--reason", "again")
            hand_over(store, tmp_path, monkeypatch)
            seen.append(start(state))
            monkeypatch.delenv(CREDENTIALS_VARIABLE)
        assert len(set(seen)) == 4
        assert verified(state.directory) == 7
        assert sorted(path.name for path in store.iterdir()) == [CREDENTIAL, NEXT_CREDENTIAL]

    def test_a_box_may_begin_with_a_sealed_key(self, state, store, tmp_path, monkeypatch):
        key(state, "seal", "--yes")
        hand_over(store, tmp_path, monkeypatch)
        assert start(state) == sealing.opened(store / CREDENTIAL).public.key_id
        assert not state.box_key.exists()

    def test_a_seal_of_another_machine_is_a_lost_key(self, state, store):
        first = start(state)
        key(state, "seal", "--yes")
        (store / CREDENTIAL).write_bytes(b"sealed elsewhere")
        key(state, "lost", "--reason", "the board was replaced", "--yes")
        assert start(state) != first
        assert [path.name for path in store.iterdir()] == [f"{CREDENTIAL}.lost"]
        assert verified(state.root / f"lost-{first[:16]}") == 1

    def test_a_seal_has_the_name_that_it_was_made_for(self, store):
        sealing.seal(SigningKey.generate(), store / CREDENTIAL)
        (store / CREDENTIAL).rename(store / NEXT_CREDENTIAL)
        with pytest.raises(KeyFileError, match="decrypt failed"):
            sealing.opened(store / NEXT_CREDENTIAL)


def hand_over(store, tmp_path, monkeypatch):
    """Do what the service manager does at a start: open what is sealed for this process."""
    directory = tmp_path / "handed"
    directory.mkdir(exist_ok=True)
    for sealed in store.iterdir():
        (directory / sealed.name).write_bytes(sealing.opened(sealed).pem())
    monkeypatch.setenv(CREDENTIALS_VARIABLE, str(directory))


def test_without_the_tool_nothing_is_sealed(state, monkeypatch):
    start(state)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "not installed" in key(state, "seal", "--yes", code=KEY_UNUSABLE)
    assert state.box_key.exists()


def test_what_root_gives_to_the_owner_leads_nowhere_else(tmp_path, monkeypatch):
    """The runtime's user could lay a link where root's commands work."""
    keys, given = tmp_path / "state" / "keys", []
    (keys / "below").mkdir(parents=True)
    (keys / "next.pem").write_bytes(b"x")
    outside = tmp_path / "roots"
    outside.write_bytes(b"x")
    (keys / "link").symlink_to(outside)
    (keys / "away").symlink_to(tmp_path)
    monkeypatch.setattr(commands.os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        commands.os,
        "chown",
        lambda what, *_, follow_symlinks=True, **__: given.append((what, follow_symlinks)),
    )
    commands._give_to_owner(keys)
    (handle, _), *inside = given
    assert isinstance(handle, int)
    assert sorted(inside) == [(name, False) for name in ("away", "below", "link", "next.pem")]
    keys.rename(tmp_path / "moved")
    keys.symlink_to(tmp_path)
    with pytest.raises(StateError):
        commands._give_to_owner(keys)


def test_no_log_is_set_aside_under_a_runtime_that_refuses_to_tell(state, monkeypatch):
    def refused(_):
        raise AccessError("not for you", remedy="ask")

    monkeypatch.setattr(commands.ControlClient, "status", refused)
    with pytest.raises(StateError, match="serves from this state directory"):
        commands._refuse_while_serving(state)


def test_a_sealer_that_hangs_is_told(tmp_path, monkeypatch):
    tool = tmp_path / "systemd-creds"
    tool.write_text("#!/bin/sh\nexec sleep 30\n")
    tool.chmod(0o755)
    monkeypatch.setattr(sealing.shutil, "which", lambda _: str(tool))
    monkeypatch.setattr(sealing, "SECONDS_MAX", 0.05)
    with pytest.raises(KeyFileError, match="timed out"):
        sealing.seal(SigningKey.generate(), tmp_path / "sealed")
