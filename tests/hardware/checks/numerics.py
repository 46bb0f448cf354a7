"""The recipe's kernels on the device against the CPU's, to the bit."""

import tempfile
from pathlib import Path

import numpy as np

from tests.gpu.image_cases import on_processor
from tests.gpu.standin import Plan, write_standin
from tests.hardware.checks.ground import Ground
from tests.hardware.checks.kernels import layer
from tests.hardware.checks.outcome import Told
from tests.hardware.checks.parts import LAST, METHODS, Case, laid, noise, resized

ABOUT = "image kernels: every method, fit and pixel type, equal to the CPU's kernels to the bit"


def check(ground: Ground, told: Told) -> None:
    """Run each case through the owner, as it is served."""
    cases = ground.sized(_cases(97, 131, 64), _cases(5, 7, 4)[:3])
    sources = [layer, *(source for case in cases for source in case.part.kernels())]
    modules, names = ground.compiled(sources)
    with tempfile.TemporaryDirectory() as directory, ground.owner() as owner:
        path = Path(directory) / "engine"
        plan = Plan(image=modules[0].image, width=1, layers=((1.0, 0.0),))
        write_standin(path, plan, compiled=modules, kernels=names)
        lane = owner.load(path).lane()
        for case in cases:
            placed = laid(case)
            number = lane.install(placed.program)
            wanted, _ = on_processor(case.raw, case.steps)
            for turn in range(3):  # as written twice, then as a graph
                np.ndarray(case.raw.shape, case.raw.dtype, lane.slot)[:] = case.raw
                lane.run(number)
                found = np.ndarray(placed.shape, placed.dtype, lane.slot, placed.at)
                assert np.array_equal(found, wanted), f"{case.name}, turn {turn}: not equal"
                found[:] = 0
            lane.forget(number)
    told.figure("cases equal to the bit", len(cases), "")


def _cases(height: int, width: int, side: int) -> list[Case]:
    cases = []
    for dtype in (np.uint8, np.float32):
        raw = noise(dtype, 3, height, width, 3)
        name = np.dtype(dtype).name
        cases.append(Case(f"{name} as sent", raw, LAST))
        for method, like in METHODS:
            for fit in ("stretch", "letterbox", "cover"):
                step = resized(method, like, side, side + 9, fit)
                cases.append(Case(f"{name} {method} like {like}, {fit}", raw, (step, *LAST)))
    return cases
