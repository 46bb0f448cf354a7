"""The writer: groups are durable or absent, checkpoints come when due, opening trusts nothing unsigned."""

import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pysqlite3 import dbapi2 as sqlite

from appliance.audit import writing
from appliance.audit.checkpoint import open_checkpoint
from appliance.audit.kinds import Gap, Inference
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.verify import verify
from appliance.clock import boot_id
from appliance.errors import AuditBroken, AuditUnwritable, StateError
from appliance.signing import SigningKey

Open = Callable[..., AuditLog]
Make = Callable[..., Inference]


def signed_sizes(path: Path, key: SigningKey) -> list[int]:
    with AuditReader(path) as reader:
        return [open_checkpoint(note, key.public).size for note in reader.checkpoints(100)]


def test_a_new_log_starts_with_a_checkpoint_over_nothing(
    open_log: Open, path: Path, key: SigningKey
) -> None:
    open_log().close()

    assert signed_sizes(path, key) == [0]


def test_records_get_the_next_sequences_and_the_clocks_time(
    open_log: Open, path: Path, key: SigningKey, clock, inference: Make
) -> None:
    with open_log() as log:
        assert log.append([inference(0), inference(1)]) == range(2)
        clock.advance(1.5)
        assert log.append([inference(2)]) == range(2, 3)
        assert log.append([]) == range(3, 3)
        assert log.size == 3
    with AuditReader(path) as reader:
        entries = list(reader.records())

    assert [entry.record for entry in entries] == [inference(number) for number in range(3)]
    assert [entry.sequence for entry in entries] == [0, 1, 2]
    assert entries[2].wall_ns - entries[1].wall_ns == 1_500_000_000
    assert {(entry.boot_id, entry.box) for entry in entries} == {("boot-1", key.public.key_id)}


def test_without_a_boot_id_the_kernels_is_written(open_log: Open, path: Path) -> None:
    with open_log(boot_id=None) as log:
        log.append([Gap(count=1, reason="test")])
    with AuditReader(path) as reader:
        assert reader.tail(1)[0].boot_id == boot_id()


def test_a_checkpoint_is_signed_every_so_many_records(
    open_log: Open, path: Path, key: SigningKey, inference: Make
) -> None:
    with open_log(checkpoint_records=4) as log:
        for number in range(9):
            log.append([inference(number)])
        log.append([inference(number) for number in range(10)])

    assert signed_sizes(path, key) == [0, 4, 8, 19]


def test_a_checkpoint_is_signed_every_so_many_seconds(
    open_log: Open, path: Path, key: SigningKey, clock, inference: Make
) -> None:
    with open_log(checkpoint_seconds=60.0) as log:
        log.append([inference(0)])
        clock.advance(60)
        log.append([inference(1)])
        log.append([inference(2)])
        clock.advance(59.9)
        log.append([inference(3)])

    assert signed_sizes(path, key) == [0, 2, 4]


def test_an_idle_log_says_when_a_checkpoint_is_due(
    open_log: Open, path: Path, key: SigningKey, clock, inference: Make
) -> None:
    log = open_log(checkpoint_seconds=60.0)
    clock.advance(100)
    assert not log.checkpoint_due
    log.append([inference(0)])
    assert not log.checkpoint_due
    log.append([inference(1)])
    clock.advance(60)
    assert log.checkpoint_due
    log.checkpoint()
    assert not log.checkpoint_due
    log.checkpoint()

    assert signed_sizes(path, key) == [0, 1, 2]
    log.close()


def test_a_second_writer_is_refused_and_the_first_goes_on(open_log: Open, inference: Make) -> None:
    log = open_log()
    with pytest.raises(StateError, match="already has a writer"):
        open_log()
    log.append([inference(0)])
    log.close()


def test_a_closed_log_takes_nothing_more(open_log: Open, inference: Make) -> None:
    log = open_log()
    log.close()

    with pytest.raises(AuditUnwritable, match="closed"):
        log.append([inference(0)])


def test_the_tables_themselves_refuse_to_forget(open_log: Open, inference: Make) -> None:
    log = open_log()
    log.append([inference(0)])
    connection = log._database.connection
    for statement in (
        "DELETE FROM record",
        "UPDATE record SET model = ''",
        "DELETE FROM checkpoint",
    ):
        with pytest.raises(sqlite.IntegrityError, match="the audit log only grows"):
            connection.execute(statement)
    log.close()


@given(st.lists(st.lists(st.integers(1, 5), max_size=6), min_size=1, max_size=4))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_groups_over_any_openings_make_one_log_that_verifies(
    tmp_path_factory, key: SigningKey, clock, inference: Make, openings: list[list[int]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.db"
    for groups in openings:
        with AuditLog.open(path, key=key, clock=clock, checkpoint_records=7, boot_id="b") as log:
            for count in groups:
                log.append([inference(log.size + each) for each in range(count)])
    total = sum(sum(groups) for groups in openings)
    with AuditReader(path) as reader:
        found = [entry.record for entry in reader.records()]

    assert verify(path, key.public).records == total
    assert found == [inference(number) for number in range(total)]


def test_a_full_log_refuses_whole_groups_and_goes_on_when_there_is_space(
    open_log: Open, path: Path, key: SigningKey, inference: Make
) -> None:
    log = open_log(bytes_max=200_000, checkpoint_records=10)
    group = [inference(each) for each in range(20)]
    with pytest.raises(AuditUnwritable, match="full") as caught:
        deque((log.append(group) for _ in range(100)), maxlen=0)
    written = log.size
    assert caught.value.remedy == "free disk space"
    assert written % 20 == 0
    assert 0 < written < 2000
    with AuditReader(path) as reader:
        assert reader.size() == written

    log._database.connection.execute("PRAGMA max_page_count=100000")
    assert log.append([inference(written)]) == range(written, written + 1)
    log.close()
    assert verify(path, key.public).records == written + 1


def test_a_checkpoint_that_cannot_be_written_takes_its_records_with_it(
    open_log: Open, path: Path, key: SigningKey, inference: Make
) -> None:
    log = open_log(checkpoint_records=2)
    connection = log._database.connection
    connection.execute(
        "CREATE TEMP TRIGGER fault BEFORE INSERT ON checkpoint BEGIN SELECT RAISE(ABORT, 'fault'); END"
    )
    log.append([inference(0)])
    with pytest.raises(AuditUnwritable, match="fault"):
        log.append([inference(1)])
    assert log.size == 1
    connection.execute("DROP TRIGGER fault")
    log.append([inference(1)])
    log.close()

    assert verify(path, key.public).records == 2


def test_records_another_program_wrote_in_stop_the_writer(open_log: Open, inference: Make) -> None:
    log = open_log()
    log.append([inference(0)])
    log._database.connection.execute(
        "INSERT INTO record SELECT 1, wall_ns, category, model, version, event_id, result, leaf, body, principal "
        "FROM record"
    )
    with pytest.raises(AuditUnwritable) as caught:
        log.append([inference(1)])

    assert "another program wrote" in caught.value.remedy
    log.close()


def test_a_record_without_bounds_is_refused(
    open_log: Open, inference: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "RECORD_BYTES_MAX", 2000)
    with open_log() as log:
        log.append([inference(0, vector=bytes(500))])
        with pytest.raises(AuditUnwritable, match="over the limit of 2000"):
            log.append([inference(1), inference(2, vector=bytes(1500))])
        assert log.size == 1


DISK_FULL = """
import resource, sys
from pathlib import Path
from appliance.audit.log import AuditLog
from appliance.audit.kinds import Gap
from appliance.clock import SystemClock
from appliance.errors import AuditUnwritable
from appliance.signing import SigningKey

path, key = Path(sys.argv[1]), SigningKey.load(Path(sys.argv[2]))
log = AuditLog.open(path, key=key, clock=SystemClock(), checkpoint_records=50)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
try:
    while True:
        log.append([Gap(count=each, reason="x" * 500) for each in range(10)])
except AuditUnwritable as error:
    full = log.size
    assert "disk I/O error" in str(error) or "full" in str(error), error
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
log.append([Gap(count=1, reason="space again")])
log.close()
print(full)
"""


def test_a_disk_that_stops_taking_bytes_and_then_takes_them_again(
    path: Path, key: SigningKey, tmp_path: Path
) -> None:
    key.save(tmp_path / "box.pem")
    child = subprocess.run(
        [sys.executable, "-c", DISK_FULL, path, tmp_path / "box.pem"],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    full = int(child.stdout)

    assert full >= 10
    assert verify(path, key.public).records == full + 1


def test_opening_signs_what_a_crash_left_unsigned(
    open_log: Open, path: Path, key: SigningKey, inference: Make
) -> None:
    log = open_log()
    log.append([inference(number) for number in range(5)])
    log._database.close()
    assert signed_sizes(path, key) == [0]

    open_log().close()
    assert signed_sizes(path, key) == [0, 5]


@pytest.fixture
def crashed(open_log: Open, path: Path, inference: Make) -> Path:
    """A log of nine records whose writer died after its last checkpoint, at five."""
    with open_log() as log:
        log.append([inference(number) for number in range(5)])
    log = open_log()
    log.append([inference(number) for number in range(5, 9)])
    log._database.close()
    return path


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "UPDATE record SET model = 'other' WHERE sequence = 6",
            "record 6: column model is 'other'",
        ),
        ("DELETE FROM record WHERE sequence = 6", "record 6: it is missing; the next one"),
        (
            "DELETE FROM record WHERE sequence >= 3",
            "record 3: it is missing; a checkpoint covers 5",
        ),
        ("DELETE FROM checkpoint", "the log has records but no checkpoint"),
        ("UPDATE checkpoint SET frontier = zeroblob(64)", "checkpoint 5: its columns do not fit"),
        ("UPDATE checkpoint SET frontier = zeroblob(32)", "checkpoint 5: 32 bytes are no frontier"),
        ("UPDATE checkpoint SET note = 'x'", "checkpoint 5: not a signed note"),
    ],
)
def test_opening_refuses_a_log_that_was_tampered_with_where_it_goes_on(
    open_log: Open, crashed: Path, tamper, statement: str, message: str
) -> None:
    tamper(crashed, "DELETE FROM checkpoint WHERE size < 5", statement)

    with pytest.raises(AuditBroken, match=message):
        open_log()
    with pytest.raises(AuditBroken):
        open_log()


def test_opening_with_another_key_is_refused(open_log: Open, golden: ModuleType) -> None:
    open_log().close()

    with pytest.raises(AuditBroken, match="checkpoint 0: signed by"):
        open_log(key=golden.golden_key())


def test_a_damaged_file_is_refused_at_opening(open_log: Open, path: Path, inference: Make) -> None:
    with open_log() as log:
        log.append([inference(number) for number in range(200)])
    content = bytearray(path.read_bytes())
    content[4096:8192] = bytes(4096)
    path.write_bytes(content)

    with pytest.raises((AuditUnwritable, AuditBroken)):
        open_log()
