"""Loading and closing engines over and over, and what happens when there is no room."""

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import numpy as np

from appliance.errors import GpuMemory
from runtime.gpu.owner import Lane, Owner
from runtime.gpu.program import Program
from tests.hardware.checks.ground import Ground, batch, through, views
from tests.hardware.checks.outcome import Told

ABOUT = "50 swaps beside a lane that is served all the while, memory back to its level, admission with both numbers, eviction"
SWAPS = 50
ALONE = 200  # runs to compare with
WARM = 5  # swaps until the served lane has its graph and the driver its pools
# What the driver may keep for itself. It gives memory in pieces of 2 MiB: one that stayed at each swap would be 90 MiB.
LEVEL_BYTES = 16 << 20


def check(ground: Ground, told: Told) -> None:
    """Swap, overfill, evict."""
    weights = ground.sized(256 << 20, 1 << 20)
    with tempfile.TemporaryDirectory() as directory, ground.owner() as owner:
        path = ground.standin(Path(directory) / "engine", 64, 3, resident=weights)
        served = owner.load(path).lane()
        number = served.install(batch(4, 64))
        before = 0
        alone = [_timed(served, number) for _ in range(ALONE)]
        with _run_all_the_while(served, number) as seconds:
            for swap in range(SWAPS):
                _swap(owner, path, swap)
                if swap == WARM - 1:
                    before = owner.standing().free_bytes
        lost = before - owner.standing().free_bytes
        told.figure("a run alone: median", float(np.median(alone)) * 1e6, "us")
        told.figure("a run beside swaps: median", float(np.median(seconds)) * 1e6, "us")
        told.figure("a run beside swaps: longest", max(seconds) * 1e3, "ms")
        told.goal(
            f"memory missing after {SWAPS - WARM} further swaps",
            lost / (1 << 20),
            "MiB",
            "at most 16",
            lambda missing: missing * (1 << 20) <= LEVEL_BYTES,
        )
        _overfill(owner, served.engine.path, told)
        served.run(number)


def _swap(owner: Owner, path: Path, number: int) -> None:
    """Load an engine, see a right result of it, and close it."""
    engine = owner.load(path)
    lane = engine.lane()
    fresh = lane.install(batch(16, 64))
    source, result = views(lane, 16, 64)
    source[:] = number
    lane.run(fresh)
    assert np.array_equal(result, through(source, 3)), "a result is wrong"
    engine.close()


def _timed(lane: Lane, number: int) -> float:
    """One run, and the seconds that it took."""
    begin = time.perf_counter()
    lane.run(number)
    return time.perf_counter() - begin


@contextmanager
def _run_all_the_while(lane: Lane, number: int) -> Iterator[list[float]]:
    """One run after the other on another thread, and what each took."""
    seconds: list[float] = []
    over = Event()

    def run() -> None:
        while not (over.is_set() and seconds):
            seconds.append(_timed(lane, number))

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield seconds
        finally:
            over.set()
        running.result()


def _overfill(owner: Owner, path: Path, told: Told) -> None:
    """What does not fit is refused in words; engines without a lane make room first."""
    total = owner.standing().total_bytes
    idle = owner.load(path)
    busy = owner.load(path)
    lane = busy.lane()
    try:
        lane.install(Program(steps=(), slot_bytes=0, arena_bytes=total))
    except GpuMemory as refused:
        told.note(f"refused as it should be: {refused}")
    else:
        raise AssertionError("more memory than there is was admitted")
    assert idle.evicted, "the engine that nobody served did not make room"
    assert not busy.evicted
    again = idle.lane()
    again.run(again.install(batch(1, 64)))
    for engine in (idle, busy):
        engine.close()
