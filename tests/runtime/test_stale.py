"""An engine that no longer fits the box: its fallback serves, is what the records name, and is told."""

import json

import msgspec
import pytest

from appliance.deployment import Activate
from appliance.errors import EngineLoad
from appliance.store import RECORD_NAME, Store


def age(state, **changes):
    """Let the engine of version 1 be one of an older library."""
    stored = Store(state / "store").describe("digits", 1)
    engine = msgspec.structs.replace(
        stored.record.engine, stamp=stored.record.engine.stamp | {"library": "onnxruntime 1.0"}
    )
    record = msgspec.structs.replace(stored.record, engine=engine, **changes)
    (stored.directory / RECORD_NAME).write_bytes(msgspec.json.encode(record))
    return stored.record.engine


@pytest.fixture
async def world(state, open_log, make_world):
    """A World over a copy of the digits state."""
    with open_log() as log:
        world = make_world(state, log)
        yield world
        await world.close()


async def test_the_fallback_serves_and_is_recorded(world, state):
    spare = age(state)
    spare = msgspec.structs.replace(spare, sha256="5" * 64)
    age(state, fallback=spare)
    await world.decide(Activate(version=1))
    lane = world.table.stale("digits", 1)
    assert lane.stored.record.engine == spare
    assert "library was onnxruntime 1.0" in lane.stale


async def test_an_engine_that_fits_is_not_told(world):
    await world.decide(Activate(version=1))
    assert world.table.stale("digits", 1) is None


async def test_where_nothing_fits_the_version_does_not_load(world, state):
    age(state)
    with pytest.raises(EngineLoad, match="does not fit this box"):
        await world.decide(Activate(version=1))
    assert world.table.loaded("digits") == []


async def test_a_version_that_is_replaced_while_it_loads_is_not_served(world, state, monkeypatch):
    def load(stored, real=world.table._load):
        path = stored.directory / RECORD_NAME
        path.write_text(json.dumps(json.loads(path.read_text()) | {"warnings": ["anew"]}))
        return real(stored)

    monkeypatch.setattr(world.table, "_load", load)
    with pytest.raises(EngineLoad, match="another engine while it was loaded"):
        await world.decide(Activate(version=1))
    assert world.loaded[1].closed
    monkeypatch.undo()
    await world.decide(Activate(version=1))


def test_status_and_journal_tell_what_serves(state, start_runtime):
    from runtime.client import ControlClient

    spare = Store(state / "store").open("digits", 1).record.engine
    age(state, fallback=spare)
    runtime = start_runtime(state)
    with ControlClient(runtime.socket) as control:
        control.decide("digits", "activate", 1, actor="test", reason="first")
        (model,) = control.list("digits")
    assert runtime.wait_for("engine.stale")["version"] == 1
    shown = next(version for version in model.versions if version.number == 1)
    assert "serves in its place" in shown.warnings[0]
    tried = Store(state / "store").describe("digits", 1).record.trials
    (error,) = (t.error_max for t in tried if (t.engine, t.precision) == (spare.kind, "fp32"))
    assert (shown.engine, shown.precision, shown.error_max) == (spare.kind, "fp32", error)
    assert shown.engine == spare.kind
