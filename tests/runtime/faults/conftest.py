"""A whole box in this process, from its port to its log, with an engine, a log and a clock that tests steer."""

import asyncio
import itertools
import threading

import grpc
import msgspec
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as oip

from appliance.clock import SystemClock
from appliance.config import BatchingConfig, ServerConfig
from appliance.deployment import Activate
from appliance.store import Store
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.controlplane import ControlPlane
from runtime.dataplane import DataPlane
from runtime.metrics import Metrics
from runtime.recorder import Recorder
from runtime.servable import Answer
from runtime.services.infer import InferCalls
from runtime.swap import ServedTable
from runtime.transport import listen

X = TensorSpec(name="x", datatype=DataType.FP32, shape=(1,))
INTERFACE = Interface(inputs=(X,), outputs=(X,), batch_max=4)
INFER = "/inference.GRPCInferenceService/ModelInfer"
PATIENCE_SECONDS = 120  # of a test for a thread: a bound, not a wait


class SteppingClock:
    """The system's clock, which a test may move."""

    def __init__(self):
        self._real = SystemClock()
        self._stopped_ns = None
        self.ahead_ns = self.wall_ahead_ns = 0

    def stop(self):
        """From now on no time passes but what the test lets pass."""
        self._stopped_ns = self._real.monotonic_ns()

    def monotonic_ns(self):
        stopped_ns = self._stopped_ns
        return (self._real.monotonic_ns() if stopped_ns is None else stopped_ns) + self.ahead_ns

    def wall_ns(self):
        return self._real.wall_ns() + self.wall_ahead_ns


class Engine:
    """What all servables of a box share: whether calls may end, what was run, what is to fail."""

    def __init__(self):
        self.change = threading.Condition()
        self.open, self.passes, self.inside = True, 0, 0
        self.batches = []
        self.fault = None

    def hold(self):
        self.open = False

    def let_go(self, calls=None):
        """Let so many calls end; None: all from now on."""
        with self.change:
            self.open = self.open or calls is None
            self.passes += calls or 0
            self.change.notify_all()

    def enter(self, values):
        with self.change:
            self.batches.append(values)
            self.inside += 1
            assert self.change.wait_for(lambda: self.open or self.passes, PATIENCE_SECONDS)
            self.passes -= not self.open
            self.inside -= 1
        if self.fault:
            raise self.fault


class Doubling:
    """A servable that doubles its input when the engine lets it; `closed` tells when it was freed."""

    interface = INTERFACE
    resting = False

    def __init__(self, engine):
        self._engine = engine
        self.closed = False

    def lane(self):
        return Doubling(self._engine)

    def run(self, requests, rows):
        arrays = [next(iter(request.values())) for request in requests]
        self._engine.enter([float(array.flat[0]) for array in arrays])
        vectors = np.zeros((1, 1), np.float32)
        return [Answer(outputs={"x": a * np.float32(2)}, vectors=vectors) for a in arrays]

    def batch_key(self, inputs):
        return 1

    def close(self):
        self.closed = True


class Steered:
    """The log, which may fail or wait."""

    def __init__(self, log):
        self._log = log
        self.fault = None
        self.writing = False
        self.idle = 0  # commits of nothing
        self.gate = threading.Event()
        self.gate.set()

    size = property(lambda self: self._log.size)
    checkpoint_due = property(lambda self: self._log.checkpoint_due)

    def append(self, records):
        if records:
            self.writing = True
            assert self.gate.wait(PATIENCE_SECONDS)
            self.writing = False
            if self.fault:
                raise self.fault
        self.idle += not records
        return self._log.append(records)

    def checkpoint(self):
        self._log.checkpoint()


class Box:
    """The runtime's rooms behind a real port, and a client."""

    STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"

    def __init__(self, state, log, *, batching, server, records_max, drain_seconds):
        self.clock, self.engine, self.log = SteppingClock(), Engine(), Steered(log)
        self.loaded = []
        self.recorder = Recorder(self.log, queue_records_max=records_max)
        store = Store(state / "store")
        self.table = ServedTable(
            store, self._load, BatchingConfig(**batching), self.clock, drain_seconds=drain_seconds
        )
        ids = map(str, itertools.count())
        self.control = ControlPlane(
            store=store, table=self.table, recorder=self.recorder, new_id=lambda: next(ids)
        )
        self.metrics = Metrics()
        self.dataplane = DataPlane(
            table=self.table,
            recorder=self.recorder,
            metrics=self.metrics,
            clock=self.clock,
            bytes_max=1 << 20,
        )
        config = msgspec.structs.replace(ServerConfig(address="127.0.0.1:0"), **server)
        self.transport = listen(config)
        self.transport.start(InferCalls(self.dataplane, None).methods(), self.dataplane.settle)
        self.channel = grpc.aio.insecure_channel(
            self.transport.address, options=[("grpc.use_local_subchannel_pool", 1)]
        )

    def _load(self, stored, tuning):
        self.loaded.append(Doubling(self.engine))
        return [self.loaded[-1]]

    @property
    def active(self):
        """The active version, loaded."""
        return self.table.active()["digits"]

    async def decide(self, act):
        await self.control.decide("digits", act, actor="op", reason="test")

    def message(self, value=1.0, **more):
        made = oip.ModelInferRequest(
            model_name="digits", raw_input_contents=[np.float32(value).tobytes()], **more
        )
        made.inputs.add(name="x", datatype="FP32", shape=[1, 1])
        return made.SerializeToString()

    def ask(self, value=1.0, *, timeout=None, **more):
        """Begin a request of one row."""
        call = self.channel.unary_unary(INFER)(self.message(value, **more), timeout=timeout)
        return asyncio.ensure_future(_told(call))

    def garbage(self):
        """Begin a request whose bytes are none."""
        return asyncio.ensure_future(_told(self.channel.unary_unary(INFER)(b"\xff" * 1000)))

    async def until(self, holds):
        """Until `holds()`; what it waits for comes by itself, and the suite's timeout is the limit."""
        while not holds():
            await asyncio.sleep(0.002)

    async def inside(self, calls=1):
        """Until so many calls are held in the engine."""
        await self.until(lambda: self.engine.inside >= calls)

    def at_rest(self):
        """Whether nothing of any request is left."""
        return not (
            self.transport.in_flight
            or self.dataplane._calls
            or self.dataplane._bytes
            or self.recorder.queued
            or sum(self.table.queued().values())
        )

    async def close(self):
        self.engine.let_go()
        self.log.gate.set()
        self.log.fault = None
        await self.channel.close()
        await self.transport.stop(1)
        await self.table.close()
        await asyncio.to_thread(self.recorder.close)


class Told:
    """How a request ended: `value`, or an error's `code`, `text`, and `trailing` metadata."""

    def __init__(self, value, code, text, trailing):
        self.value, self.code, self.text, self.trailing = value, code, text, trailing


async def _told(call):
    try:
        reply = await call
    except grpc.aio.AioRpcError as error:
        trailing = dict(error.trailing_metadata() or ())
        return Told(None, error.code(), error.details(), trailing)
    found = oip.ModelInferResponse.FromString(reply)
    value = float(np.frombuffer(found.raw_output_contents[0], np.float32)[0])
    return Told(value, grpc.StatusCode.OK, "", {})


@pytest.fixture
async def start(digits_state, open_log):
    """Starts a Box with version 1 active: start(batching={}, server={}, records_max=1000)."""
    with open_log() as log:
        boxes = []

        async def make(
            *,
            state=digits_state,
            batching=None,
            server=None,
            records_max=1000,
            drain_seconds=20.0,
            activate=True,
        ):
            box = Box(
                state,
                log,
                batching={"inline_us_max": 0, **(batching or {})},
                server=server or {},
                records_max=records_max,
                drain_seconds=drain_seconds,
            )
            boxes.append(box)
            if activate:
                await box.decide(Activate(version=1))
            return box

        yield make
        for box in boxes:
            await box.close()


@pytest.fixture
async def box(start):
    """A Box with the default settings."""
    return await start()
