"""Canary and shadow of one request: who answers, who computes along, and what is recorded."""

import asyncio

import msgspec
import pytest

from appliance.audit.kinds import Failure, Inference
from appliance.deployment import StartCanary, StartShadow
from appliance.errors import Overloaded
from runtime import shadowing
from runtime.router import in_canary
from tests.runtime.answering.conftest import (
    CALL,
    NOTE,
    Asked,
    Queue,
    broken,
    check_nothing_held,
    loaded,
)


def follow(world, monkeypatch):
    """Let every request be followed by the shadow, with an event when that has its record."""
    loop, recorded = asyncio.get_running_loop(), asyncio.Event()
    record = shadowing.Shadowing._record

    def recording(*given):
        record(*given)
        loop.call_soon_threadsafe(recorded.set)

    monkeypatch.setattr(shadowing.Shadowing, "_record", recording)
    return recorded


async def test_a_shadow_is_recorded_under_the_same_id(served, caller, records, monkeypatch):
    await served.decide(StartShadow(version=2))
    recorded = follow(served, monkeypatch)
    assert (await caller.ask()).version == 1
    await recorded.wait()
    found = await records(Inference)
    assert [(record.request_id, record.version, record.route) for record in found] == [
        ("r", 1, "active"),
        ("r", 2, "shadow"),
    ]
    check_nothing_held(served)


SHADOW_STEPS = {
    "check": (shadowing, "check_request"),
    "key": ("servable", "batch_key"),
    "queue": ("batcher", "submit"),
    "engine": ("servable", "run"),
    "encode": (shadowing, "raw_tensors"),
}


@pytest.mark.parametrize("step", SHADOW_STEPS)
async def test_a_shadow_that_crashes_reaches_nobody(served, caller, records, monkeypatch, step):
    await served.decide(StartShadow(version=2))
    where, name = SHADOW_STEPS[step]
    at = getattr(loaded(served, 2), where) if isinstance(where, str) else where
    monkeypatch.setattr(at, name, broken)
    recorded = follow(served, monkeypatch)
    assert (await caller.ask()).version == 1
    await recorded.wait()
    (failure,) = [failure for failure in await records(Failure) if failure.request_id == "r"]
    assert failure.version == 2
    assert failure.message.startswith("as the shadow: ")
    check_nothing_held(served)
    counts = served.metrics.model("digits").versions
    assert (counts[1].success.count, 2 in counts) == (1, False)


async def test_a_shadow_that_is_busy_is_left_alone(served, caller):
    await served.decide(StartShadow(version=2))
    one = loaded(served, 2)
    await asyncio.to_thread(one.batcher.close)
    one.batcher = Queue()
    one.batcher.queued = 1
    assert (await caller.ask()).version == 1
    await served.recorder.appended(lambda: NOTE)  # a shadow follows before the next commit
    check_nothing_held(served)
    assert one.batcher.tickets == []


async def test_a_log_without_room_keeps_no_shadow(served, caller, monkeypatch):
    await served.decide(StartShadow(version=2))
    recorded = follow(served, monkeypatch)
    append, held = served.recorder.append, loaded(served, 2)

    def full(entry, then, **about):
        if then is shadowing.unheard:
            raise Overloaded("full", remedy="none")
        append(entry, then, **about)

    monkeypatch.setattr(served.recorder, "append", full)
    assert (await caller.ask()).version == 1
    await recorded.wait()
    assert held._users == 0


async def test_a_canary_answers_the_same_share_each_time(served, caller, records):
    await served.decide(StartCanary(version=2, per_mille=500))
    deployment = served.table.deployment("digits")
    names = [f"patient-{number}" for number in range(20)]
    wanted = {name: 2 if in_canary(deployment, name) else 1 for name in names}
    assert set(wanted.values()) == {1, 2}
    for _ in range(2):
        for name in names:
            call = msgspec.structs.replace(CALL, request_id=name)
            assert (await caller.ask(Asked(call))).version == wanted[name]
    for record in await records(Inference):
        assert record.route == {1: "active", 2: "canary"}[record.version]
    check_nothing_held(served)
