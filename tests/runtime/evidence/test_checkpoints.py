"""Checkpoints leave the box: each way, each way blocked."""

import json
import socket
from pathlib import Path

import pytest

from appliance.audit.checkpoint import read_checkpoint
from appliance.audit.kinds import Stop
from appliance.audit.log import AuditLog
from appliance.audit.verify import verify
from appliance.clock import SystemClock
from appliance.config import CheckpointsConfig, StateConfig
from appliance.errors import ConfigError, Unreachable
from appliance.signing import SigningKey
from runtime.checkpoints import Publisher
from runtime.witnessing import Asking

# For a line to come; the processors are shared with other tests.
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
