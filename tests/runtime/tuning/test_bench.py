"""One version under one setting after the other: what is loaded when, and what becomes of trouble."""

import dataclasses

import numpy as np
import pytest
from msgspec.structs import replace

from appliance.clock import SystemClock
from appliance.config import BatchingConfig, Config, ModelBatching, StateConfig
from appliance.deployment import Tuning
from appliance.errors import EngineLoad
from appliance.store import Store
from runtime.batching import Batcher
from runtime.servable import Answer
from runtime.tuning import Arrivals, Order
from runtime.tuning.bench import Bench
from runtime.tuning.messages import Trial

SETTING = Tuning(rows_max=4, delay_us_max=0, lanes=1, threads=1)


class Lane:
    """A servable of the digits' interface that answers nothing of use."""

    resting = False

    def __init__(self, interface):
        self.interface = interface
        self.closed = 0
        self.rows = []

    def run(self, requests, rows):
        self.rows += [len(request["image"]) for request in requests]
        return [Answer(outputs={}, vectors=np.zeros((1, 0), np.float32)) for _ in requests]

    def batch_key(self, inputs):
        return 1

    def lane(self):
        return Lane(self.interface)

    def close(self):
        self.closed += 1


class Loader:
    """Makes lanes and notes how."""

    def __init__(self):
        self.asked, self.made = [], []
        self.error = None

    def __call__(self, stored, *, threads, lanes, sizes):
        self.asked.append((threads, lanes, sizes))
        if self.error:
            raise self.error
        self.made += [Lane(stored.manifest.served) for _ in range(lanes)]
        return self.made[-lanes:]


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def bench(digits_state, loader):
    own = {"digits": ModelBatching(queue_requests_max=7)}
    config = Config(
        state=StateConfig(directory=str(digits_state)), batching=BatchingConfig(models=own)
    )
    order = Order(config=config, model="digits", version=1, goal_ns=1 << 60)
    stored = Store(digits_state / "store").open("digits", 1)
    return Bench(order, stored, SystemClock(), loader)


def measured(bench, rows=(1, 2), **changes):
    some = Arrivals(at_ns=tuple(range(len(rows))), rows=rows)
    trial = Trial(tuning=replace(SETTING, **changes), arrivals=some, late_max=len(rows))
    return bench.measure(trial, lambda _requests: None)


def test_lanes_stay_until_their_number_threads_or_buckets_change(bench, loader):
    for changes in ({}, {"rows_max": 1}, {"delay_us_max": 9}, {"lanes": 2}, {"threads": 2}):
        assert measured(bench, **changes).requests == 2
    measured(bench, threads=2, bucket_rows=(1, 4))
    assert loader.asked == [(1, 1, ()), (1, 2, ()), (2, 1, ()), (2, 1, (1, 4))]
    assert [lane.closed for lane in loader.made] == [1, 1, 1, 1, 0]
    bench.close()
    assert loader.made[-1].closed == 1


def test_what_is_for_a_gpu_is_measured_as_it_is_served(bench, monkeypatch):
    """No thread that brings requests runs one there (`runtime.holding`)."""
    record, settings = bench._stored.record, []
    record = replace(record, engine=replace(record.engine, kind="tensorrt"))
    bench._stored = dataclasses.replace(bench._stored, record=record)

    def batcher(lanes, config, *others, **named):
        settings.append(config)
        return Batcher(lanes, config, *others, **named)

    monkeypatch.setattr("runtime.tuning.bench.Batcher", batcher)
    assert measured(bench).requests == 2
    assert [setting.inline_us_max for setting in settings] == [0]


def test_requests_are_golden_rows_as_many_as_fit(bench, loader):
    batch_max = Store(bench._stored.directory.parents[1]).describe("digits", 1).manifest.served
    measured(bench, rows=(1, 3, 100_000))
    (lane,) = loader.made
    assert sorted(set(lane.rows)) == [1, 3, batch_max.batch_max]


@pytest.mark.parametrize(
    ("error", "told"),
    [(EngineLoad("no room", remedy="r"), "no room"), (MemoryError("much"), "failed to load: much")],
)
def test_what_does_not_load_is_that_settings_trouble(bench, loader, error, told):
    loader.error = error
    assert told in measured(bench).trouble
    loader.error = None
    assert measured(bench).trouble == ""
