"""The recorder: whoever waits goes on only when the record is durable."""

import asyncio
import threading

import pytest

from appliance.audit.kinds import Gap
from appliance.errors import AuditUnwritable, Overloaded
from runtime.recorder import Recorder, unheard


class FakeLog:
    """Keeps groups; may be held up, may fail."""

    def __init__(self):
        self.groups = []
        self.fails = False
        self.checkpoints = 0
        self.checkpoint_due = False
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    @property
    def size(self):
        return sum(map(len, self.groups))

    def append(self, records):
        if records:
            self.entered.set()
        self.gate.wait()
        if self.fails:
            raise AuditUnwritable("the disk is full", remedy="free space")
        start = self.size
        if records:
            self.groups.append([record.count for record in records])
        return range(start, start + len(records))

    def checkpoint(self):
        self.checkpoints += 1
        self.checkpoint_due = False


def gap(number):
    return lambda: Gap(count=number, reason="test")


async def test_what_queues_during_a_commit_shares_the_next():
    log = FakeLog()
    recorder = Recorder(log, queue_records_max=10)
    log.gate.clear()
    first = asyncio.ensure_future(recorder.appended(gap(1)))
    await asyncio.to_thread(log.entered.wait)
    rest = [asyncio.ensure_future(recorder.appended(gap(number))) for number in (2, 3)]
    await asyncio.sleep(0)
    assert not first.done()
    log.gate.set()
    assert await asyncio.gather(first, *rest) == [0, 1, 2]
    assert log.groups == [[1], [2, 3]]
    await asyncio.to_thread(recorder.close)


async def test_a_failing_log_fails_those_who_wait_and_is_tried_again():
    log = FakeLog()
    recorder = Recorder(log, queue_records_max=10)
    log.fails = True
    with pytest.raises(AuditUnwritable, match="disk is full"):
        await recorder.appended(gap(1))
    assert recorder.failure == "the disk is full"
    log.fails = False
    assert await recorder.appended(gap(2)) == 0
    assert recorder.failure == ""
    assert recorder.records == 1
    await asyncio.to_thread(recorder.close)


async def test_a_fault_of_the_log_does_not_end_the_thread():
    log = FakeLog()
    recorder = Recorder(log, queue_records_max=10)
    healthy, log.append = log.append, lambda records: 1 / 0
    with pytest.raises(AuditUnwritable, match="division by zero"):
        await recorder.appended(gap(1))
    log.append = healthy
    assert await recorder.appended(gap(2)) == 0
    await asyncio.to_thread(recorder.close)


async def test_an_entry_that_cannot_be_made_fails_alone():
    log = FakeLog()
    recorder = Recorder(log, queue_records_max=10)
    results = await asyncio.gather(
        recorder.appended(lambda: 1 / 0), recorder.appended(gap(2)), return_exceptions=True
    )
    assert isinstance(results[0], AuditUnwritable)
    assert results[1] == 0
    await asyncio.to_thread(recorder.close)


async def test_a_full_queue_refuses():
    log = FakeLog()
    recorder = Recorder(log, queue_records_max=1)
    log.gate.clear()
    first = asyncio.ensure_future(recorder.appended(gap(1)))
    await asyncio.to_thread(log.entered.wait)
    second = asyncio.ensure_future(recorder.appended(gap(2)))
    await asyncio.sleep(0)
    assert recorder.queued == 1
    with pytest.raises(Overloaded, match="audit log is behind"):
        await recorder.appended(gap(3))
    log.gate.set()
    await asyncio.gather(first, second)
    await asyncio.to_thread(recorder.close)


async def test_an_idle_log_gets_its_checkpoint(monkeypatch):
    monkeypatch.setattr("runtime.recorder.IDLE_SECONDS", 0.01)
    log = FakeLog()
    recorder = Recorder(log, queue_records_max=1)
    log.checkpoint_due = True
    while not log.checkpoints:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(recorder.close)


async def test_closing_writes_what_is_queued():
    log = FakeLog()
    recorder = Recorder(log, queue_records_max=10)
    waiting = [asyncio.ensure_future(recorder.appended(gap(number))) for number in range(5)]
    await asyncio.sleep(0)
    await asyncio.to_thread(recorder.close)
    assert await asyncio.gather(*waiting) == list(range(5))


async def test_records_that_nobody_waits_for_are_gathered_until_somebody_does(monkeypatch):
    monkeypatch.setattr("runtime.recorder.GATHER_SECONDS", 30.0)
    log = FakeLog()
    recorder = Recorder(log, queue_records_max=10)
    log.gate.clear()
    first = asyncio.ensure_future(recorder.appended(gap(0)))
    await asyncio.to_thread(log.entered.wait)
    for number in (1, 2, 3):  # while it commits: one that just falls asleep may take a few alone
        recorder.append(gap(number), unheard)
    log.gate.set()
    await first
    while not recorder._gathering:
        await asyncio.sleep(0.001)
    assert await recorder.appended(gap(4)) == 4
    assert log.groups == [[0], [1, 2, 3, 4]]
    await asyncio.to_thread(recorder.close)


async def test_what_was_gathered_is_written_without_anybody_waiting(monkeypatch):
    monkeypatch.setattr("runtime.recorder.GATHER_SECONDS", 0.01)
    log = FakeLog()
    recorder = Recorder(log, queue_records_max=10)
    recorder.append(gap(1), unheard)
    await asyncio.to_thread(log.entered.wait)
    await asyncio.to_thread(recorder.close)
    assert log.groups == [[1]]
