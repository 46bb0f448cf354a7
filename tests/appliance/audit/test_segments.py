"""A log of many files is one log: sealed, read, verified, removed, and cut off anywhere in between."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pysqlite3 import dbapi2 as sqlite

from appliance.audit.kinds import Decision, Inference, Outcome, Removed, Sealed
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.retention import keep_roots, remove
from appliance.audit.search import Sought
from appliance.audit.segments import moving_path, sealed_directory, sealed_segments
from appliance.audit.tree import leaf_hash
from appliance.audit.verify import verify
from appliance.database import Database
from appliance.deployment import Deployment
from appliance.errors import AuditBroken, AuditError, AuditUnwritable, UnknownRecord
from appliance.signing import SigningKey

Make = Callable[..., Inference]
Open = Callable[..., AuditLog]
DAY = 86_400.0


def fill(log: AuditLog, inference: Make, first: int, count: int) -> None:
    for start in range(first, first + count, 50):
        log.append([inference(number) for number in range(start, min(start + 50, first + count))])


@pytest.fixture
def three(open_log: Open, inference: Make, clock, path: Path) -> Path:
    """Two sealed files and a growing one, of 300, 301 and 101 records with the seals."""
    with open_log(checkpoint_records=50) as log:
        for first in (0, 300, 600):
            fill(log, inference, first, 300 if first < 600 else 100)
            clock.advance(40 * DAY)
            if first < 600:
                assert log.seal()
    return path


def test_sequences_and_the_tree_go_on_over_files(three: Path, key: SigningKey) -> None:
    names = [item.name for item in sorted(sealed_directory(three).iterdir())]
    assert names == ["000000000000-000000000299.db", "000000000300-000000000600.db"]
    found = verify(three, key.public)
    assert (found.records, found.removed) == (702, 0)
    with AuditReader(three) as reader:
        assert reader.size() == 702
        assert [entry.sequence for entry in reader.records()] == list(range(702))
        assert [entry.sequence for entry in reader.tail(150)] == list(range(552, 702))


def test_each_file_begins_with_the_seal_of_the_one_before(three: Path) -> None:
    with AuditReader(three) as reader:
        seals = [entry.record for entry in reader.records(category="sealed")]
    assert [(seal.first, seal.end) for seal in seals if isinstance(seal, Sealed)] == [
        (0, 300),
        (300, 601),
    ]


def test_every_question_is_asked_of_all_files(three: Path) -> None:
    with AuditReader(three) as reader:
        assert [entry.sequence for entry in reader.show("request-7")] == [7]
        assert [entry.sequence for entry in reader.show("request-650")] == [652]
        assert reader.at(300).record.columns()[0] == "sealed"
        assert reader.leaves(298, 303) == [
            leaf_hash(body) for body in bodies(three, range(298, 303))
        ]
        assert len(reader.subtrees(1, 0, 2)) == 2
        time = reader.at(650).wall_ns
        assert reader.first_since(time) <= 650
        assert reader.first_since(time + 1) > 650 or reader.at(651).wall_ns == time
        assert [e.sequence for e in reader.tail(9, sought=Sought(category="sealed"))] == [300, 601]
        with pytest.raises(UnknownRecord):
            reader.at(702)


def bodies(live: Path, places: range) -> list[bytes]:
    found = {}
    for file in [*sealed_directory(live).iterdir(), live]:
        connection = sqlite.connect(str(file))
        found |= dict(connection.execute("SELECT sequence, body FROM record").fetchall())
        connection.close()
    return [found[place] for place in places]


def test_a_reader_that_was_there_before_sees_what_comes_after(
    open_log: Open, inference: Make, path: Path
) -> None:
    with open_log() as log:
        fill(log, inference, 0, 10)
        with AuditReader(path) as reader:
            stream = reader.records()
            assert next(stream).sequence == 0
            assert log.seal()
            fill(log, inference, 10, 10)
            assert reader.size() == 21
            assert [entry.sequence for entry in stream] == list(range(1, 21))
            assert log.seal()
            assert [entry.sequence for entry in reader.tail(1)] == [21]


def test_an_empty_file_is_not_sealed(open_log: Open) -> None:
    with open_log() as log:
        assert not log.seal()
        assert not log.seal_due(bytes_max=1, seconds=0)


def test_no_file_is_sealed_while_a_decision_is_open(open_log: Open, golden, path: Path) -> None:
    decision = next(record for record in golden.samples() if isinstance(record, Decision))
    outcome = next(record for record in golden.samples() if isinstance(record, Outcome))
    with open_log() as log:
        log.append([decision])
        assert not log.seal()
        log.append([outcome])
        assert log.seal()
        with AuditReader(path) as reader:
            assert reader.last_outcomes() == {"digits": outcome.deployment}
            assert reader.open_decisions() == []


def test_how_models_stand_outlives_the_file_that_says_so(
    open_log: Open, golden, inference: Make, clock, path: Path
) -> None:
    outcome = next(record for record in golden.samples() if isinstance(record, Outcome))
    with open_log() as log:
        log.append([outcome])
        for number in range(3):
            assert log.seal()
            clock.advance(400 * DAY)
            log.append([inference(number)])
        assert log.remove_expired(366) > 0
    with AuditReader(path) as reader:
        assert isinstance(reader.last_outcomes()["digits"], Deployment)
        assert reader.first() > 0


def test_it_is_due_by_bytes_and_by_age(open_log: Open, inference: Make, clock) -> None:
    with open_log() as log:
        fill(log, inference, 0, 100)
        assert not log.seal_due(bytes_max=1 << 30, seconds=DAY)
        assert log.seal_due(bytes_max=4096, seconds=DAY)
        clock.advance(DAY)
        assert log.seal_due(bytes_max=1 << 30, seconds=DAY)


def test_a_reader_in_the_midst_of_a_page_puts_it_off(
    open_log: Open, inference: Make, path: Path
) -> None:
    with open_log() as log:
        fill(log, inference, 0, 10)
        log._database.connection.execute("PRAGMA busy_timeout=1")
        other = sqlite.connect(str(path), isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM record").fetchone()
        fill(log, inference, 10, 10)
        assert not log.seal()
        assert not moving_path(path).exists()
        other.execute("COMMIT")
        assert log.seal()
        other.close()
        fill(log, inference, 20, 10)
        assert log.size == 31


def test_retention_leaves_the_hashes(three: Path, open_log: Open, key: SigningKey) -> None:
    before = verify(three, key.public)
    with open_log() as log:
        assert log.remove_expired(1000) == 0
        assert log.remove_expired(50) == 1
        assert log.remove_expired(50) == 0
    found = verify(three, key.public)
    assert (found.records, found.removed) == (703, 300)
    assert "removed by retention" in found.promise
    with AuditReader(three) as reader:
        assert reader.first() == 300
        assert len(reader.subtrees(1, 0, 2)) == 2
        assert len(reader.checkpoints(100)) >= before.checkpoints
        (told,) = [entry.record for entry in reader.records(category="removed")]
        with pytest.raises(UnknownRecord):
            reader.leaves(0, 10)
        with pytest.raises(UnknownRecord):
            reader.at(5)
    assert isinstance(told, Removed)
    assert (told.first, told.end) == (0, 300)


def test_a_file_after_removed_ones_without_its_first_checkpoint_is_broken(
    three: Path, open_log: Open, key: SigningKey, tamper: Callable[..., None]
) -> None:
    with open_log() as log:
        assert log.remove_expired(50) == 1
    oldest = next(item.path for item in sealed_segments(three) if not item.removed)
    tamper(oldest, "DELETE FROM checkpoint WHERE size = 300")
    with pytest.raises(AuditBroken, match=r"record 300: the checkpoint that its file begins with"):
        verify(three, key.public)


def test_hashes_that_were_kept_falsely_are_found(
    three: Path, open_log: Open, key: SigningKey, tamper: Callable[..., None]
) -> None:
    with open_log() as log:
        log.remove_expired(50)
    (kept,) = sealed_directory(three).glob("*.roots.db")
    tamper(kept, "UPDATE subtree SET hash = zeroblob(32) WHERE level = 1")
    with pytest.raises(AuditBroken, match="do not fit"):
        verify(three, key.public)


def test_a_checkpoint_from_before_what_was_removed_cannot_be_compared(
    three: Path, open_log: Open, key: SigningKey
) -> None:
    with AuditReader(three) as reader:
        early = reader.checkpoint_from(50)
    with open_log() as log:
        log.remove_expired(50)
    with pytest.raises(AuditError, match="which retention removed"):
        verify(three, key.public, against=early)


@pytest.mark.parametrize("number", [0, 1])
def test_a_sealed_file_that_is_gone_is_named(
    three: Path, key: SigningKey, open_log: Open, number: int
) -> None:
    sealed_segments(three)[number].path.unlink()
    with pytest.raises(AuditBroken, match=rf"^record {(0, 300)[number]}: "):
        verify(three, key.public)
    with pytest.raises(AuditBroken):
        open_log()


def test_a_file_from_the_middle_that_looks_removed_is_named(three: Path, key: SigningKey) -> None:
    """Retention takes the oldest first: verify must neither pass over it nor wait for retention to end."""
    taken = sealed_segments(three)[1]
    keep_roots(taken)
    remove(taken)
    with pytest.raises(AuditBroken, match=r"^record 300: .* was taken away"):
        verify(three, key.public)


def test_another_file_in_the_place_of_a_sealed_one_is_named(three: Path, key: SigningKey) -> None:
    first, second = sealed_segments(three)
    shutil.copy(first.path, second.path)
    with pytest.raises(AuditBroken, match=r"^record 300: a file with checkpoint 0 is in its place"):
        verify(three, key.public)


def test_a_growing_file_that_is_gone_is_no_new_log(three: Path, open_log: Open) -> None:
    three.unlink()
    with pytest.raises(AuditBroken, match=r"^record 601: the growing file"):
        open_log()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE record SET body = x'00' WHERE sequence = 320",
        "DELETE FROM record WHERE sequence = 320",
        "DELETE FROM record WHERE sequence = 600",
        "UPDATE tile SET words = '' WHERE number = 1",
        "DELETE FROM tile WHERE number = 1",
        "INSERT INTO tile VALUES (9, 0, 0, '')",
        "UPDATE subtree SET hash = zeroblob(32)",
        "DELETE FROM subtree",
    ],
)
def test_a_change_in_a_sealed_file_is_found(
    three: Path, key: SigningKey, tamper: Callable[..., None], statement: str
) -> None:
    tamper(sealed_segments(three)[1].path, statement)
    with pytest.raises(AuditBroken, match=r"^record \d+: "):
        verify(three, key.public)


@pytest.mark.parametrize("step", ["move", "unlink", "reopen", "base", "sealed"])
def test_a_crash_in_the_midst_of_sealing_goes_on(
    open_log: Open, inference: Make, key: SigningKey, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Cut off after each step, by an error that nobody handles; then the box starts again."""

    class Cut(BaseException):
        pass

    def cut(*_: object, **__: object) -> None:
        raise Cut

    log = open_log()
    path = log._database.path
    fill(log, inference, 0, 300)
    if step == "move":
        monkeypatch.setattr(Path, "rename", cut)
    elif step == "unlink":
        monkeypatch.setattr(Path, "unlink", cut)
    elif step == "reopen":
        monkeypatch.setattr(Database, "reopen", cut)
    elif step == "base":
        monkeypatch.setattr("appliance.audit.log.base_of_next", cut)
    else:
        monkeypatch.setattr(AuditLog, "_record_sealed", cut)
    with pytest.raises(Cut):
        log.seal()
    monkeypatch.undo()
    log._database.close()
    with open_log() as again:
        fill(again, inference, 300, 10)
        size = again.size
    assert size == (310 if step == "move" else 311)
    assert verify(path, key.public).records == size
    assert not moving_path(path).exists()


def test_a_disk_that_refuses_the_new_file_is_tried_again(
    open_log: Open, inference: Make, path: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    log = open_log()
    fill(log, inference, 0, 20)
    monkeypatch.setattr(Database, "reopen", refuse)
    with pytest.raises(AuditUnwritable):
        log.seal()
    with pytest.raises(AuditUnwritable):
        log.append([inference(20)])
    monkeypatch.undo()
    log.append([inference(20)])
    log.close()
    assert verify(path, key.public).records == 22


def test_sealed_files_can_be_read_from_a_medium_that_only_reads(
    three: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "medium"
    shutil.copytree(three.parent, copy)
    for item in sorted(copy.rglob("*"), reverse=True):
        item.chmod(0o555 if item.is_dir() else 0o444)
    with AuditReader(copy / "log.db") as reader:
        assert len(reader.tail(702)) == 702
    assert not list(copy.rglob("*-wal"))
