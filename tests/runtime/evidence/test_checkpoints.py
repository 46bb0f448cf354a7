"""Checkpoints leave the box: each way, each way blocked, and a witness that is another running Holdfast."""

import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from appliance import journal
from appliance.audit import checker
from appliance.audit.checkpoint import read_checkpoint
from appliance.audit.kinds import Stop
from appliance.audit.log import AuditLog
from appliance.audit.verify import verify
from appliance.clock import SystemClock
from appliance.config import CheckpointsConfig, StateConfig, WitnessPeer
from appliance.errors import ConfigError, NotGranted, UnknownModel, Unreachable
from appliance.signing import PublicKey, SigningKey
from runtime.checkpoints import Publisher
from runtime.client import ControlClient, EvidenceClient, InferenceClient
from runtime.witnessing import Asking, asked_witnesses

# For a witness to answer: one that shares its processors with other tests is not blocked.
SECONDS_MAX = 100.0


class OneDay(SystemClock):
    """The day does not end while a test runs."""

    def wall_ns(self) -> int:
        return 1_800_000_000 * 10**9


class Box:
    """A log that grows by hand, and its publisher."""

    def __init__(self, root: Path) -> None:
        self.state = StateConfig(directory=str(root))
        self.key = SigningKey.load_or_generate(self.state.box_key)

    def grow(self, count: int = 1) -> None:
        with AuditLog.open(self.state.audit_log, key=self.key, clock=SystemClock()) as log:
            log.append([Stop(reason="test")] * count)

    def publisher(self, witnesses: tuple[Asking, ...] = (), **settings: object) -> Publisher:
        config = CheckpointsConfig(**({"journal": False} | settings))  # type: ignore[arg-type]
        return Publisher(config, self.state, list(witnesses), OneDay())


@pytest.fixture
def box(tmp_path: Path) -> Box:
    made = Box(tmp_path / "box")
    made.grow()
    return made


@pytest.fixture
def journalled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """The events of this process, each with its way."""
    told: list[tuple[str, object]] = []
    monkeypatch.setattr(journal, "event", lambda name, **more: told.append((name, more.get("way"))))
    monkeypatch.setattr(
        journal, "failure", lambda name, _error, **more: told.append((name, more.get("way")))
    )
    return told


def test_a_directory_gets_the_newest_and_one_of_the_day(box: Box, tmp_path: Path) -> None:
    drop = tmp_path / "stick"
    publisher = box.publisher(directory=str(drop))
    publisher.publish()
    assert not drop.exists(), "a stick that is not plugged in is never made"
    assert "there is no directory" in str(publisher.blocked[str(drop)])

    drop.mkdir()
    box.grow()
    publisher.publish()
    first = (drop / "latest.note").read_text()
    box.grow()
    publisher.publish()
    publisher.publish()
    publisher.close()

    assert publisher.blocked == {}
    newest = (drop / "latest.note").read_text()
    assert read_checkpoint(newest).size == read_checkpoint(first).size + 1
    (daily,) = drop.glob("checkpoint-*.note")
    assert daily.read_text() == newest
    assert verify(box.state.audit_log, box.key.public, against=newest).outside == 3


def test_syslog_gets_the_note_word_for_word(box: Box, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.settimeout(SECONDS_MAX)
        box.publisher(syslog=str(path)).publish()
        line = server.recv(65536).decode()
    note = json.loads(line[line.index("{") :].rstrip("\0"))["note"]
    assert line.startswith("<86>holdfast: ")
    assert verify(box.state.audit_log, box.key.public, against=note).outside == 1

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(SECONDS_MAX)
        box.publisher(syslog=f"127.0.0.1:{server.getsockname()[1]}").publish()
        assert note.splitlines()[0] in server.recv(65536).decode()


def test_a_log_server_that_is_gone_holds_up_nothing_else(box: Box, tmp_path: Path) -> None:
    drop = tmp_path / "stick"
    drop.mkdir()
    publisher = box.publisher(syslog=str(tmp_path / "nobody"), directory=str(drop), journal=True)
    publisher.publish()
    assert set(publisher.blocked) == {str(tmp_path / "nobody")}
    assert read_checkpoint((drop / "latest.note").read_text()).size == 1
    with pytest.raises(ConfigError):
        box.publisher(syslog="nonsense")


def test_a_way_that_is_free_again_gets_what_did_not_leave(
    box: Box, tmp_path: Path, journalled: list[tuple[str, object]]
) -> None:
    drop = tmp_path / "stick"
    publisher = box.publisher(directory=str(drop), journal=True)
    publisher.publish()
    publisher.publish()
    drop.mkdir()
    publisher.publish()
    assert publisher.blocked == {}
    assert read_checkpoint((drop / "latest.note").read_text()).size == 1
    assert [name for name, _ in journalled] == [
        "checkpoint.undelivered",
        "checkpoint.signed",
        "checkpoint.delivered",
    ]


class Silent:
    """A witness that does not answer until it is told to; `asked` counts."""

    name = "witness.example:8001"

    def __init__(self) -> None:
        self.answers, self.asked = False, 0

    def cosignature(self, _log: object, _note: str) -> str:
        self.asked += 1
        if not self.answers:
            raise Unreachable("no answer", remedy="wait")
        return "a line\n"


def test_a_witness_that_answers_again_is_asked_for_the_checkpoint_that_it_missed(
    box: Box, tmp_path: Path
) -> None:
    witness = Silent()
    publisher = box.publisher(witnesses=(witness,), directory=str(tmp_path))  # type: ignore[arg-type]
    publisher.publish()
    note = (tmp_path / "latest.note").read_text()
    assert str(publisher.blocked[witness.name]) == "no answer"
    witness.answers = True
    publisher.publish()
    assert publisher.blocked == {}
    assert (tmp_path / "latest.note").read_text() == note + "a line\n"
    assert box.state.cosigned.read_text() == note + "a line\n"
    publisher.publish()
    assert witness.asked == 2, "not again for what it has cosigned"


def test_a_log_without_a_checkpoint_or_without_news_sends_nothing(tmp_path: Path) -> None:
    publisher = Box(tmp_path / "new").publisher(directory=str(tmp_path))
    publisher.close()  # no log at all: told, and nothing breaks
    assert not (tmp_path / "latest.note").exists()


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
