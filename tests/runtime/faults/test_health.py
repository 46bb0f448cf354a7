"""A box asks itself whether it still answers, and says why it is not ready."""

import asyncio
import gc

import grpc
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc

from appliance.deployment import Activate, Withdraw
from runtime.health import SelfCheck
from runtime.services.presence import Presence

SECOND = 1_000_000_000


@pytest.fixture
def check(box):
    """The box's self-check, which has looked once; time passes only as a test says."""
    box.clock.stop()
    made = SelfCheck(table=box.table, metrics=box.metrics, clock=box.clock, seconds=30.0)
    made.look()
    return made


async def looked(box, check, seconds=31):
    """Look again after so many seconds, and wait for what was asked."""
    box.clock.ahead_ns += seconds * SECOND
    check.look()
    await asyncio.gather(*(w.asking for w in check._watched.values() if w.asking))


async def test_a_silent_version_answers_its_own_row_and_nobody_hears_of_it(box, check):
    records = box.recorder.records
    await looked(box, check, seconds=29)
    assert box.engine.batches == []
    await looked(box, check, seconds=2)
    await looked(box, check, seconds=2)
    assert len(box.engine.batches) == 1
    await looked(box, check)
    assert len(box.engine.batches) == 2
    assert box.table.ready
    assert box.recorder.records == records
    assert not box.metrics.models


async def test_a_version_that_answers_others_is_not_asked(box, check):
    for _ in range(3):
        await box.ask(1)
        await looked(box, check)
    assert box.engine.batches == [[1]] * 3
    box.clock.ahead_ns += 31 * SECOND
    await looked(box, check)
    assert len(box.engine.batches) == 4


async def test_a_version_that_fails_makes_the_box_unready_until_it_answers(box, check):
    presence = Presence(table=box.table, dataplane=box.dataplane)
    wanted = type("Wanted", (), {"name": "digits", "version": ""})
    box.engine.fault = RuntimeError("out of registers")
    await looked(box, check)
    assert not box.table.ready
    assert box.table.trouble == (
        "version 1 of 'digits' does not answer its own row: the engine failed: out of registers"
    )
    assert not (await presence.ServerReady(None, None)).ready
    assert not (await presence.ModelReady(wanted, None)).ready
    box.engine.fault = None
    await looked(box, check)
    assert box.table.ready
    assert (await presence.ModelReady(wanted, None)).ready


async def test_a_request_that_is_answered_ends_the_trouble_too(box, check):
    box.engine.fault = RuntimeError("a moment")
    await looked(box, check)
    box.engine.fault = None
    await box.ask(1)
    await looked(box, check, seconds=1)
    assert box.table.ready


async def test_a_busy_version_is_not_ill(start):
    box = await start(batching={"queue_requests_max": 1})
    check = SelfCheck(table=box.table, metrics=box.metrics, clock=box.clock, seconds=30.0)
    check.look()
    box.engine.hold()
    asked = [box.ask(1)]
    await box.inside()
    asked.append(box.ask(2))
    await box.until(lambda: box.active.batcher.queued == 1)
    await looked(box, check)
    assert box.table.ready
    box.engine.let_go()
    await asyncio.gather(*asked)


async def test_one_that_hangs_is_asked_once(box, check):
    box.engine.hold()
    box.clock.ahead_ns += 31 * SECOND
    check.look()
    await box.inside()
    box.clock.ahead_ns += 61 * SECOND
    check.look()
    assert len(box.engine.batches) == 1
    box.table.check()
    assert "engine calls that have not ended within 60 s: 1" in box.table.trouble
    await box.until(lambda: box.active.failing)
    box.engine.let_go()
    await looked(box, check)
    await box.until(lambda: box.table.ready)


async def test_a_row_that_cannot_be_read_is_told(box, check, monkeypatch):
    monkeypatch.setattr("runtime.health.golden_of", lambda directory: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await looked(box, check)


async def test_a_version_that_leaves_is_forgotten(box, check):
    old = box.active
    await box.decide(Activate(version=2))
    await looked(box, check)
    assert check._watched["digits"].loaded is box.active is not old
    await box.decide(Withdraw())
    await looked(box, check)
    assert not check._watched
    gc.collect()


def test_health_says_that_a_model_cannot_answer(state, start_runtime):

    def status():
        with grpc.insecure_channel(runtime.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            return stub.Check(health_pb2.HealthCheckRequest()).status

    runtime = start_runtime(state)
    runtime.decide("activate", 1)
    assert status() == health_pb2.HealthCheckResponse.SERVING
    runtime.stop()
    (state / "store" / "digits" / "1" / "golden.npz").unlink()
    runtime = start_runtime(state)
    assert status() == health_pb2.HealthCheckResponse.NOT_SERVING
    with triton.InferenceServerClient(runtime.address) as client:
        assert not client.is_model_ready("digits")
    runtime.decide("activate", 2)
    with grpc.insecure_channel(runtime.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        while next(watch).status != health_pb2.HealthCheckResponse.SERVING:
            pass
