"""Both inference calls over a real wire of either transport, with an engine that tests steer, and the stock client."""

import asyncio
import shutil
import threading
import time
from collections import deque

import numpy as np
import pytest
import tritonclient.grpc as triton

from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.clock import SystemClock
from appliance.config import BatchingConfig, ServerConfig
from appliance.deployment import Activate
from appliance.signing import SigningKey
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.batching.learned import Learned
from runtime.servable import Answer
from runtime.services.infer import InferCalls
from runtime.transport import listen
from tests.runtime.conftest import World

PATIENCE_SECONDS = 120  # of a test for a thread: a bound, not a wait
X = TensorSpec(name="x", datatype=DataType.FP32, shape=(1,))
INTERFACE = Interface(inputs=(X,), outputs=(X,), batch_max=4)


class Engine:
    """A servable that answers its input; it may be held, and `fault` is what its calls raise."""

    resting = False

    def __init__(self):
        self.interface = INTERFACE
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Semaphore(0)
        self.ran = 0
        self.fault = None

    def lane(self):
        raise AssertionError("one lane is enough")

    def run(self, requests, rows):
        self.ran += len(requests)
        self.entered.release()
        assert self.go.wait(PATIENCE_SECONDS)
        if self.fault:
            raise self.fault
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        outputs = {spec.name: request[spec.name] for spec in self.interface.outputs}
        first = next(iter(request.values()))
        rows = len(first) if self.interface.batch_max else 1
        return Answer(outputs=outputs, vectors=np.zeros((rows, 1), np.float32))

    def batch_key(self, inputs):
        return tuple((name, array.shape[1:]) for name, array in inputs.items())

    def close(self):
        pass


class Steered(World):
    """A World whose engines tests steer."""

    def _load(self, stored, tuning):
        self.loaded[stored.number] = Engine()
        return [self.loaded[stored.number]]


class Box:
    """A server on a thread of its own; `address` is where, `path` its log, `world` its rooms."""

    def __init__(self, state, directory, lane):
        self.path = directory / "log.db"
        self._state = state
        self._config = ServerConfig(address="127.0.0.1:0", transport=lane)
        self._loop = asyncio.new_event_loop()
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(PATIENCE_SECONDS)

    @property
    def engine(self):
        """That of version 1."""
        return self.world.table._serving["digits"].loaded[1].servable

    def serve(self, interface=INTERFACE):
        """Let version 1 have another interface."""
        loaded = self.world.table._serving["digits"].loaded[1]
        loaded.servable.interface = interface
        loaded.checked.clear()

    def hold(self):
        """Let calls of version 1's engine wait, on its own thread and no other's, until `engine.go` is set."""
        self._inline_us(0)
        self.engine.go.clear()

    def let_go(self):
        """Undo `hold`, and forget how long that took."""
        self.engine.go.set()
        self._inline_us(BatchingConfig().inline_us_max)

    def _inline_us(self, most):
        batcher = self.world.table._serving["digits"].loaded[1].batcher
        batcher._learned = Learned(inline_ns=most * 1000)

    def on_loop(self, coroutine):
        """What a coroutine of the server's rooms returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_SECONDS)

    def settle(self):
        """Until no request counts any more."""
        plane = self.world.dataplane
        self.until(lambda: (plane._calls, plane._bytes) == (0, 0))
        held = self.world.table._serving["digits"].loaded.values()
        assert all(one._users == 0 for one in held)

    def until(self, holds):
        """Until `holds()`; what it waits for comes by itself."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < give_up, "it did not come"
            time.sleep(0.001)

    def records(self, request_id):
        """What the log has of a request."""
        with AuditReader(self.path) as reader:
            return [entry.record for entry in reader.show(request_id)]

    def close(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self):
        with AuditLog.open(self.path, key=SigningKey.generate(), clock=SystemClock()) as log:
            self.world = world = Steered(self._state, log)
            await world.decide(Activate(version=1))
            transport = listen(self._config)
            transport.start(InferCalls(world.dataplane, None).methods(), world.dataplane.settle)
            self.address = transport.address
            self._ready.set()
            await self._stop.wait()
            await transport.stop(1)
            await world.close()


@pytest.fixture(scope="module", params=["fast", "public"])
def box(request, digits_state, tmp_path_factory):
    """A Box for a whole module, on either transport."""
    directory = tmp_path_factory.mktemp("box")
    box = Box(shutil.copytree(digits_state, directory / "state"), directory, request.param)
    box.world.dataplane._bytes_max = 1 << 28
    box.world.recorder._queue_max = 4096
    yield box
    box.close()


@pytest.fixture
def client(box):
    """The stock client of the box."""
    with triton.InferenceServerClient(box.address) as client:
        yield client


@pytest.fixture
def engine(box):
    """The engine of version 1, as it was made; whatever a test did to it is undone, and nothing is left running."""
    engine = box.engine
    yield engine
    engine.fault = None
    box.let_go()
    box.settle()
    box.serve()
    engine.entered, engine.ran = threading.Semaphore(0), 0


@pytest.fixture
def tensor():
    """Makes an InferInput of an array."""

    def make(array, name="x", datatype=None):
        known = {"f4": "FP32", "f2": "FP16", "O": "BYTES", "b1": "BOOL"}
        told = datatype or known[array.dtype.str.lstrip("<|")]
        made = triton.InferInput(name, list(array.shape), told)
        made.set_data_from_numpy(array)
        return made

    return make


class Heard:
    """A callback of the stock client; `wait` returns the next (result, error)."""

    def __init__(self):
        self.all = deque()
        self._some = threading.Semaphore(0)

    def __call__(self, result, error):
        self.all.append((result, error))
        self._some.release()

    def wait(self):
        assert self._some.acquire(timeout=PATIENCE_SECONDS)
        return self.all.popleft()


@pytest.fixture
def heard():
    return Heard()
