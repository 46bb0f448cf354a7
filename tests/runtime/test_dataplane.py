"""One request through the data plane: what is refused, what is recorded, what a drain waits for."""

import asyncio

import pytest

from appliance.audit.kinds import Failure
from appliance.audit.reader import AuditReader
from appliance.deployment import Activate
from appliance.errors import Draining, Overloaded
from runtime.batching import Ticket


def records(tmp_path, kind):
    with AuditReader(tmp_path / "log.db") as reader:
        return [entry.record for entry in reader.records() if isinstance(entry.record, kind)]


async def test_a_draining_server_refuses(world):
    world.dataplane.draining = True
    with pytest.raises(Draining):
        await world.ask()


async def test_a_fault_of_our_own_is_recorded_too(world, tmp_path):
    await world.decide(Activate(version=1))
    with pytest.raises(ZeroDivisionError):
        await world.ask(arrays=lambda: 1 / 0)
    assert records(tmp_path, Failure)[-1].code == "internal"


async def test_requests_in_flight_are_limited_in_bytes(world):
    await world.decide(Activate(version=1))
    with pytest.raises(Overloaded, match="more than 1000"):
        await world.ask(size=1001)
    assert (await world.ask()).version == 1


class Held:
    """A batcher in which every request waits."""

    queued = 0
    trouble = ""

    def __init__(self):
        self.thens = []

    def submit(self, inputs, rows, then, **_):
        self.thens.append(then)
        return Ticket(inputs, rows, then, None, "", 0, 0, lambda ticket: True, line=0)

    def close(self):
        pass


async def held(world):
    """A request that waits in the active version's batcher until `thens` are called."""
    await world.decide(Activate(version=1))
    loaded = world.table._serving["digits"].loaded[1]
    await asyncio.to_thread(loaded.batcher.close)
    loaded.batcher = Held()
    running = asyncio.ensure_future(world.ask())
    await asyncio.sleep(0)
    return running, loaded.batcher


async def test_a_drain_waits_for_what_is_running_and_no_longer(world):
    running, batcher = await held(world)
    hurry = asyncio.Event()
    draining = asyncio.ensure_future(world.dataplane.drain(30, hurry))
    await asyncio.sleep(0)
    assert not draining.done()
    batcher.thens[0](Overloaded("held", remedy="none"))
    await draining
    with pytest.raises(Overloaded):
        await running
    await world.dataplane.drain(30, hurry)


async def test_a_second_signal_cuts_the_drain_short(world):
    running, batcher = await held(world)
    hurry = asyncio.Event()
    asyncio.get_running_loop().call_soon(hurry.set)
    await world.dataplane.drain(30, hurry)
    assert not running.done()
    batcher.thens[0](Overloaded("held", remedy="none"))
    with pytest.raises(Overloaded):
        await running
