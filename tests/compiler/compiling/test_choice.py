"""Which engine is kept."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from appliance.errors import LimitMissed
from appliance.golden import Golden
from appliance.manifest import Limits
from appliance.proof import Timing
from appliance.tensors import Interface
from compiler.compiling.choice import TURNS_MAX, TURNS_MIN, by_speed, check_latency, measure
from runtime.servable import Answer


@dataclass
class FakeClock:
    """Time that only the servables move."""

    now: int = 0

    def monotonic_ns(self) -> int:
        return self.now

    def wall_ns(self) -> int:
        return self.now


@dataclass
class FakeServable:
    """Takes so many nanoseconds a row, and remembers the order of calls."""

    clock: FakeClock
    ns_per_row: int
    calls: list
    name: str
    batch_max: int = 8
    interface: Interface = field(init=False)

    def __post_init__(self):
        self.interface = Interface(inputs=(), outputs=(), batch_max=self.batch_max)

    def run(self, requests):
        rows = len(requests[0]["x"]) if self.batch_max else 1
        self.clock.now += self.ns_per_row * rows
        self.calls.append((self.name, rows))
        return [Answer(outputs={}, vectors=np.zeros((rows, 0), np.float32))]


GOLDEN = Golden(inputs={"x": np.arange(3.0)}, outputs={})


def timing(rows: int, milliseconds: float) -> Timing:
    return Timing(rows=rows, median_ms=milliseconds, p99_ms=milliseconds)


@pytest.fixture
def clock() -> FakeClock:
    """A clock at zero."""
    return FakeClock()


def servables(clock, batch_max=8, slow=3_000_000, quick=1_000_000):
    calls: list = []
    return calls, {
        "slow": FakeServable(clock, slow, calls, "slow", batch_max),
        "quick": FakeServable(clock, quick, calls, "quick", batch_max),
    }


def test_timings_are_milliseconds_at_one_row_and_at_a_full_batch(clock):
    _, engines = servables(clock)
    assert measure(engines, GOLDEN, clock) == {
        "slow": (timing(1, 3.0), timing(8, 24.0)),
        "quick": (timing(1, 1.0), timing(8, 8.0)),
    }


def test_without_a_batch_axis_one_size_is_measured(clock):
    _, engines = servables(clock, batch_max=0)
    found = measure(engines, GOLDEN, clock)
    assert found == {"slow": (timing(1, 3.0),), "quick": (timing(1, 1.0),)}


def test_the_99th_percentile_is_of_all_turns(clock):
    _, engines = servables(clock, batch_max=0)
    slow = engines["slow"]
    run, left = slow.run, [20_000_000, *[1_000_000] * 1000]

    def uneven(requests):
        slow.ns_per_row = left.pop(0)
        return run(requests)

    slow.run = uneven
    (found,) = measure({"slow": slow}, GOLDEN, clock)["slow"]
    assert found.median_ms == 1.0
    assert found.p99_ms == pytest.approx(np.percentile([20.0] + [1.0] * (TURNS_MAX - 1), 99))


def test_engines_take_turns(clock):
    calls, engines = servables(clock)
    measure(engines, GOLDEN, clock)
    assert [name for name, _ in calls[:4]] == ["slow", "quick", "slow", "quick"]


@pytest.mark.parametrize(("ns", "turns"), [(10_000_000_000, TURNS_MIN), (1, TURNS_MAX)])
def test_turns_are_limited_by_time_and_number(clock, ns, turns):
    calls, engines = servables(clock, slow=ns, quick=ns)
    measure(engines, GOLDEN, clock)
    assert len(calls) == 2 * 2 * turns


def test_the_smallest_product_of_medians_comes_first():
    found = {
        "a": (timing(1, 1.0), timing(32, 10.0)),
        "b": (timing(1, 0.4), timing(32, 20.0)),
        "c": (timing(1, 2.0), timing(32, 5.0)),
    }
    assert by_speed(found) == ["b", "a", "c"]


def test_the_latency_limit_is_on_the_median_of_one_row():
    found = (Timing(rows=1, median_ms=2.0, p99_ms=9.0), timing(32, 50.0))
    for allowed in (None, 2.0, 3.0):
        check_latency(found, Limits(latency_ms_max=allowed))
    with pytest.raises(LimitMissed, match=r"takes 2 ms, over 1\.5"):
        check_latency(found, Limits(latency_ms_max=1.5))
