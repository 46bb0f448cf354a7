"""One request when a step of ours fails: it is told, recorded where that can be, and nothing stays held."""

from types import SimpleNamespace

import msgspec
import pytest

from appliance.access import Role
from appliance.audit.kinds import Failure, Inference
from appliance.clock import SystemClock
from appliance.errors import AuditUnwritable, EngineError, Overloaded
from runtime import answering, evidence, swap
from runtime import loaded as loaded_version
from runtime.access import Principal
from runtime.answering import Reply
from runtime.codec import Sequence
from runtime.dataplane import DataPlane
from tests.runtime.answering.conftest import CALL, Asked, Caller, broken, check_nothing_held, loaded

STEPS = {
    "route": (swap, "choose"),
    "check": (loaded_version, "check_request"),
    "read": (Asked, "arrays"),
    "key": ("servable", "batch_key"),
    "queue": ("batcher", "submit"),
    "encode": (answering, "raw_tensors"),
    "place": (answering, "place"),
    "count": (answering.Answering, "_count"),
}


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_crashes_is_told_and_recorded(served, caller, records, monkeypatch, step):
    where, name = STEPS[step]
    at = getattr(loaded(served), where) if isinstance(where, str) else where
    monkeypatch.setattr(at, name, broken)
    assert isinstance(await caller.ask(), ZeroDivisionError)
    check_nothing_held(served)
    monkeypatch.undo()
    failures = [failure for failure in await records(Failure) if failure.request_id == "r"]
    assert [failure.code for failure in failures] == ["internal"]
    assert failures[0].version == (0 if step == "route" else 1)
    assert isinstance(await caller.ask(), Reply)
    assert len(caller.told) == 2
    check_nothing_held(served)


async def test_an_engine_that_crashes_is_told_and_recorded(served, caller, records, monkeypatch):
    monkeypatch.setattr(loaded(served).servable, "run", broken)
    assert isinstance(await caller.ask(), EngineError)
    check_nothing_held(served)
    assert (await records(Failure))[0].code == "engine.failed"


async def test_a_record_that_cannot_be_made_is_no_answer(served, caller, records, monkeypatch):
    monkeypatch.setattr(evidence, "inputs_digest", broken)
    assert isinstance(await caller.ask(), AuditUnwritable)
    check_nothing_held(served)
    assert (await records(Failure))[0].code == "audit.unwritable"
    assert not await records(Inference)
    assert served.metrics.model("digits").version(1).fail.count == 1


async def test_a_log_that_takes_nothing_lets_nothing_be_answered(served, caller, monkeypatch):
    def full(records):
        raise AuditUnwritable("the disk is full", remedy="free space")

    monkeypatch.setattr(served.recorder._log, "append", full)
    assert isinstance(await caller.ask(), AuditUnwritable)
    check_nothing_held(served)
    monkeypatch.undo()
    assert isinstance(await caller.ask(), Reply)


@pytest.mark.parametrize("step", ["record", "place", "encode"])
async def test_a_computed_answer_that_is_withdrawn_ends_its_sequence(
    served, caller, monkeypatch, step
):
    ended = []

    def submit(*args, sequence, name, version, route, **given):
        return loaded(served).batcher.submit(*args, **given)

    sequences = SimpleNamespace(submit=submit, end=ended.append, route=lambda name: None)
    monkeypatch.setattr(loaded(served), "sequences", sequences)
    where, name = (evidence, "inputs_digest") if step == "record" else STEPS[step]
    monkeypatch.setattr(where, name, broken)
    call = msgspec.structs.replace(CALL, sequence=Sequence(5, start=True, end=False))
    assert isinstance(await caller.ask(Asked(call)), Exception)
    assert ended == [("", 5)]
    check_nothing_held(served)
    monkeypatch.undo()


@pytest.mark.parametrize("crashes", [False, True])
async def test_a_recorder_that_is_full_refuses(served, caller, monkeypatch, crashes):
    monkeypatch.setattr(served.recorder, "_queue_max", 0)
    if crashes:
        monkeypatch.setattr(Asked, "arrays", broken)
    # A fault of our own is told as one, so that the journal hears of it.
    assert isinstance(await caller.ask(), ZeroDivisionError if crashes else Overloaded)
    check_nothing_held(served)


@pytest.mark.parametrize("awaited", [True, False])
@pytest.mark.parametrize("refused", [True, False])
async def test_a_caller_that_fails_to_listen_holds_nothing(served, monkeypatch, awaited, refused):
    plane = served.dataplane
    plane._rooms = plane._rooms._replace(awaited=awaited)
    if refused:
        monkeypatch.setattr(Asked, "arrays", broken)
    deaf = Caller(plane, fault=RuntimeError("deaf"))
    await deaf.ask()
    assert len(deaf.told) == 1
    check_nothing_held(served)
    monkeypatch.undo()
    assert isinstance(await Caller(plane).ask(), Reply)


async def test_a_caller_that_fails_to_listen_at_once_is_told_so(served, monkeypatch):
    monkeypatch.setattr(served.recorder, "_queue_max", 0)
    monkeypatch.setattr(Asked, "arrays", broken)
    with pytest.raises(RuntimeError, match="deaf"):
        await Caller(served.dataplane, fault=RuntimeError("deaf")).ask()
    check_nothing_held(served)


async def test_what_cannot_be_read_is_recorded_too(served, caller, records):
    served.dataplane.refuse(CALL, ValueError("no request"), caller.then)
    await caller._heard.wait()
    assert [type(told) for told in caller.told] == [ValueError]
    assert (await records(Failure))[0].code == "internal"
    check_nothing_held(served)


async def test_who_asks_is_recorded(served, caller, records, monkeypatch):
    for refused in (False, True):
        if refused:
            monkeypatch.setattr(Asked, "arrays", broken)
        await caller.ask(principal=Principal("surgery-2", Role.CLIENT))
    assert [record.principal for record in await records(Inference)] == ["surgery-2"]
    assert (await records(Failure))[0].principal == "surgery-2"


async def test_a_trace_that_crashes_costs_nobody_the_answer(served, caller, monkeypatch):
    served.dataplane._rooms.traces.on = True
    monkeypatch.setattr(served.dataplane._rooms.traces, "sample", broken)
    assert isinstance(await caller.ask(), Reply)
    assert isinstance(await caller.ask(), Reply)
    check_nothing_held(served)


async def test_without_waiting_for_the_record_there_is_one_all_the_same(world, records):
    rooms = world.dataplane._rooms
    plane = DataPlane(
        table=rooms.table,
        recorder=rooms.recorder,
        metrics=rooms.metrics,
        clock=SystemClock(),
        bytes_max=1000,
        awaited=False,
    )
    assert isinstance(await Caller(plane).ask(), Reply)
    assert len(await records(Inference)) == 1
