"""Each denylist that holds is in the audit log, whoever put its file there and whenever."""

import asyncio

import pytest

from appliance.audit.kinds import DenylistChanged
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.clock import SystemClock
from appliance.config import TlsConfig
from appliance.errors import AuditUnwritable
from appliance.signing import SigningKey
from runtime import denials
from runtime.certificates import Certificates
from runtime.denials import open_denials
from runtime.recorder import Recorder

CLOCK = SystemClock()


class Box:
    """A log, its recorder and a denylist, through several lives."""

    def __init__(self, directory):
        self.path, self.file = directory / "audit" / "log.db", directory / "denied.txt"
        self.key = SigningKey.generate()
        self.deny()
        self.start()

    def deny(self, *lines):
        self.file.write_text("".join(f"{line}\n" for line in lines))

    def start(self):
        self.log = AuditLog.open(self.path, key=self.key, clock=CLOCK)
        self.recorder = Recorder(self.log, queue_records_max=10)
        self.certificates = Certificates(TlsConfig(denied=str(self.file)), CLOCK)
        self.denials = open_denials(self.certificates, self.recorder, self.path)

    def stop(self):
        self.recorder.close()
        self.log.close()

    def take_up(self):
        self.certificates.look()
        self.certificates.look()

    def told(self):
        with AuditReader(self.path) as reader:
            records = [entry.record for entry in reader.records()]
        assert all(isinstance(record, DenylistChanged) for record in records)
        return [(record.count, record.entries) for record in records]


@pytest.fixture
def box(tmp_path):
    made = Box(tmp_path)
    yield made
    made.stop()


async def test_a_box_that_never_denied_anybody_has_nothing_to_tell(box):
    await box.denials.look()
    assert box.told() == []


async def test_each_list_that_holds_is_recorded_once(box):
    box.deny("uri spiffe://site/client/x  # lost", "serial 00:2F")
    box.take_up()
    await box.denials.look()
    await box.denials.look()
    box.deny("# the same", "serial 2f", "uri spiffe://site/client/x")
    box.take_up()
    await box.denials.look()
    assert box.told() == [(2, ("serial 2f", "uri spiffe://site/client/x"))]
    box.deny()
    box.take_up()
    await box.denials.look()
    assert box.told()[1:] == [(0, ())]


async def test_a_list_that_changed_while_the_box_was_off_is_told_at_its_start(box):
    box.deny("serial 1")
    box.take_up()
    await box.denials.look()
    box.stop()
    box.start()
    await box.denials.look()
    assert len(box.told()) == 1
    box.stop()
    box.deny("serial 2")
    box.start()
    await box.denials.look()
    assert [entries for _, entries in box.told()] == [("serial 1",), ("serial 2",)]


async def test_what_the_log_does_not_take_is_tried_again(box, monkeypatch):
    box.deny("serial 1")
    box.take_up()
    taken = box.recorder.appended

    async def full(_):
        raise AuditUnwritable("the disk is full", remedy="free space")

    monkeypatch.setattr(box.recorder, "appended", full)
    with pytest.raises(AuditUnwritable):
        await box.denials.look()
    monkeypatch.setattr(denials, "LOOK_SECONDS", 0)
    looking = asyncio.create_task(box.denials.keep_looking())
    await asyncio.sleep(0)
    assert box.told() == []
    monkeypatch.setattr(box.recorder, "appended", taken)
    while not box.told():
        await asyncio.sleep(0)
    looking.cancel()
    assert box.told() == [(1, ("serial 1",))]


async def test_of_a_long_list_the_first_entries_and_the_digest_are_kept(box, monkeypatch):
    monkeypatch.setattr(denials, "ENTRIES_MAX", 2)
    box.deny(*(f"serial {number}" for number in range(1, 6)))
    box.take_up()
    await box.denials.look()
    assert box.told() == [(5, ("serial 1", "serial 2"))]
