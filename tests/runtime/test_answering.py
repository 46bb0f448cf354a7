"""One request when a step of ours fails: it is told, recorded where that can be, and nothing stays held."""

import asyncio
import gc
import weakref

import msgspec
import numpy as np
import pytest

from appliance.audit.reader import AuditReader
from appliance.audit.record import Failure, Inference
from appliance.clock import SystemClock
from appliance.deployment import Activate, RollBack, StartCanary, StartShadow
from appliance.errors import AuditUnwritable, EngineError, Overloaded
from appliance.tensors import DataType
from runtime import answering, evidence, shadowing, swap
from runtime.answering import Reply
from runtime.batching import Ticket
from runtime.codec import Call, Head
from runtime.dataplane import DataPlane
from runtime.router import in_canary

CALL = Call(
    model="digits",
    version="",
    request_id="r",
    sent_id="r",
    peer="ipv4:127.0.0.1:1",
    outputs=(),
    timeout_us=0,
    bytes=100,
)


class Asked:
    """A request of two rows."""

    header = b"asked"
    places = ()

    def __init__(self, call=CALL, data=None):
        self.call = call
        self.data = np.ones((2, 1), np.float32) if data is None else data

    def heads(self):
        return {"x": Head(DataType.FP32, (2, 1))}

    def arrays(self, heads):
        return {"x": self.data}


class Caller:
    """Asks a data plane; `told` has all that came, `fault` is what hearing it raises."""

    def __init__(self, dataplane, fault=None):
        self.dataplane, self.fault = dataplane, fault
        self.told = []
        self._loop = asyncio.get_running_loop()
        self._heard = asyncio.Event()

    def then(self, result):
        self.told.append(result)
        self._loop.call_soon_threadsafe(self._heard.set)
        if self.fault:
            raise self.fault

    async def ask(self, request=None):
        """What one request got."""
        self._heard.clear()
        self.dataplane.infer(request or Asked(), self.then)
        await self._heard.wait()
        return self.told[-1]


@pytest.fixture
async def served(world):
    """A World with version 1 active, each request of which is prepared by the test's own hands."""
    await world.decide(Activate(version=1))
    return world


@pytest.fixture
async def caller(served):
    return Caller(served.dataplane)


@pytest.fixture
def records(tmp_path, served):
    """All records of a kind, once those that were appended are durable."""

    async def read(kind):
        await served.recorder.appended(lambda: NOTE)
        with AuditReader(tmp_path / "log.db") as reader:
            return [entry.record for entry in reader.records() if isinstance(entry.record, kind)]

    return read


NOTE = Failure(
    request_id="note", model="", version=0, principal="", peer="", code="note", message=""
)


def loaded(world, version=1):
    return world.table._serving["digits"].loaded[version]


def check_nothing_held(world):
    """That no request counts any more."""
    plane = world.dataplane
    assert (plane._calls, plane._bytes) == (0, 0)
    assert all(one._users == 0 for one in world.table._serving["digits"].loaded.values())


def broken(*_, **__):
    raise ZeroDivisionError("ours")


STEPS = {
    "route": (swap, "choose"),
    "check": (answering, "check_request"),
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
        served.dataplane.infer(Asked(), caller.then, principal="surgery-2")
    await records(Failure)
    assert [record.principal for record in await records(Inference)] == ["surgery-2"]
    assert (await records(Failure))[0].principal == "surgery-2"


async def test_tensors_are_let_go_without_the_garbage_collector(served, caller):
    """Engine and recorder keep what they did last, so one further request comes after it."""
    loaded(served).batcher._learned._inline_ns = 0
    gc.collect()
    gc.disable()
    try:
        kept = []
        for _ in range(4):
            data = np.ones((2, 1), np.float32)
            kept.append(weakref.ref(data))
            assert isinstance(await caller.ask(Asked(data=data)), Reply)
            del data
            caller.told.clear()
        served.dataplane._bytes_max = 0
        refused = np.ones((2, 1), np.float32)
        kept.append(weakref.ref(refused))
        assert isinstance(await caller.ask(Asked(data=refused)), Overloaded)
        del refused
        assert [one() is None for one in kept[:3]] == [True] * 3
        assert kept[-1]() is None
    finally:
        gc.enable()


class Queue:
    """A batcher in which every request waits for the test."""

    queued, trouble = 0, ""

    def __init__(self):
        self.tickets = []

    def submit(self, inputs, rows, then, **given):
        self.given = given
        ticket = Ticket(inputs, rows, then, None, "", 0, 0, self.leave, line=0)
        self.tickets.append(ticket)
        return ticket

    def leave(self, ticket):
        waited, ticket.line = ticket.line >= 0, -1
        return waited

    def check(self):
        pass

    def close(self):
        pass


@pytest.fixture
async def queue(served):
    """The queue of version 1, in the test's hands."""
    one = loaded(served)
    await asyncio.to_thread(one.batcher.close)
    one.batcher = Queue()
    return one.batcher


async def test_a_caller_that_leaves_is_told_nothing_and_holds_nothing(served, queue, caller):
    asked = served.dataplane.infer(Asked(), caller.then)
    assert asked.waiting
    asked.cancel()
    asked.cancel()
    assert not asked.waiting
    check_nothing_held(served)
    assert caller.told == []


async def test_a_caller_that_leaves_too_late_gets_its_answer(served, queue, caller):
    asked = served.dataplane.infer(Asked(), caller.then)
    (ticket,) = queue.tickets
    ticket.line = -1  # a lane took it
    asked.cancel()
    ticket.then(EngineError("late", remedy="none"))
    await caller._heard.wait()
    assert len(caller.told) == 1
    check_nothing_held(served)


async def test_what_is_told_twice_ends_once(served, queue, caller):
    served.dataplane.infer(Asked(), caller.then)
    (ticket,) = queue.tickets
    for _ in range(2):
        ticket.then(EngineError("twice", remedy="none"))
    await served.recorder.appended(lambda: NOTE)
    assert len(caller.told) == 1
    check_nothing_held(served)


async def test_a_client_is_its_name_or_its_host(served, queue, caller):
    for principal, told in (("", "ipv4:127.0.0.1"), ("surgery-2", "surgery-2")):
        served.dataplane.infer(Asked(), caller.then, principal=principal).cancel()
        assert queue.given["client"] == told


async def test_a_request_that_chose_what_is_being_drained_chooses_again(
    served, caller, monkeypatch
):
    await served.decide(Activate(version=2))
    await served.decide(RollBack())
    choose, chosen = swap.choose, []

    def choose_late(*given, **more):
        chosen.append(choose(*given, **more).version)
        if len(chosen) == 1:  # a swap comes between the choice and its use
            before = served.table.deployment("digits")
            after = msgspec.structs.replace(before, active=2, previous=None)
            served.table.switch(after, {})
            monkeypatch.setattr(swap.Loaded, "hold", lambda one: one.stored.number == 2)
        return choose(*given, **more)

    monkeypatch.setattr(swap, "choose", choose_late)
    route, held = served.table.hold("digits", "", "r")
    assert (route.version, held.stored.number, chosen) == (2, 2, [1, 2])


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


async def test_a_shadow_that_is_busy_is_left_alone(served, caller, records):
    await served.decide(StartShadow(version=2))
    one = loaded(served, 2)
    await asyncio.to_thread(one.batcher.close)
    one.batcher = Queue()
    one.batcher.queued = 1
    assert (await caller.ask()).version == 1
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


async def test_a_trace_that_crashes_costs_nobody_the_answer(served, caller, monkeypatch):
    served.dataplane._rooms.traces.on = True
    monkeypatch.setattr(served.dataplane._rooms.traces, "sample", broken)
    assert isinstance(await caller.ask(), Reply)
    assert isinstance(await caller.ask(), Reply)
    check_nothing_held(served)


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


async def test_without_waiting_for_the_record_there_is_one_all_the_same(world, caller, records):
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


async def test_refusals_without_end_do_not_hold_up_a_drain(served, queue, caller):
    served.dataplane.infer(Asked(), caller.then)
    hurry = asyncio.Event()
    draining = asyncio.create_task(served.dataplane.drain(30, hurry))
    await asyncio.sleep(0)
    served.recorder.append = lambda entry, then: None  # refusals that are for ever on their way
    served.dataplane.infer(Asked(), caller.then)
    del served.recorder.append
    assert not draining.done()
    (ticket,) = queue.tickets
    ticket.then(EngineError("over", remedy="none"))
    await draining
    check_nothing_held(served)
