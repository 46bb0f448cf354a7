"""What is left out of the log is counted in it."""

import asyncio

import pytest

from appliance.audit.kinds import Failure, Gap, Inference, Refusals, Stop
from appliance.errors import AuditUnwritable
from runtime.floods import KEYS_MAX, Floods
from runtime.omissions import Omissions
from runtime.recorder import NO_RECORD, Recorder

MINUTE = 60


class HandClock:
    def __init__(self):
        self.seconds = 1000

    def wall_ns(self):
        return self.seconds * 10**9

    monotonic_ns = wall_ns


class FakeLog:
    def __init__(self):
        self.records = []
        self.fails = False
        self.checkpoint_due = False

    @property
    def size(self):
        return len(self.records)

    def append(self, records):
        if self.fails and records:
            raise AuditUnwritable("the disk is full", remedy="free space")
        start = self.size
        self.records += records
        return range(start, self.size)


def failure(number, *, principal="token:a", code="request.invalid", peer="ipv4:10.0.0.1:4000"):
    return Failure(
        request_id=f"r-{number}",
        model="digits",
        version=0,
        principal=principal,
        peer=peer,
        code=code,
        message=f"message {number}",
    )


def answer():
    digest = "0" * 64
    return Inference(
        request_id="r",
        model="digits",
        version=1,
        bundle_sha256=digest,
        engine_sha256=digest,
        recipe_sha256=digest,
        route="active",
        principal="",
        peer="",
        rows=1,
        input_sha256=digest,
        output_sha256=digest,
        outputs=(),
        vector=b"",
        queue_ns=0,
        compute_ns=0,
        total_ns=0,
    )


def test_the_first_ones_of_a_minute_are_kept_and_the_others_counted():
    clock = HandClock()
    floods = Floods(clock, singly=2)
    assert [floods.keep(failure(number)) for number in range(5)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert floods.due() == []
    clock.seconds += MINUTE
    (summary,) = floods.due()
    assert summary == Refusals(
        principal="token:a",
        peer="ipv4:10.0.0.1:4000",
        code="request.invalid",
        count=3,
        message="message 2",
        first_wall_ns=1000 * 10**9,
        last_wall_ns=1000 * 10**9,
    )
    assert floods.due(all_of_them=True) == []
    assert floods.keep(failure(6))


def test_principals_and_codes_do_not_share_a_count():
    floods = Floods(HandClock(), singly=1)
    assert floods.keep(failure(1))
    assert floods.keep(failure(2, principal="token:b"))
    assert floods.keep(failure(3, code="request.limit"))
    assert not floods.keep(failure(4))


def test_nobody_known_is_told_apart_by_address_without_its_port():
    floods = Floods(HandClock(), singly=1)
    assert floods.keep(failure(1, principal="", peer="ipv4:10.0.0.1:1"))
    assert not floods.keep(failure(2, principal="", peer="ipv4:10.0.0.1:2"))
    assert floods.keep(failure(3, principal="", peer="ipv4:10.0.0.2:1"))


def test_what_waits_on_a_log_that_fails_is_bounded_and_counted_in_the_end():
    clock = HandClock()
    omissions = Omissions(clock, singly=1, gaps=True)
    for _ in range(100):
        assert omissions.missed(failure(0), "the disk refuses")
        clock.seconds += 2
        assert len(omissions.due()) == 1
    omissions.written()
    clock.seconds += 2
    (rest,) = omissions.due()
    assert rest.count == 99


def test_what_is_remembered_is_bounded_and_nothing_is_forgotten():
    floods = Floods(HandClock(), singly=1)
    kept = sum(floods.keep(failure(number, principal=f"token:{number}")) for number in range(2000))
    summaries = floods.due(all_of_them=True)
    assert kept == KEYS_MAX + 1
    assert kept + sum(summary.count for summary in summaries) == 2000
    assert {summary.principal for summary in summaries} == {""}


async def test_a_flood_leaves_a_few_records_and_a_summary_before_the_stop():
    log = FakeLog()
    omissions = Omissions(HandClock(), singly=3, gaps=False)
    recorder = Recorder(log, queue_records_max=100, omissions=omissions)
    numbers = [await recorder.appended(lambda n=n: failure(n)) for n in range(6)]
    assert numbers == [0, 1, 2, NO_RECORD, NO_RECORD, NO_RECORD]
    assert await recorder.appended(lambda: Stop(reason="test")) == 4
    assert [type(record) for record in log.records[3:]] == [Refusals, Stop]
    await asyncio.to_thread(recorder.close)


async def test_without_leave_an_answer_that_cannot_be_recorded_is_not_given():
    log = FakeLog()
    recorder = Recorder(
        log, queue_records_max=9, omissions=Omissions(HandClock(), singly=3, gaps=False)
    )
    log.fails = True
    with pytest.raises(AuditUnwritable):
        await recorder.appended(answer)
    await asyncio.to_thread(recorder.close)


def test_what_is_durable_is_told_so_although_no_checkpoint_can_be_signed():
    log, told = FakeLog(), []

    def refuse():
        raise AuditUnwritable("the disk is full", remedy="free space")

    log.checkpoint_due, log.checkpoint = True, refuse
    recorder = Recorder(log, queue_records_max=10)
    recorder.append(answer, told.append)
    recorder.close()
    assert (told, recorder.failure) == ([0], "the disk is full")


async def test_with_leave_answers_go_on_and_the_gap_is_recorded():
    log = FakeLog()
    recorder = Recorder(
        log, queue_records_max=9, omissions=Omissions(HandClock(), singly=3, gaps=True)
    )
    log.fails = True
    assert [await recorder.appended(answer) for _ in range(3)] == [NO_RECORD] * 3
    with pytest.raises(AuditUnwritable):
        await recorder.appended(lambda: Stop(reason="what the box does itself is never left out"))
    log.fails = False
    await recorder.appended(lambda: Stop(reason="test"))
    assert Gap(count=3, reason="the disk is full") in log.records
    await asyncio.to_thread(recorder.close)


async def test_a_full_disk_costs_the_records_of_requests_alone():
    log, clock = FakeLog(), HandClock()
    omissions = Omissions(clock, singly=3, gaps=True)
    recorder = Recorder(log, queue_records_max=9, omissions=omissions)
    omissions.gap = "9 bytes are free"
    assert await recorder.appended(answer) == NO_RECORD
    omissions.gap = ""
    clock.seconds += 2
    await recorder.appended(answer)
    assert [type(record) for record in log.records] == [Gap, Inference]
    await asyncio.to_thread(recorder.close)
