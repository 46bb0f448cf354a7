"""Copies beside kernels: one lane against two, each on a stream of its own."""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from runtime.gpu.opened import Lane
from tests.hardware.checks.ground import Ground, batch, through, views
from tests.hardware.checks.outcome import Told

ABOUT = "batches a second of one lane, of two and of three, whose copies and kernels take turns"


def check(ground: Ground, told: Told) -> None:
    """Drive each number of lanes with as many threads."""
    rows, width, layers, runs = ground.sized((1024, 8192, 24, 60), (2, 8, 2, 4))
    with tempfile.TemporaryDirectory() as directory, ground.owner(lanes=3) as owner:
        engine = owner.load(ground.standin(Path(directory) / "engine", width, layers))
        lanes = [engine.lane() for _ in range(3)]
        numbers = [lane.install(batch(rows, width)) for lane in lanes]
        x = np.random.default_rng(3).random((rows, width), np.float32)
        for lane, number in zip(lanes, numbers, strict=True):
            source, result = views(lane, rows, width)
            source[:] = x
            for _ in range(3):
                lane.run(number)
            assert np.array_equal(result, through(x, layers)), "a result is wrong"
        alone = 0.0
        for count in (1, 2, 3):
            rate = _rate(lanes[:count], numbers[:count], runs)
            alone = alone or rate
            told.figure(f"{count} lanes: batches", rate, "/s")
            told.figure(f"{count} lanes: against one", rate / alone, "")
        for lane in lanes:
            _, result = views(lane, rows, width)
            assert np.array_equal(result, through(x, layers)), "a result is wrong side by side"


def _rate(lanes: list[Lane], numbers: list[int], runs: int) -> float:
    """Batches a second, all lanes together."""

    def drive(lane: Lane, number: int) -> None:
        for _ in range(runs):
            lane.run(number)

    began = time.perf_counter()
    with ThreadPoolExecutor(len(lanes)) as threads:
        list(threads.map(drive, lanes, numbers))  # raises what they raised
    return len(lanes) * runs / (time.perf_counter() - began)
