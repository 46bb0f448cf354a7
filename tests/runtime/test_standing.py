"""Where versions stand, as seen from outside."""

import asyncio
import threading

import pytest

from appliance.deployment import Activate, StartCanary
from appliance.errors import EngineLoad
from runtime.standing import Passing, standings


def told(world):
    return {
        standing.version: (set(standing.states), set(standing.roles))
        for standing in world.table.standings()
    }


async def test_states_and_roles_follow_the_decisions(world):
    assert world.table.standings() == []
    await world.decide(Activate(version=1))
    assert told(world) == {1: ({"loaded"}, {"active"})}
    (standing,) = world.table.standings()
    assert (standing.model, standing.queued, standing.lanes, standing.hanging) == (
        "digits",
        0,
        1,
        0,
    )
    await world.decide(StartCanary(version=2, per_mille=10))
    assert told(world)[2] == ({"loaded"}, {"canary"})


async def test_a_version_that_does_not_load_is_failed_until_it_does(world):
    await world.decide(Activate(version=1))
    world.broken.add(2)
    with pytest.raises(EngineLoad):
        await world.decide(Activate(version=2))
    assert told(world) == {1: ({"loaded"}, {"active"}), 2: ({"failed"}, set())}
    world.broken.clear()
    await world.decide(Activate(version=2))
    assert told(world) == {1: ({"loaded"}, {"previous"}), 2: ({"loaded"}, {"active"})}


async def test_a_version_is_seen_while_it_loads(world, monkeypatch):
    entered, go_on = threading.Event(), threading.Event()
    load = world.table._loading.make

    def slowly(stored, tuning):
        entered.set()
        go_on.wait()
        return load(stored, tuning)

    monkeypatch.setattr(world.table._loading, "make", slowly)
    deciding = asyncio.ensure_future(world.decide(Activate(version=1)))
    await asyncio.to_thread(entered.wait)
    assert told(world) == {1: ({"loading"}, set())}
    go_on.set()
    await deciding


def test_one_version_may_be_let_go_of_twice_at_a_time():
    passing = Passing()
    with passing.draining("m", 1):
        with passing.draining("m", 1):
            pass
        assert [standing.states for standing in standings([], passing)] == [("draining",)]
    assert passing.states() == []
