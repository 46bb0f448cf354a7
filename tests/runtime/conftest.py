"""The runtime's rooms over a real store and a real log, with engines that are made here."""

import asyncio
import itertools
import threading
from types import MappingProxyType

import msgspec
import numpy as np
import pytest
import tritonclient.grpc as triton

from appliance.audit.log import AuditLog
from appliance.clock import SystemClock
from appliance.config import BatchingConfig
from appliance.errors import (
    EngineLoad,
)
from appliance.signing import SigningKey
from appliance.store import Store
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.client import ControlClient
from runtime.codec import Call, Head
from runtime.controlplane import ControlPlane
from runtime.dataplane import DataPlane
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
    """A request of two rows; `arrays` may fail."""

    header = None
    places = MappingProxyType({})

    def __init__(self, call, arrays=None):
        self.call = call
        self._arrays = arrays or (lambda: {"x": np.ones((2, 1), np.float32)})

    def heads(self):
        return {"x": Head(DataType.FP32, (2, 1))}

    def arrays(self, heads):
        return self._arrays()


class Echo:
    """A servable that answers its input; `closed` tells when it was freed."""

    interface = INTERFACE
    resting = False

    def __init__(self):
        self.closed = False

    def lane(self):
        return Echo()

    def run(self, requests, rows):
        return [
            Answer(outputs=dict(request), vectors=np.zeros((len(request["x"]), 1), np.float32))
            for request in requests
        ]

    def batch_key(self, inputs):
        return 1

    def close(self):
        self.closed = True


def settle(future, result):
    """Give `future` the answer, or the error that came instead."""
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


class World:
    """The runtime's rooms over a real store and log, with engines that are made here."""

    def __init__(self, state, log):
        self.broken = set()
        self.loading, self.holding = threading.Event(), None
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

    def _load(self, stored, tuning):
        if stored.number in self.broken:
            raise EngineLoad("it does not load", remedy="build it again")
        if self.holding:
            self.loading.set()
            self.holding.wait()
        self.loaded[stored.number] = Echo()
        return [self.loaded[stored.number]]

    async def decide(self, act):
        return await self.control.decide("digits", act, actor="op", reason="test")

    async def ask(self, version="", *, size=100, arrays=None):
        """One request of two rows; `size` is its bytes on the wire, `arrays` how its data is read."""
        call = msgspec.structs.replace(CALL, version=version, bytes=size)
        loop, future = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

        def told(result):
            loop.call_soon_threadsafe(settle, future, result)

        self.dataplane.infer(Sent(call, arrays), told)
        self.dataplane.settle()
        return await future

    async def close(self):
        await self.table.close()
        await asyncio.to_thread(self.recorder.close)


@pytest.fixture
def open_log(tmp_path):
    """Opens the audit log of this test, again and again."""
    key = SigningKey.generate()
    return lambda: AuditLog.open(tmp_path / "log.db", key=key, clock=SystemClock())


@pytest.fixture
def make_world():
    """Makes a World over a state directory and an open log; close it before the log."""
    return World


@pytest.fixture
async def world(digits_state, open_log):
    """A World over the digits state and a log of its own."""
    with open_log() as log:
        world = World(digits_state, log)
        yield world
        await world.close()


@pytest.fixture(scope="module")
def client(runtime):
    """The stock client of the module's runtime."""
    with triton.InferenceServerClient(runtime.address) as client:
        yield client


@pytest.fixture
def control(runtime):
    """The control client of the module's runtime."""
    with ControlClient(runtime.socket) as control:
        yield control
