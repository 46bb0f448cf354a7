"""One request through the data plane of a World, and what it holds meanwhile."""

import asyncio

import numpy as np
import pytest

from appliance.audit.kinds import Failure
from appliance.audit.reader import AuditReader
from appliance.deployment import Activate
from appliance.tensors import DataType
from runtime.batching import Ticket
from runtime.codec import Call, Head

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

    async def ask(self, request=None, **given):
        """What one request got; the rest as for the data plane's `infer`."""
        self._heard.clear()
        self.dataplane.infer(request or Asked(), self.then, **given)
        self.dataplane.settle()
        await self._heard.wait()
        return self.told[-1]


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


@pytest.fixture
async def queue(served):
    """The queue of version 1, in the test's hands."""
    one = loaded(served)
    await asyncio.to_thread(one.batcher.close)
    one.batcher = Queue()
    return one.batcher
