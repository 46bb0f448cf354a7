"""Each kernel compiled gives what the same function gives as plain Python."""

from typing import Any

import numpy as np
import pytest

from runtime.kernels import steps
from runtime.kernels.compiled import FLAG, INTEGER, compiled, integers, reads, writes

F, INDEX = np.float32, np.int64
RANDOM = np.random.default_rng(7)
SCALE, SHIFT = np.array([0.5, 2.0], F), np.array([-1.0, 3.0], F)
CONSTANTS = reads(F, 1)


def image(dtype: Any, *shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.integers(0, 255, shape).astype(dtype)


CASES: dict[str, tuple[Any, tuple[Any, ...], tuple[int, int], tuple[Any, ...]]] = (
    {
        f"resize to {'CHW' if chw else 'HWC'}": (
            steps.resize_image,
            (
                reads(np.uint8, 3),
                writes(F, 2),
                INTEGER,
                integers(2),
                integers(4),
                *[CONSTANTS] * 2,
                FLAG,
            ),
            (2, 40),
            (image(np.uint8, 2, 3, 14), 2, (4, 5), (1, 0, 2, 5), SCALE, SHIFT, chw),
        )
        for chw in (True, False)
    }
    | {
        f"normalise to {'CHW' if chw else 'HWC'}": (
            steps.normalise_image,
            (reads(F, 3), writes(F, 2), CONSTANTS, CONSTANTS, FLAG),
            (2, 18),
            (image(F, 2, 9, 2), SCALE, SHIFT, chw),
        )
        for chw in (True, False)
    }
    | {
    }
)


@pytest.mark.parametrize(("kernel", "types", "shape", "given"), CASES.values(), ids=CASES.keys())
def test_floats(
    kernel: Any, types: tuple[Any, ...], shape: tuple[int, int], given: tuple[Any, ...]
) -> None:
    plain, machine = np.zeros(shape, F), np.zeros(shape, F)
    kernel(given[0], plain, *given[1:])
    compiled(kernel, *types)(given[0], machine, *given[1:])
    np.testing.assert_array_max_ulp(machine, plain, maxulp=0)
    assert plain.any()
