"""A witness that is another running Holdfast: what it cosigns, what it refuses, and where that shows."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from appliance.audit import checker
from appliance.audit.checkpoint import read_checkpoint
from appliance.audit.kinds import Stop
from appliance.audit.log import AuditLog
from appliance.audit.verify import verify
from appliance.clock import SystemClock
from appliance.config import CheckpointsConfig, StateConfig, WitnessPeer
from appliance.errors import NotGranted, UnknownModel
from appliance.signing import PublicKey, SigningKey
from runtime.checkpoints import Publisher
from runtime.client import ControlClient, EvidenceClient, InferenceClient
from runtime.witnessing import asked_witnesses

# For a witness to answer: one that shares its processors with other tests is not blocked.
SECONDS_MAX = 100.0


def wait_for(found: Callable[[], object]) -> Any:
    """What `found` gives once it gives something; the suite's timeout is the limit."""
    while not (value := found()):
        time.sleep(0.02)
    return value


@pytest.fixture
def pair(tmp_path: Path, start_runtime: Callable[..., Any]) -> tuple[Any, Any, Path]:
    """A witness and a box that asks it, both running, without any model; and the directory that gets notes."""
    states = [tmp_path / name for name in ("box", "witness")]
    for state in states:
        SigningKey.generate().save(state / "made" / "box.pem")
    box_key = SigningKey.load_or_generate(tmp_path / "keys" / "box.pem")
    log = states[0] / "audit" / "log.db"
    with AuditLog.open(log, key=box_key, clock=SystemClock()):
        box_key.save(states[0] / "keys" / "box.pem")
    SigningKey.generate().save(states[1] / "keys" / "witness.pem")
    witness = start_runtime(states[1], f'[[witness.logs]]\nkey = "{states[0]}/keys/box.pub"\n')
    drop = tmp_path / "stick"
    drop.mkdir()
    return start_runtime(states[0], publishing(drop, witness)), witness, drop


def publishing(drop: Path, witness: Any) -> str:
    """Settings of a box that sends checkpoints to `drop` and asks `witness`."""
    return f"""[audit]
checkpoint_seconds = 0.05
[checkpoints]
seconds = 0.05
witness_seconds_max = {SECONDS_MAX}
directory = "{drop}"
[[checkpoints.witnesses]]
address = "{witness.address}"
key = "{witness.state}/keys/witness.pub"
"""


def asking(witness: Any, key: Path) -> CheckpointsConfig:
    """Settings of a publisher that only asks `witness`, known by `key`."""
    peer = WitnessPeer(address=witness.address, key=str(key))
    return CheckpointsConfig(journal=False, witness_seconds_max=SECONDS_MAX, witnesses=(peer,))


def note_of_start(drop: Path, witness: Any) -> str:
    """The checkpoint that covers the start of a box, cosigned; until something is recorded no other follows it."""
    public = PublicKey.load(witness.state / "keys" / "witness.pub")

    def cosigned() -> str:
        path = drop / "latest.note"
        note = path.read_text() if path.exists() else ""
        covers = note and read_checkpoint(note).size
        return note if covers and checker.cosigned_at(note, public.raw) else ""

    return str(wait_for(cosigned))


def test_another_holdfast_cosigns_and_remembers(pair: tuple[Any, Any, Path]) -> None:
    box, witness, drop = pair
    public = PublicKey.load(witness.state / "keys" / "witness.pub")
    key = PublicKey.load(box.state / "keys" / "box.pub")
    note = note_of_start(drop, witness)
    with EvidenceClient(box.address) as client:
        assert checker.cosigned_at(client.checkpoint(), public.raw)
        with pytest.raises(NotGranted):
            client.add_checkpoint(0, [], note)
    assert box.stop() == 0
    newest = (drop / "latest.note").read_text()
    result = verify(box.state / "audit" / "log.db", key, against=note, witnesses=[public])
    assert result.outside == read_checkpoint(note).size
    assert read_checkpoint(newest).size == result.records, "the last one leaves at the end"
    with EvidenceClient(witness.address) as client:
        _, size = client.add_checkpoint(0, [], note)
    assert size == read_checkpoint(note).size


def keep(audit: Path) -> Path:
    """A copy of the log and all beside it: a reader that was the last one out leaves a write-ahead log."""
    return shutil.copytree(audit, audit.with_name("older"))


def put_back(audit: Path, older: Path) -> None:
    """What `keep` kept, in place of what there is now."""
    shutil.rmtree(audit)
    older.rename(audit)


def test_a_log_that_was_put_back_is_an_alarm(
    pair: tuple[Any, Any, Path], journalled: list[tuple[str, object]]
) -> None:
    """An older copy of the log, which verifies by itself, is shorter than what the witness has seen."""
    box, witness, _drop = pair
    public = PublicKey.load(witness.state / "keys" / "witness.pub")
    wait_for((box.state / "checkpoints" / "cosigned.note").exists)
    assert box.stop() == 0
    log, older = box.state / "audit" / "log.db", keep(box.state / "audit")
    config = asking(witness, witness.state / "keys" / "witness.pub")
    state = StateConfig(directory=str(box.state))
    key = SigningKey.load(state.box_key)
    with AuditLog.open(log, key=key, clock=SystemClock()) as writer:
        writer.append([Stop(reason="more")] * 3)
    publisher = Publisher(config, state, asked_witnesses(config), SystemClock())
    publisher.publish()
    assert publisher.blocked == {}
    assert checker.cosigned_at(state.cosigned.read_text(), public.raw)
    publisher.close()

    put_back(log.parent, older)
    publisher = Publisher(config, state, asked_witnesses(config), SystemClock())
    publisher.publish()
    assert "has seen" in str(publisher.blocked[witness.address])

    with AuditLog.open(log, key=key, clock=SystemClock()) as writer:
        writer.append([Stop(reason="other")] * 9)
    publisher.publish()
    assert "did not grow" in str(publisher.blocked[witness.address])
    refused = ("checkpoint.undelivered", witness.address)
    assert journalled.count(refused) == 1, "told once, however the log goes on"
    assert witness.stop() == 0
    with AuditLog.open(log, key=key, clock=SystemClock()) as writer:
        writer.append([Stop(reason="other")])
    publisher.publish()
    assert "does not answer" in str(publisher.blocked[witness.address])
    publisher.close()


def test_the_box_tells_where_its_checkpoints_do_not_get_to(pair: tuple[Any, Any, Path]) -> None:
    box, witness, drop = pair
    metric = f'holdfast_checkpoint_blocked{{way="{drop}"}} 1.0'
    with ControlClient(box.socket) as control:
        exposed = f"http://{control.status().metrics_address}/metrics"
        note_of_start(drop, witness)
        assert not control.status().checkpoints_blocked
        assert metric not in urlopen(exposed).read().decode()
        drop.rename(drop.with_name("drawer"))
        with InferenceClient(box.address) as client, pytest.raises(UnknownModel):
            client.infer(
                "nothing", {}
            )  # which is recorded: there is a checkpoint that has to leave
        (away,) = wait_for(lambda: control.status().checkpoints_blocked)
        assert (away.way, away.code) == (str(drop), "state.unusable")
        assert "there is no directory" in away.trouble
        assert metric in urlopen(exposed).read().decode()
        drop.mkdir()
        wait_for(lambda: not control.status().checkpoints_blocked)


def test_a_box_whose_log_was_cut_back_says_so_itself(
    pair: tuple[Any, Any, Path], start_runtime: Callable[..., Any]
) -> None:
    box, witness, drop = pair
    cosigned, audit = box.state / "checkpoints" / "cosigned.note", box.state / "audit"
    wait_for(cosigned.exists)
    assert box.stop() == 0
    older, size = keep(audit), read_checkpoint((drop / "latest.note").read_text()).size
    box = start_runtime(box.state, publishing(drop, witness))
    wait_for(lambda: read_checkpoint(cosigned.read_text()).size > size)
    assert box.stop() == 0
    put_back(audit, older)
    box = start_runtime(box.state, publishing(drop, witness))
    with ControlClient(box.socket) as control:
        (alarm,) = wait_for(lambda: control.status().checkpoints_blocked)
    assert (alarm.way, alarm.code) == (witness.address, "witness.refused")


def test_a_witness_under_another_key_counts_for_nothing(
    pair: tuple[Any, Any, Path], tmp_path: Path
) -> None:
    box, witness, _ = pair
    wait_for((box.state / "checkpoints" / "cosigned.note").exists)
    assert box.stop() == 0
    SigningKey.generate().save(tmp_path / "other.pem")
    config = asking(witness, tmp_path / "other.pub")
    state = StateConfig(directory=str(box.state))
    publisher = Publisher(config, state, asked_witnesses(config), SystemClock())
    publisher.publish()
    assert "is not signed by its key" in str(publisher.blocked[witness.address])
    publisher.close()
