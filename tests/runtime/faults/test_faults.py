"""What may go wrong, from the port to the log: the promised outcomes of docs/operations.md.

Those of the wire alone (garbage, idle and half-open connections, oversize metadata, slow readers) are held by
tests/runtime/transport, for both lanes.
"""

import asyncio

import grpc
import pytest
from tritonclient.grpc import service_pb2 as oip

from appliance.audit.kinds import Failure, Inference
from appliance.audit.reader import AuditReader
from appliance.deployment import Activate, Retire
from appliance.errors import AuditUnwritable
from runtime.services.infer import STREAM_REQUESTS_MAX

SECOND = 1_000_000_000
DAY_NS = 86_400 * SECOND
HOUR = 3600  # in seconds: less than the steps, more than a test takes


def records(tmp_path, kind):
    with AuditReader(tmp_path / "log.db") as reader:
        return [entry.record for entry in reader.records() if isinstance(entry.record, kind)]


async def test_an_engine_that_fails_costs_its_own_requests_only(box, tmp_path):
    box.engine.fault = RuntimeError("out of registers")
    failed = await box.ask(1, id="ill")
    assert failed.code is grpc.StatusCode.INTERNAL
    assert failed.trailing["holdfast-code"] == "engine.failed"
    assert "out of registers" in failed.text
    box.engine.fault = None
    assert (await box.ask(2, id="well")).value == 4.0
    assert [(r.request_id, r.code) for r in records(tmp_path, Failure)] == [
        ("ill", "engine.failed")
    ]
    assert [r.request_id for r in records(tmp_path, Inference)] == ["well"]


async def test_an_engine_that_hangs_is_told_once_and_another_lane_answers(box, tmp_path):
    box.engine.hold()
    hanging = box.ask(1, id="hanging")
    await box.inside()
    box.clock.ahead_ns = 61 * SECOND
    box.table.check()
    told = await hanging
    assert told.code is grpc.StatusCode.INTERNAL
    assert "has not answered within 60 s" in told.text
    assert not box.table.ready
    assert "lanes at work: 1 of 1" in box.table.trouble
    answered = box.ask(2, id="answered")
    await box.inside(2)
    box.engine.let_go()
    assert (await answered).value == 4.0
    await box.until(lambda: box.table.ready)
    assert [r.request_id for r in records(tmp_path, Failure)] == ["hanging"]
    assert [r.request_id for r in records(tmp_path, Inference)] == ["answered"]


async def test_a_client_that_cancels_everything_costs_nothing(box):
    box.engine.hold()
    first = box.ask(0)
    await box.inside()
    asked = [box.ask(value) for value in range(1, 101)]
    await box.until(lambda: box.active.batcher.queued == 100)
    for one in asked:
        one.cancel()
    await box.until(lambda: not box.active.batcher.queued)
    box.engine.let_go()
    assert (await first).value == 0.0
    await box.until(box.at_rest)
    assert box.engine.batches == [[0]]


async def test_a_stream_that_never_ends_holds_no_version(box):
    stream = box.channel.stream_stream(box.STREAM)()
    await stream.write(box.message(1))
    reply = oip.ModelStreamInferResponse.FromString(await stream.read())
    assert reply.infer_response.model_version == "1"
    await box.decide(Activate(version=2))
    await box.decide(Retire(version=1))
    await box.until(lambda: box.loaded[0].closed)
    await stream.write(box.message(1))
    reply = oip.ModelStreamInferResponse.FromString(await stream.read())
    assert reply.infer_response.model_version == "2"
    stream.cancel()
    await box.until(box.at_rest)


async def test_a_stream_is_read_from_only_as_fast_as_it_is_answered(box):
    box.engine.hold()
    stream = box.channel.stream_stream(box.STREAM)()
    for value in range(2 * STREAM_REQUESTS_MAX):
        await stream.write(box.message(value))
    await box.until(lambda: box.dataplane._calls == STREAM_REQUESTS_MAX)
    assert (await box.garbage()).code is grpc.StatusCode.INVALID_ARGUMENT  # the wire is not held up
    assert box.dataplane._calls == STREAM_REQUESTS_MAX
    box.engine.let_go()
    for value in range(2 * STREAM_REQUESTS_MAX):
        reply = oip.ModelStreamInferResponse.FromString(await stream.read())
        assert not reply.error_message, value
    await stream.done_writing()
    assert await stream.code() is grpc.StatusCode.OK


async def test_a_full_disk_answers_nobody_and_is_over_when_there_is_space(
    box, tmp_path, monkeypatch
):
    monkeypatch.setattr("runtime.recorder.IDLE_SECONDS", 0.01)
    box.log.fault = AuditUnwritable("the disk is full", remedy="free space")
    refused = await asyncio.gather(*(box.ask(n, id=f"lost {n}") for n in range(40)))
    assert {told.code for told in refused} == {grpc.StatusCode.UNAVAILABLE}
    assert {told.trailing["holdfast-code"] for told in refused} == {"audit.unwritable"}
    idle = box.log.idle
    await box.until(lambda: box.log.idle >= idle + 2)  # the first one is over
    assert box.recorder.failure == "the disk is full"
    box.log.fault = None
    answered = await asyncio.gather(*(box.ask(n, id=f"kept {n}") for n in range(40)))
    assert [told.value for told in answered] == [2.0 * n for n in range(40)]
    assert box.recorder.failure == ""
    assert {r.request_id for r in records(tmp_path, Inference)} == {f"kept {n}" for n in range(40)}


async def test_a_slow_log_holds_replies_back_and_refuses_what_it_cannot_hold(start, tmp_path):
    box = await start(records_max=4)
    box.log.gate.clear()
    asked = [box.ask(0)]
    # One by one, so that it is known which ones have a place: one is being written, four wait.
    await box.until(lambda: box.log.writing)
    for value in range(1, 5):
        asked.append(box.ask(value))
        await box.until(lambda value=value: box.recorder.queued == value)
    refused = await asyncio.gather(*(box.ask(9) for _ in range(10)))
    assert {told.code for told in refused} == {grpc.StatusCode.UNAVAILABLE}
    assert all("audit log is behind" in told.text for told in refused)
    assert all(told.trailing["grpc-retry-pushback-ms"] for told in refused)
    assert not any(one.done() for one in asked)
    box.log.gate.set()
    assert [(await one).value for one in asked] == [2.0 * value for value in range(5)]
    await box.until(box.at_rest)
    assert len(records(tmp_path, Inference)) == 5


@pytest.mark.parametrize("step_ns", [DAY_NS, -DAY_NS], ids=["forward", "back"])
async def test_a_step_of_the_wall_clock_changes_no_answer(box, tmp_path, step_ns):
    box.engine.hold()
    before = [box.ask(0, timeout=HOUR)]
    await box.inside()
    before += [box.ask(n, timeout=HOUR) for n in range(1, 8)]
    await box.until(lambda: box.active.batcher.queued == 7)
    box.clock.wall_ahead_ns = step_ns
    box.active.batcher.check()
    after = [box.ask(n, timeout=HOUR) for n in range(8, 12)]
    box.engine.let_go()
    told = await asyncio.gather(*before, *after)
    assert [one.value for one in told] == [2.0 * n for n in range(12)]
    counts = box.metrics.model("digits").version(1)
    assert counts.fail.count == 0
    assert counts.queue.ns < HOUR * SECOND
    assert len(records(tmp_path, Inference)) == 12


async def test_what_is_no_request_at_all_is_refused_and_the_next_one_answered(box):
    assert (await box.garbage()).code is grpc.StatusCode.INVALID_ARGUMENT
    assert (await box.ask(3)).value == 6.0
