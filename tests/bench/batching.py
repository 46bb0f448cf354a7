"""The batcher by itself: what a request costs in it, and whether several lanes stay busy.

Run alone, or from `run.py`. Nothing is computed: engines do nothing, or sleep as long as a ResNet-50
would take on a core, so that two lanes do not fight for the cores of this machine. The yardstick of
a round trip is a bare one between two threads by two locks, taken in the same rounds.
"""

import queue
import statistics
import threading
import time
from collections.abc import Callable

import numpy as np

from appliance.clock import SystemClock
from appliance.config import BatchingConfig
from appliance.tensors import Interface
from runtime.batching import Batcher
from runtime.servable import Answer

INTERFACE = Interface(inputs=(), outputs=(), batch_max=32)
ANSWER = Answer(outputs={}, vectors=np.zeros((1, 0), np.float32))
ROUNDS = 7
CALLS = 1500
CALL_SECONDS = 0.002  # of a call, whatever its rows
ROW_SECONDS = 0.005
WINDOW_SECONDS = 2.0
CALLERS = (2, 8, 16, 32)


class Nothing:
    """A runner that answers at once, or after a time that grows with the batch."""

    interface = INTERFACE
    resting = False

    def __init__(self, *, row_seconds: float = 0.0) -> None:
        self._row_seconds = row_seconds

    def run(self, requests, rows):
        if self._row_seconds:
            time.sleep(CALL_SECONDS + self._row_seconds * len(requests))
        return [ANSWER] * len(requests)

    def lane(self) -> "Nothing":
        return Nothing(row_seconds=self._row_seconds)

    def close(self) -> None:
        """Holds nothing."""


def run(rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Microseconds of a round trip by way, the median of the rounds' medians; busy lanes by callers."""
    batcher = Batcher([Nothing()], BatchingConfig(), SystemClock(), name="bench")
    ways = {
        "gathered": lambda: round_trips(batcher, Batcher.run_gathered),
        "lane": lambda: round_trips(batcher),
        "bare hop": bare_hops,
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            took[name].append(way())
    batcher.close()
    lanes = {str(callers): busy_lanes(callers) for callers in CALLERS}
    return {"round trip": {name: statistics.median(each) for name, each in took.items()}} | lanes


def round_trips(batcher: Batcher, gather: Callable[[Batcher], None] | None = None) -> float:
    """The median of submit to `then`, one caller, in microseconds."""
    told = threading.Lock()
    told.acquire()

    def once() -> None:
        batcher.submit({}, 1, lambda outcome: told.release(), key=1, gather=gather)
        told.acquire()

    return median_us(once)


def bare_hops() -> float:
    """The median of waking another thread and being woken by it, in microseconds."""
    there, back = threading.Lock(), threading.Lock()
    there.acquire()
    back.acquire()

    def answer() -> None:
        for _ in range(CALLS):
            there.acquire()
            back.release()

    def once() -> None:
        there.release()
        back.acquire()

    thread = threading.Thread(target=answer)
    thread.start()
    took = median_us(once)
    thread.join()
    return took


def median_us(once) -> float:
    """The median time of `once`."""
    times = []
    for _ in range(CALLS):
        began = time.perf_counter_ns()
        once()
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times) / 1000


def busy_lanes(callers: int) -> dict[str, float]:
    """Two lanes under so many callers: rows against what two would do that never wait, p50 and p99 in ms."""
    lanes = [Nothing(row_seconds=ROW_SECONDS) for _ in range(2)]
    batcher = Batcher(lanes, BatchingConfig(), SystemClock(), name="bench")
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()
    times: list[float] = []
    stop = time.perf_counter() + WINDOW_SECONDS

    def call() -> None:
        began = time.perf_counter()

        def then(_: object) -> None:
            times.append(time.perf_counter() - began)
            ended.put(None)

        batcher.submit({}, 1, then, key=1)

    for _ in range(callers):
        call()
    left = callers
    while left:
        ended.get()
        if time.perf_counter() < stop:
            call()
        else:
            left -= 1
    batcher.close()
    p50, p99 = np.percentile(times, (50, 99)) * 1000
    # The fixed part of a call is spread over as many rows as a lane could have at a time.
    ideal_seconds = ROW_SECONDS + CALL_SECONDS / min(max(callers / 2, 1), INTERFACE.batch_max)
    return {"busy": len(times) * ideal_seconds / 2 / WINDOW_SECONDS, "p50": p50, "p99": p99}


def show(report: dict[str, dict[str, float]]) -> None:
    """Print the round trips, and one line a number of callers."""
    print("round trip us:", ", ".join(f"{n} {us:.1f}" for n, us in report["round trip"].items()))
    print(f"{'callers':>8} {'busy':>6} {'p50 ms':>8} {'p99 ms':>8}")
    for callers in map(str, CALLERS):
        row = report[callers]
        print(f"{callers:>8} {row['busy']:6.2f} {row['p50']:8.1f} {row['p99']:8.1f}")


if __name__ == "__main__":
    show(run())
