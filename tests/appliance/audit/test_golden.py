"""The log that release 0.1 wrote opens, verifies and goes on for ever."""

import shutil
from pathlib import Path
from types import ModuleType

import pytest

from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.record import decode, encode
from appliance.audit.tree import Frontier, leaf_hash
from appliance.audit.verify import verify
from appliance.signing import PublicKey

FIRST = Path(__file__).parents[2] / "golden" / "audit" / "1"


def test_every_record_of_the_first_release_reads_as_it_was_meant(golden: ModuleType) -> None:
    bodies = (FIRST / "records.jsonl").read_bytes().splitlines()
    entries = [decode(body) for body in bodies]

    assert [entry.record for entry in entries] == golden.samples()


def test_this_release_writes_the_same_bytes() -> None:
    """When a field is added this fails: make a new golden directory and keep this one for reading."""
    for body in (FIRST / "records.jsonl").read_bytes().splitlines():
        assert encode(decode(body)) == body


def test_the_log_verifies_against_its_exported_checkpoint() -> None:
    bodies = (FIRST / "records.jsonl").read_bytes().splitlines()
    frontier = Frontier()
    for body in bodies:
        frontier.append(leaf_hash(body))
    note = (FIRST / "checkpoint.txt").read_text("utf-8")
    found = verify(FIRST / "log.db", PublicKey.load(FIRST / "box.pub"), against=note)

    assert (found.records, found.outside, found.root) == (7, 7, frontier.root())


def test_reading_leaves_no_trace_beside_it() -> None:
    with AuditReader(FIRST / "log.db") as reader:
        assert len(reader.tail(100)) == 7
    assert {item.name for item in FIRST.iterdir()} == {
        "box.pub",
        "checkpoint.txt",
        "log.db",
        "records.jsonl",
    }


def test_it_goes_on_under_this_release(golden: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    shutil.copy(FIRST / "log.db", path)
    key = golden.golden_key()
    with AuditLog.open(path, key=key, clock=golden.GoldenClock(), boot_id="later") as log:
        log.append(golden.samples())

    assert verify(path, key.public).records == 14


@pytest.mark.parametrize("name", ["log.db", "checkpoint.txt", "records.jsonl", "box.pub"])
def test_the_script_still_makes_it(golden: ModuleType, tmp_path: Path, name: str) -> None:
    """Byte for byte, but for the database file, whose layout is SQLite's own business."""
    golden.write(tmp_path / "made")
    if name != "log.db":
        assert (tmp_path / "made" / name).read_bytes() == (FIRST / name).read_bytes()
    else:
        assert verify(tmp_path / "made" / name, golden.golden_key().public).records == 7
