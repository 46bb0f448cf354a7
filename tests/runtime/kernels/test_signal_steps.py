"""Each signal kernel compiled gives what the same function gives as plain Python."""

from typing import Any

import numpy as np
import pytest

from runtime.kernels import signal_steps as steps
from runtime.kernels.compiled import DOUBLE, FLAG, INTEGER, compiled, reads, writes

F, D = np.float32, np.float64
RANDOM = np.random.default_rng(7)
SAMPLES = RANDOM.normal(size=(20, 2)).astype(F)
BINS = RANDOM.normal(size=(3, 8))
BINS[1, 2] = np.nan
WEIGHTS, REACHED = RANDOM.random(3), np.array([[1, 4, 0], [0, 0, 3]])
TURNED = "plain", "transposed"
CASES: dict[str, tuple[Any, tuple[Any, ...], Any, int, tuple[Any, ...]]] = {
    **{
        f"scale_samples, {TURNED[turned]}": (
            steps.scale_samples,
            (reads(F, 2), writes(F, 2), DOUBLE, DOUBLE, FLAG),
            np.zeros((2, 20) if turned else (20, 2), F),
            1,
            (SAMPLES, 0.5, 2.0, turned),
        )
        for turned in (False, True)
    },
    **{
        f"cut_frames, mirrored {mirrored}": (
            steps.cut_frames,
            (
                *(reads(F, 2), INTEGER, writes(D, 2), reads(D, 1)),
                *(INTEGER, INTEGER, FLAG, reads(D, 1)),
            ),
            np.zeros((6, 10)),
            2,
            (SAMPLES, 1, np.arange(8.0), -4, 4, mirrored, np.array([2.0, 1.0, 3.0, 0.5])),
        )
        for mirrored in (False, True)
    },
    **{
        f"measure_bins, power {power}": (
            steps.measure_bins,
            (reads(D, 2), writes(D, 2), FLAG, DOUBLE, DOUBLE),
            np.zeros((3, 4)),
            1,
            (BINS, power, 2.0, 0.5),
        )
        for power in (False, True)
    },
    "sum_bands": (
        steps.sum_bands,
        (reads(D, 2), writes(D, 2), reads(D, 1), reads(np.int64, 2), DOUBLE, DOUBLE),
        np.zeros((3, 2)),
        1,
        (BINS, WEIGHTS, REACHED, 2.0, 0.5),
    ),
    **{
        f"finish, {TURNED[turned]}": (
            steps.finish,
            (reads(D, 2), writes(F, 2), INTEGER, FLAG, DOUBLE, DOUBLE),
            np.zeros((8, 5) if turned else (5, 8), F),
            1,
            (BINS, 2, turned, 2.0, 0.5),
        )
        for turned in (False, True)
    },
    "limit_range": (
        steps.limit_range,
        (writes(F, 2), DOUBLE, DOUBLE, DOUBLE),
        BINS.astype(F),
        0,
        (0.5, 2.0, 1.0),
    ),
}


@pytest.mark.parametrize(
    ("kernel", "types", "made", "at", "given"), CASES.values(), ids=CASES.keys()
)
def test_compiled_and_plain(
    kernel: Any, types: tuple[Any, ...], made: Any, at: int, given: tuple[Any, ...]
) -> None:
    """`at` is where what is made stands among the arguments."""
    plain, machine = made.copy(), made.copy()
    kernel(*given[:at], plain, *given[at:])
    compiled(kernel, *types)(*given[:at], machine, *given[at:])
    np.testing.assert_allclose(machine, plain, rtol=1e-15 if plain.dtype == D else 1e-7)
    assert plain.any()
