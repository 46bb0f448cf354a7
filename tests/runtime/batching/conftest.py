"""A runner under the tests' control, and a batcher over it. No clock runs and nothing sleeps."""

import itertools
import threading
import time

import numpy as np
import pytest

from appliance.config import BatchingConfig
from appliance.errors import EngineError
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.batching import Batcher, Served
from runtime.servable import Answer

X = TensorSpec(name="x", datatype=DataType.FP32, shape=(-1,))
SECOND = 1_000_000_000
_numbers = itertools.count(1)
PATIENCE_SECONDS = 120  # of a test for a thread: a bound, not a wait


class HandClock:
    """Time that stands still until a test moves it."""

    def __init__(self):
        self.now = SECOND

    def monotonic_ns(self):
        return self.now

    def wall_ns(self):
        return self.now


class Engine:
    """What the runners of one batcher share: who is inside, who may leave, and all that was run."""

    def __init__(self, batch_max=8):
        self.interface = Interface(inputs=(X,), outputs=(X,), batch_max=batch_max)
        self.change = threading.Condition()
        self.inside = 0  # calls that wait to be let go
        self.passes = 0  # calls that may go
        self.open = True  # all may go
        self.batches = []  # values by request
        self.padded = []
        self.lanes_left = 99
        self.closed = 0

    def enter(self):
        with self.change:
            self.inside += 1
            self.change.notify_all()
            assert self.change.wait_for(lambda: self.open or self.passes, PATIENCE_SECONDS)
            # In this order: `settle`, which does not lock, must not take it for one that is held.
            self.inside -= 1
            self.passes -= not self.open
            self.change.notify_all()

    def let_go(self, calls=None):
        """Let so many calls end that run or come; None: all from now on."""
        with self.change:
            self.open = self.open or calls is None
            self.passes += calls or 0
            self.change.notify_all()

    def hold(self):
        self.open = False

    def wait_inside(self, calls=1):
        """Until so many calls are held."""
        with self.change:
            assert self.change.wait_for(lambda: self.inside == calls, PATIENCE_SECONDS)


class FakeRunner:
    """Doubles its input; a request that holds -1 fails, one that holds -2 breaks the whole batch."""

    def __init__(self, engine):
        self._engine = engine
        self.interface = engine.interface
        self.resting = False
        self._running = False

    def run(self, requests, rows):
        assert not self._running, "one lane, one call at a time"
        self._running = True
        try:
            batch = [request["x"] for request in requests]
            self._engine.batches.append([x[:, 0].astype(int).tolist() for x in batch])
            self._engine.padded.append(rows)
            self._engine.enter()
            assert len({x.shape[1:] for x in batch}) == 1
            assert rows >= sum(map(len, batch))
            if any((x == -2).any() for x in batch):
                raise ValueError("broken")
            return [self._answer(x) for x in batch]
        finally:
            self._running = False

    def _answer(self, x):
        if (x == -1).any():
            return EngineError("unlucky", remedy="none")
        return Answer(outputs={"x": x * 2}, vectors=np.zeros((len(x), 0), np.float32))

    def lane(self):
        if not self._engine.lanes_left:
            raise EngineError("no further lane", remedy="none")
        self._engine.lanes_left -= 1
        return FakeRunner(self._engine)

    def close(self):
        self._engine.closed += 1


class Callers:
    """Requests sent to one batcher and what came back, by number."""

    def __init__(self, batcher):
        self.batcher = batcher
        self.sent = []
        self.outcomes = []
        self.change = threading.Condition()

    def send(self, *values, width=1, **more):
        """Submit one request of `values`, a row each; returns its ticket, or the error raised at once."""
        x = np.repeat(np.array(values, np.float32)[:, None], width, axis=1)
        number = len(self.sent)
        self.sent.append(x)
        self.outcomes.append([])

        def then(outcome):
            with self.change:
                self.outcomes[number].append(outcome)
                self.change.notify_all()

        return self.batcher.submit({"x": x}, len(x), then, key=width, **more)

    def wait(self, *numbers):
        """Until these have an outcome; returns the first of each."""
        with self.change:
            assert self.change.wait_for(
                lambda: all(self.outcomes[number] for number in numbers), PATIENCE_SECONDS
            )
        return [self.outcomes[number][0] for number in numbers]

    def check(self, number):
        """That this one got its own rows, once, or an error, once."""
        (outcome,) = self.outcomes[number]
        if isinstance(outcome, Served):
            np.testing.assert_array_equal(outcome.answer.outputs["x"], self.sent[number] * 2)


class Bench:
    """A batcher over fake runners, its callers, engine and clock."""

    def __init__(self, *, lanes=1, batch_max=8, **settings):
        self.clock = HandClock()
        self.name = f"m/{next(_numbers)}"
        self.engine = Engine(batch_max)
        self.runners = [FakeRunner(self.engine) for _ in range(lanes)]
        self.batcher = Batcher(
            self.runners,
            BatchingConfig(**settings),
            self.clock,
            name=self.name,
        )
        self.callers = Callers(self.batcher)
        self.gathered = set()

    def occupy(self, lanes=1):
        """Hold the engine, and let as many lanes run a request that is thrown away."""
        self.engine.hold()
        for inside in range(1, lanes + 1):
            self.batcher.submit(
                {"x": np.full((1, 1), 100, np.float32)}, 1, lambda outcome: None, key="occupied"
            )
            self.engine.wait_inside(inside)
        self.engine.batches.clear()
        self.engine.padded.clear()

    def run_gathered(self):
        """End a burst: run what was gathered on this thread."""
        while self.gathered:
            self.gathered.pop().run_gathered()

    def until(self, holds):
        """Until `holds()` under the batcher's lock; what it waits for comes by itself."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up:
            with self.batcher._lock:
                if holds():
                    return
            time.sleep(0)
        raise AssertionError("it did not come")

    def settle(self):
        """Until every lane sleeps or is held inside the engine."""
        self.until(self._settled)

    def _settled(self):
        batcher, engine = self.batcher, self.engine
        still = len(batcher._idle) + len(batcher._holding) + engine.inside
        leaving = engine.inside and (engine.open or engine.passes)
        return not leaving and still == sum(batcher.lanes)

    def close(self):
        """Let everything end, also calls that were given up: what they tell then must be nothing."""
        self.engine.let_go()
        self.batcher.close()
        for thread in threading.enumerate():
            if thread.name == f"engine {self.name}":
                thread.join(PATIENCE_SECONDS)


@pytest.fixture(scope="session")
def make_bench():
    """The Bench itself, for tests that make many and close them."""
    return Bench


@pytest.fixture
def bench():
    """Makes a Bench: bench(lanes=2, rows_max=4); it is closed afterwards."""
    made = []

    def make(**settings):
        made.append(Bench(**settings))
        return made[-1]

    yield make
    for one in made:
        one.close()
