"""Requests sent at their times, and what is counted of them. Nothing here measures a machine."""

import numpy as np
import pytest

from appliance.clock import SystemClock
from appliance.config import BatchingConfig
from appliance.errors import EngineError, Overloaded
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.batching import Batcher
from runtime.servable import Answer
from runtime.tuning import Arrivals
from runtime.tuning.driving import Drive, Sent

X = TensorSpec(name="x", datatype=DataType.FP32, shape=(1,))
FOREVER_NS = 1 << 60
REQUESTS = {
    rows: Sent({"x": np.full((rows, 1), float(rows), np.float32)}, rows, 1) for rows in (1, 2, 3)
}


class Runner:
    """Answers, but for requests of three rows."""

    interface = Interface(inputs=(X,), outputs=(X,), batch_max=8)
    resting = False

    def run(self, requests, rows):
        return [self._answer(request["x"]) for request in requests]

    def _answer(self, x):
        if len(x) == 3:
            return EngineError("unlucky", remedy="none")
        return Answer(outputs={"x": x}, vectors=np.zeros((len(x), 0), np.float32))

    def lane(self):
        return Runner()

    def close(self):
        pass


class Refusing:
    """A batcher that refuses every second request and never answers the others."""

    def __init__(self):
        self.sent = self.cancelled = 0

    def submit(self, inputs, rows, then, **_):
        self.sent += 1
        if self.sent % 2 == 0:
            raise Overloaded("full", remedy="later")
        return self

    def cancel(self):
        self.cancelled += 1
        return True

    def check(self):
        raise AssertionError("nothing is left to wait for")


@pytest.fixture
def batcher():
    made = Batcher([Runner(), Runner()], BatchingConfig(), SystemClock(), name="x")
    yield made
    made.close()


def arrivals(*rows):
    return Arrivals(at_ns=tuple(range(0, 1000 * len(rows), 1000)), rows=rows)


def test_every_request_is_counted_once(batcher):
    reached = []
    drive = Drive(batcher, SystemClock(), goal_ns=FOREVER_NS, late_max=0)
    found = drive.run(arrivals(*[1, 2] * 100), REQUESTS, reached.append)
    assert (found.requests, found.late, found.abandoned) == (200, 0, False)
    assert reached == [50, 100, 150, 200]
    assert 0 < found.p50_ms <= found.p99_ms
    assert 1 <= found.batch_rows <= 8
    assert found.throughput > 0
    assert found.cpu_us_row > 0


def test_a_request_without_an_answer_is_late_and_counts_for_the_percentiles(batcher):
    drive = Drive(batcher, SystemClock(), goal_ns=FOREVER_NS, late_max=100)
    found = drive.run(arrivals(*[1] * 60, *[3] * 40), REQUESTS)
    assert (found.requests, found.late, found.abandoned) == (100, 40, False)
    assert found.p50_ms is not None
    assert found.p99_ms is None


def test_a_hopeless_run_is_given_up_and_what_waits_is_not_computed():
    refusing = Refusing()
    drive = Drive(refusing, SystemClock(), goal_ns=FOREVER_NS, late_max=2)
    found = drive.run(arrivals(*[1] * 100), REQUESTS)
    assert found.abandoned
    assert (found.requests, refusing.sent, refusing.cancelled) == (6, 6, 3)
    assert found.late == 6
    assert (found.p50_ms, found.throughput, found.batch_rows) == (None, 0.0, 0.0)


def test_slower_than_the_goal_is_late(batcher):
    drive = Drive(batcher, SystemClock(), goal_ns=0, late_max=10)
    assert drive.run(arrivals(*[1] * 10), REQUESTS).late == 10
