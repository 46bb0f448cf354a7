"""A writer killed at any moment: what it acknowledged is there, and the log ends between two groups."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.verify import verify
from appliance.clock import SystemClock
from appliance.signing import SigningKey

GROUP = 3
WRITER = """
import signal, sys
from pathlib import Path
from appliance.audit.log import AuditLog
from appliance.audit.kinds import Gap
from appliance.clock import SystemClock
from appliance.signing import SigningKey

key = SigningKey.load(Path(sys.argv[2]))
log = AuditLog.open(Path(sys.argv[1]), key=key, clock=SystemClock(), checkpoint_records=20)
left = int(sys.argv[3])
while left:
    left -= 1
    written = log.append([Gap(count=each, reason="x" * 100) for each in range(3)])
    print(written.stop, flush=True)
signal.pause()
"""


def killed(path: Path, key_file: Path, after: int, most: int = -1) -> int:
    """Let a child append until it has acknowledged `after` groups, kill it, return what it last said.

    It writes on until it dies, but no more than `most` groups.
    """
    command = [sys.executable, "-c", WRITER, path, key_file, str(most)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(after)]
        child.send_signal(signal.SIGKILL)
        said += child.stdout.readlines()
    # The last line may be torn in the middle of its digits; what counts is a whole one.
    return max(int(line) for line in said if line.endswith("\n"))


@pytest.fixture
def key_file(tmp_path: Path, key: SigningKey) -> Path:
    key.save(tmp_path / "box.pem")
    return tmp_path / "box.pem"


def test_all_that_was_acknowledged_outlives_kills(
    path: Path, key: SigningKey, key_file: Path
) -> None:
    acknowledged = 0
    for after in (1, 25, 60):
        acknowledged = killed(path, key_file, after)
        found = verify(path, key.public)
        assert found.records >= acknowledged
        assert found.records % GROUP == 0
    with AuditLog.open(path, key=key, clock=SystemClock()) as log:
        assert log.size >= acknowledged

    assert verify(path, key.public).checkpointed >= acknowledged


@pytest.fixture(scope="module")
def crashed(tmp_path_factory, key: SigningKey) -> Path:
    """A log whose writer was killed: all of it is still in SQLite's write-ahead log."""
    directory = tmp_path_factory.mktemp("crashed")
    key.save(directory / "box.pem")
    # No more, or SQLite begins to move its pages into the file while the journal goes on.
    killed(directory / "log.db", directory / "box.pem", 15, most=15)
    return directory


@given(st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_a_power_cut_ends_the_log_between_two_groups(
    crashed: Path, key: SigningKey, tmp_path_factory, data
) -> None:
    """The write-ahead log loses its end, or has rubbish from some place on."""
    directory = tmp_path_factory.mktemp("cut")
    path = directory / "log.db"
    shutil.copy(crashed / "log.db", path)
    journal = (crashed / "log.db-wal").read_bytes()
    cut = data.draw(st.integers(0, len(journal)))
    rubbish = bytes(data.draw(st.integers(0, 2)) * 3000)
    (directory / "log.db-wal").write_bytes(journal[:cut] + rubbish)

    with AuditLog.open(path, key=key, clock=SystemClock()) as log:
        size = log.size
        assert size % GROUP == 0
    assert verify(path, key.public).records == size
    with AuditReader(path) as reader:
        assert [entry.sequence for entry in reader.records()] == list(range(size))
