"""The logs that earlier formats wrote open, verify and go on for ever."""

import shutil
from pathlib import Path
from types import ModuleType

import pytest

from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.record import decode, encode
from appliance.audit.search import Sought
from appliance.audit.tree import Frontier, leaf_hash
from appliance.audit.verify import verify
from appliance.signing import PublicKey

FIRST = Path(__file__).parents[2] / "golden" / "audit" / "1"
SECOND, NEWEST = FIRST.with_name("2"), FIRST.with_name("2.1")
EVERY = pytest.mark.parametrize(
    "kept", [FIRST, SECOND, NEWEST], ids=["format 1", "format 2", "format 2 and later kinds"]
)


def read(kept: Path) -> list[bytes]:
    return (kept / "records.jsonl").read_bytes().splitlines()


def test_every_record_reads_as_it_was_meant(golden: ModuleType) -> None:
    assert [decode(body).record for body in read(FIRST)] == golden.first_samples()
    assert [decode(body).record for body in read(SECOND)] == golden.second_samples()
    assert [decode(body).record for body in read(NEWEST)] == golden.samples()


@EVERY
def test_this_release_writes_the_same_bytes(kept: Path) -> None:
    """A field that is added later has a default, and what holds the default is written without it."""
    for body in read(kept):
        assert encode(decode(body)) == body


@EVERY
def test_the_log_verifies_against_its_exported_checkpoint(kept: Path) -> None:
    bodies = read(kept)
    frontier = Frontier()
    for body in bodies:
        frontier.append(leaf_hash(body))
    note = (kept / "checkpoint.txt").read_text("utf-8")
    found = verify(kept / "log.db", PublicKey.load(kept / "box.pub"), against=note)

    assert (found.records, found.root) == (len(bodies), frontier.root())
    assert found.outside == len(bodies)


@EVERY
def test_reading_leaves_no_trace_beside_it(kept: Path) -> None:
    with AuditReader(kept / "log.db") as reader:
        assert len(reader.tail(100)) == len(read(kept))
    assert {item.name for item in kept.iterdir()} == {
        "box.pub",
        "checkpoint.txt",
        "log.db",
        "records.jsonl",
    }


@EVERY
def test_every_question_is_answered_of_every_format(kept: Path) -> None:
    with AuditReader(kept / "log.db") as reader:
        assert reader.tail(9, sought=Sought(principal="Ægir"))[0].sequence == 1
        assert [entry.record.columns()[0] for entry in reader.show("decision-1")] == [
            "decision",
            "outcome",
        ]
        assert reader.first_since(0) == 0
        assert list(reader.last_outcomes()) == ["digits"]
        assert [entry.sequence for entry in reader.records(category="gap")] == [5]
        assert reader.leaves(0, 2) == [leaf_hash(body) for body in read(kept)[:2]]


@EVERY
def test_it_goes_on_under_this_release(golden: ModuleType, tmp_path: Path, kept: Path) -> None:
    path = tmp_path / "log.db"
    shutil.copy(kept / "log.db", path)
    key = golden.golden_key()
    with AuditLog.open(path, key=key, clock=golden.GoldenClock(), boot_id="later") as log:
        log.append(golden.samples() * 20)

    assert verify(path, key.public).records == len(read(kept)) + 440
    with AuditReader(path) as reader:
        assert len(reader.tail(100, sought=Sought(principal="Ægir", category="decision"))) > 40


@pytest.mark.parametrize("name", ["log.db", "checkpoint.txt", "records.jsonl", "box.pub"])
def test_the_script_still_makes_it(golden: ModuleType, tmp_path: Path, name: str) -> None:
    """Byte for byte, but for the database file, whose layout is SQLite's own business."""
    golden.write(tmp_path / "made")
    if name != "log.db":
        assert (tmp_path / "made" / name).read_bytes() == (NEWEST / name).read_bytes()
    else:
        assert verify(tmp_path / "made" / name, golden.golden_key().public).records == 22
