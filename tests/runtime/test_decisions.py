"""Decisions: allowed, recorded, carried out, outcome recorded; and what boot makes of the log."""

import asyncio
import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest

from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.record import Decision, Failure, Outcome
from appliance.clock import SystemClock
from appliance.config import BatchingConfig
from appliance.deployment import Activate, Deployment, Retire, RollBack
from appliance.errors import (
    AuditUnwritable,
    DecisionError,
    Draining,
    EngineLoad,
    Overloaded,
    RequestError,
    UnknownVersion,
    VersionNotServed,
)
from appliance.signing import SigningKey
from appliance.store import Store
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.codec import Call, Head
from runtime.controlplane import ControlPlane
from runtime.dataplane import DataPlane, check_inputs
from runtime.metrics import Metrics
from runtime.recorder import Recorder
from runtime.servable import Answer
from runtime.swap import ServedTable

X = TensorSpec(name="x", datatype=DataType.FP32, shape=(1,))
INTERFACE = Interface(inputs=(X,), outputs=(X,), batch_max=4)
CALL = Call(
    model="digits",
    version="",
    request_id="r",
    sent_id="r",
    peer="p",
    outputs=(),
    timeout_us=0,
    bytes=100,
)


class Sent:
    """The tensors of a request; `arrays` may fail."""

    def __init__(self, arrays=None):
        self._arrays = arrays or (lambda: {"x": np.ones((2, 1), np.float32)})

    def heads(self):
        return {"x": Head(DataType.FP32, (2, 1))}

    def arrays(self):
        return self._arrays()


class Echo:
    """A servable that answers its input; `closed` tells when it was freed."""

    interface = INTERFACE

    def __init__(self):
        self.closed = False

    def run(self, requests):
        return [
            Answer(outputs=dict(request), vectors=np.zeros((len(request["x"]), 1), np.float32))
            for request in requests
        ]

    def batch_key(self, inputs):
        return 1

    def close(self):
        self.closed = True


class World:
    """The runtime's rooms over a real store and log, with engines that are made here."""

    def __init__(self, state, log):
        self.broken = set()
        self.loaded = {}
        self.store = Store(state / "store")
        self.recorder = Recorder(log, queue_records_max=100)
        self.table = ServedTable(self.store, self._load, BatchingConfig(), SystemClock())
        ids = map(str, itertools.count())
        self.control = ControlPlane(
            store=self.store, table=self.table, recorder=self.recorder, new_id=lambda: next(ids)
        )
        self.metrics = Metrics()
        self.dataplane = DataPlane(
            table=self.table,
            recorder=self.recorder,
            metrics=self.metrics,
            clock=SystemClock(),
            bytes_max=1000,
        )

    def _load(self, stored):
        if stored.number in self.broken:
            raise EngineLoad("it does not load", remedy="build it again")
        self.loaded[stored.number] = Echo()
        return self.loaded[stored.number]

    async def decide(self, act):
        return await self.control.decide("digits", act, actor="op", reason="test")

    async def ask(self, version=""):
        return await self.dataplane.infer(dataclasses.replace(CALL, version=version), Sent())

    async def close(self):
        await self.table.close()
        await asyncio.to_thread(self.recorder.close)


@pytest.fixture
def open_log(tmp_path):
    key = SigningKey.generate()
    return lambda: AuditLog.open(tmp_path / "log.db", key=key, clock=SystemClock())


@pytest.fixture
async def world(digits_state, open_log):
    with open_log() as log:
        world = World(digits_state, log)
        yield world
        await world.close()


def records(tmp_path, kind):
    with AuditReader(tmp_path / "log.db") as reader:
        return [entry.record for entry in reader.records() if isinstance(entry.record, kind)]


async def test_a_decision_is_recorded_before_and_after_it_is_carried_out(world, tmp_path):
    await world.decide(Activate(version=1))
    (decision,) = records(tmp_path, Decision)
    (outcome,) = records(tmp_path, Outcome)
    assert (decision.act, decision.version, decision.actor) == ("activate", 1, "op")
    assert (decision.before.active, decision.after.active) == (None, 1)
    assert (outcome.decision_id, outcome.result) == (decision.decision_id, "done")
    assert outcome.deployment == Deployment(model="digits", active=1)


async def test_loading_alone_serves_nothing(world):
    with pytest.raises(Exception, match="has no available versions"):
        await world.ask()
    await world.decide(Activate(version=1))
    assert (await world.ask()).version == 1


async def test_previous_stays_warm_and_the_one_before_is_freed(world):
    await world.decide(Activate(version=1))
    await world.decide(Activate(version=2))
    assert world.table.loaded("digits") == [1, 2]
    assert (await world.ask("1")).version == 1
    await world.decide(Retire(version=1))
    await asyncio.gather(*world.table._draining)
    assert world.loaded[1].closed
    with pytest.raises(VersionNotServed):
        await world.ask("1")
    with pytest.raises(DecisionError, match="no previous version"):
        await world.decide(RollBack())


async def test_a_lane_in_use_is_not_closed(world):
    await world.decide(Activate(version=1))
    await world.decide(Activate(version=2))
    with world.table.use("digits", "1"):
        await world.decide(Retire(version=1))
        await asyncio.sleep(0.05)
        assert not world.loaded[1].closed
    await asyncio.gather(*world.table._draining)
    assert world.loaded[1].closed


async def test_a_candidate_that_does_not_load_changes_nothing(world, tmp_path):
    await world.decide(Activate(version=1))
    world.broken = {2}
    with pytest.raises(EngineLoad):
        await world.decide(Activate(version=2))
    assert (await world.ask()).version == 1
    outcome = records(tmp_path, Outcome)[-1]
    assert (outcome.result, outcome.message) == ("failed", "it does not load")
    assert outcome.deployment == Deployment(model="digits", active=1)


async def test_refused_decisions_are_not_recorded(world, tmp_path):
    with pytest.raises(UnknownVersion):
        await world.decide(Activate(version=9))
    with pytest.raises(DecisionError):
        await world.decide(RollBack())
    assert records(tmp_path, Decision) == []


async def test_boot_returns_to_the_last_completed_decision(digits_state, open_log, tmp_path):
    with open_log() as log:
        world = World(digits_state, log)
        await world.decide(Activate(version=1))
        standing = Deployment(model="digits", active=1)
        begun = Decision(
            decision_id="begun",
            model="digits",
            act="activate",
            version=2,
            actor="op",
            reason="then the power went",
            before=standing,
            after=Deployment(model="digits", active=2, previous=1),
        )
        await world.recorder.append(lambda: begun)
        await world.close()
    with AuditReader(tmp_path / "log.db") as reader:
        completed, interrupted = reader.last_outcomes(), reader.open_decisions()
    assert interrupted == [begun]
    with open_log() as log:
        world = World(digits_state, log)
        await world.control.resume(completed, interrupted)
        assert (await world.ask()).version == 1
        await world.close()
    outcome = records(tmp_path, Outcome)[-1]
    assert (outcome.decision_id, outcome.result) == ("begun", "interrupted")
    assert outcome.deployment == standing


async def test_a_previous_version_that_does_not_load_at_boot_does_not_keep_the_active_from_serving(
    world,
):
    world.broken = {1}
    standing = Deployment(model="digits", active=2, previous=1)
    await world.control.resume({"digits": standing}, [])
    assert (await world.ask()).version == 2
    assert world.table.ready
    with pytest.raises(EngineLoad):
        await world.decide(RollBack())
    assert (await world.ask()).version == 2


async def test_no_answer_without_a_record(world):
    await world.decide(Activate(version=1))

    def full(records):
        raise AuditUnwritable("the disk is full", remedy="free space")

    healthy, world.recorder._log.append = world.recorder._log.append, full
    with pytest.raises(AuditUnwritable, match="disk is full"):
        await world.ask()
    with pytest.raises(AuditUnwritable):
        await world.decide(Activate(version=2))
    assert world.table.deployment("digits").active == 1
    world.recorder._log.append = healthy
    assert (await world.ask()).version == 1


async def test_a_draining_server_refuses(world):
    world.dataplane.draining = True
    with pytest.raises(Draining):
        await world.ask()


async def test_a_fault_of_our_own_is_recorded_too(world, tmp_path):
    await world.decide(Activate(version=1))
    with pytest.raises(ZeroDivisionError):
        await world.dataplane.infer(CALL, Sent(lambda: 1 / 0))
    assert records(tmp_path, Failure)[-1].code == "internal"


MISSED = {"threshold": {"metric": "accuracy", "output": "logits", "minimum": 0.98}, "value": 0.5}


@pytest.mark.parametrize("reached", [[MISSED], []], ids=["missed", "never measured"])
async def test_a_version_that_missed_its_threshold_cannot_become_active(state, open_log, reached):
    path = state / "store" / "digits" / "2" / "version.json"
    record = json.loads(path.read_text())
    record["proof"]["reached"] = reached
    path.chmod(0o644)
    path.write_text(json.dumps(record))
    with open_log() as log:
        world = World(state, log)
        with pytest.raises(DecisionError, match=r"reached accuracy (0.5000|nan) on 'logits'"):
            await world.decide(Activate(version=2))
        await world.decide(Retire(version=2))
        await world.close()


def test_a_store_without_the_model_leaves_it_listed_and_unready(digits_state, tmp_path, open_log):
    state = tmp_path / "copy"
    shutil.copytree(digits_state, state)

    async def go():
        with open_log() as log:
            world = World(state, log)
            await world.control.resume({"gone": Deployment(model="gone", active=1)}, [])
            names = [deployment.model for deployment in world.table.deployments()]
            ready, versions = world.table.ready, world.table.versions()
            await world.close()
        return names, ready, versions

    names, ready, versions = asyncio.run(go())
    assert names == ["digits", "gone"]
    assert not ready
    assert [(deployment.model, version) for deployment, version in versions] == [
        ("digits", 1),
        ("digits", 2),
    ]


def test_inputs_must_agree_in_rows():
    two = Interface(
        inputs=(X, TensorSpec(name="z", datatype=DataType.FP32, shape=())), outputs=(), batch_max=4
    )
    heads = {"x": Head(DataType.FP32, (2, 1)), "z": Head(DataType.FP32, (3,))}
    with pytest.raises(RequestError, match=r"disagree in batch-size: \[2, 3\]"):
        check_inputs(heads, two, model="m")


async def test_traffic_moves_only_after_the_outcome_is_recorded(world, tmp_path):
    await world.decide(Activate(version=1))
    log, append = world.recorder._log, world.recorder._log.append

    def full_for_outcomes(records):
        if any(isinstance(record, Outcome) for record in records):
            raise AuditUnwritable("the disk is full", remedy="free space")
        return append(records)

    log.append = full_for_outcomes
    with pytest.raises(AuditUnwritable):
        await world.decide(Activate(version=2))
    log.append = append
    assert (await world.ask()).version == 1
    assert world.table.deployment("digits").active == 1
    await asyncio.gather(*world.table._draining)
    assert world.loaded[2].closed
    await world.decide(Activate(version=2))
    assert (await world.ask()).version == 2


async def test_whatever_a_library_raises_a_version_only_fails_to_load(world, tmp_path):
    def crash(stored):
        raise MemoryError("no room")

    world.table._load = crash
    with pytest.raises(EngineLoad, match="failed to load: no room"):
        await world.decide(Activate(version=1))
    assert records(tmp_path, Outcome)[-1].result == "failed"
    await world.control.resume({"digits": Deployment(model="digits", active=1)}, [])
    assert not world.table.ready


async def test_nothing_is_decided_while_stopping(world):
    await world.control.settle()
    with pytest.raises(Draining):
        await world.decide(Activate(version=1))


async def test_long_words_are_refused(world):
    for actor, reason in (("a" * 129, "why"), ("op", "r" * 2001)):
        with pytest.raises(DecisionError, match="at most"):
            await world.control.decide("digits", Activate(version=1), actor=actor, reason=reason)


async def test_requests_in_flight_are_limited_in_bytes(world):
    await world.decide(Activate(version=1))
    with pytest.raises(Overloaded, match="more than 1000"):
        await world.dataplane.infer(dataclasses.replace(CALL, bytes=1001), Sent())
    assert (await world.ask()).version == 1


async def test_a_drain_waits_for_what_is_running_and_no_longer(world):
    await world.decide(Activate(version=1))
    running, hurry = asyncio.ensure_future(world.ask()), asyncio.Event()
    await asyncio.sleep(0)
    await world.dataplane.drain(30, hurry)
    assert running.done()
    await world.dataplane.drain(30, hurry)


async def test_a_second_signal_cuts_the_drain_short(world):
    hurry, gate = asyncio.Event(), asyncio.Event()
    await world.decide(Activate(version=1))
    lane = world.table._lanes["digits", 1]

    async def held(*_, **__):
        await gate.wait()
        raise Overloaded("held", remedy="none")

    lane.batcher.submit = held
    running = asyncio.ensure_future(world.ask())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(hurry.set)
    await world.dataplane.drain(30, hurry)
    assert not running.done()
    gate.set()
    with pytest.raises(Overloaded):
        await running
