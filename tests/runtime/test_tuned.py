"""A tuning as a decision: recorded, swapped in without losing a request, found again at boot."""

import asyncio

import pytest

from appliance.audit.kinds import Decision, Outcome
from appliance.audit.reader import AuditReader
from appliance.config import BatchingConfig, EngineConfig
from appliance.deployment import (
    Activate,
    Deployment,
    EndTuning,
    StartShadow,
    Tune,
    Tuning,
    Withdraw,
    tuned,
)
from appliance.errors import DecisionError, EngineLoad
from runtime.protocol import control_pb2 as wire
from runtime.services.control import act_from

SETTING = Tuning(rows_max=2, delay_us_max=300, lanes=2, threads=1, bucket_rows=(1, 2))


@pytest.fixture
def loads(world, monkeypatch):
    """Version and tuning of every load."""
    asked = []

    def load(stored, tuning, real=world.table._loading.make):
        asked.append((stored.number, tuning))
        return real(stored, tuning)

    monkeypatch.setattr(world.table._loading, "make", load)
    return asked


def test_a_tuning_goes_over_the_settings_and_none_leaves_them():
    batching = tuned(BatchingConfig(queue_requests_max=9), SETTING)
    assert (batching.rows_max, batching.bucket_rows, batching.queue_requests_max) == (2, (1, 2), 9)
    assert tuned(EngineConfig(), SETTING) == EngineConfig(lanes=2, threads=1)
    assert tuned(batching, None) == batching


async def test_it_is_recorded_and_every_version_is_loaded_under_it(world, loads, tmp_path):
    await world.decide(Activate(version=1))
    await world.decide(StartShadow(version=2))
    await world.decide(Tune(tuning=SETTING))
    assert loads == [(1, None), (2, None), (1, SETTING), (2, SETTING)]
    with AuditReader(tmp_path / "log.db") as reader:
        records = [entry.record for entry in reader.records()]
    decision = [record for record in records if isinstance(record, Decision)][-1]
    outcome = [record for record in records if isinstance(record, Outcome)][-1]
    assert (decision.act, decision.version, decision.before.tuning) == ("tune", 1, None)
    assert outcome.deployment == Deployment(model="digits", active=1, shadow=2, tuning=SETTING)
    assert (await world.ask()).version == 1


async def test_a_request_of_before_ends_where_it_began(world):
    await world.decide(Activate(version=1))
    first = world.loaded[1]
    _, held = world.table.hold("digits", "", "key")
    await world.decide(Tune(tuning=SETTING))
    assert (await world.ask()).version == 1
    assert not first.closed
    _, fresh = world.table.hold("digits", "", "key")
    assert fresh is not held
    fresh.release()
    held.release()
    await asyncio.gather(*world.table._draining)
    assert first.closed
    assert not world.loaded[1].closed


async def test_a_setting_that_does_not_load_changes_nothing(world):
    await world.decide(Activate(version=1))
    world.broken = {1}
    with pytest.raises(EngineLoad):
        await world.decide(Tune(tuning=SETTING))
    assert (await world.ask()).version == 1
    assert world.table.deployment("digits").tuning is None


async def test_boot_returns_to_it_and_it_holds_for_the_next_version(world, loads):
    await world.control.resume({"digits": Deployment(model="digits", active=1, tuning=SETTING)}, [])
    await world.decide(Activate(version=2))
    assert loads == [(1, SETTING), (2, SETTING)]
    await world.decide(EndTuning())
    assert loads[2:] == [(2, None), (1, None)]
    assert world.table.deployment("digits").tuning is None


async def test_one_that_keeps_a_model_from_loading_can_be_ended(world, monkeypatch):
    def load(stored, tuning, real=world.table._loading.make):
        if tuning:
            raise EngineLoad("no room for so many lanes", remedy="fewer")
        return real(stored, tuning)

    monkeypatch.setattr(world.table._loading, "make", load)
    await world.control.resume({"digits": Deployment(model="digits", active=1, tuning=SETTING)}, [])
    assert not world.table.ready
    await world.decide(EndTuning())
    assert (await world.ask()).version == 1


async def test_what_cannot_be_tuned(world):
    with pytest.raises(DecisionError, match="no active version"):
        await world.decide(Tune(tuning=SETTING))
    with pytest.raises(DecisionError, match="not tuned"):
        await world.decide(EndTuning())
    await world.decide(Activate(version=1))
    await world.decide(Tune(tuning=SETTING))
    with pytest.raises(DecisionError, match="tuned so already"):
        await world.decide(Tune(tuning=SETTING))
    await world.decide(Withdraw())
    await world.decide(EndTuning())


def test_a_tuning_on_the_wire_is_whole_or_refused():
    whole = wire.Tuning(rows_max=2, delay_us_max=300, lanes=2, threads=1, bucket_rows=[1, 2])
    request = wire.DecideRequest(model="digits", act="tune", tuning=whole)
    assert act_from(request) == Tune(tuning=SETTING)
    assert act_from(wire.DecideRequest(act="end_tuning")) == EndTuning()
    for wrong in (wire.Tuning(), wire.Tuning(rows_max=2, lanes=65)):
        with pytest.raises(DecisionError, match="no such tuning"):
            act_from(wire.DecideRequest(model="digits", act="tune", tuning=wrong))
