"""A deliberate illegal access: what it costs, and that everything comes back."""

import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from appliance.errors import GpuLost
from tests.hardware.checks.ground import BROKEN, Ground, batch, through, views
from tests.hardware.checks.outcome import Told

ABOUT = "an illegal access while another lane runs: one error each, a new process, everything back, honest standing"
TURNS = 3


def check(ground: Ground, told: Told) -> None:
    """Break it a few times beside a lane that goes on."""
    with tempfile.TemporaryDirectory() as directory, ground.owner(lanes=2) as owner:
        engine = owner.load(ground.standin(Path(directory) / "engine", 64, 2))
        lanes = [engine.lane(), engine.lane()]
        numbers = [lane.install(batch(2, 64)) for lane in lanes]
        outcomes: list[str] = []
        over = threading.Event()

        def go_on() -> None:
            source, result = views(lanes[1], 2, 64)
            source[:] = 1.0
            while not over.is_set():
                try:
                    lanes[1].run(numbers[1])
                    outcomes.append(
                        "right" if np.array_equal(result, through(source, 2)) else "wrong"
                    )
                except GpuLost:
                    outcomes.append("lost")

        threads = ThreadPoolExecutor(1)
        beside = threads.submit(go_on)
        waits = []
        source, result = views(lanes[0], 2, 64)
        try:
            for _ in range(TURNS):
                source[:] = BROKEN
                try:
                    lanes[0].run(numbers[0])
                except GpuLost:
                    began = time.perf_counter()
                else:
                    raise AssertionError("an illegal access went unnoticed")
                source[:] = 5.0
                lanes[0].run(numbers[0])  # waits for the new process
                waits.append(time.perf_counter() - began)
                assert np.array_equal(result, through(source, 2)), "a result is wrong afterwards"
        finally:
            over.set()
            threads.shutdown()
        beside.result()  # raises what it raised
        standing = owner.standing()
    assert "wrong" not in outcomes
    assert "right" in outcomes, "nothing beside it was answered"
    assert outcomes.count("lost") <= TURNS, outcomes.count("lost")
    assert standing.restarts == TURNS, standing
    told.figure("until the next run is answered, longest", max(waits), "s")
    told.figure("runs beside it that were answered", outcomes.count("right"), "")
    told.figure("runs beside it that were lost", outcomes.count("lost"), "")
