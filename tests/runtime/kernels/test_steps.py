"""Each kernel compiled gives what the same function gives as plain Python."""

from typing import Any

import numpy as np
import pytest

from runtime.kernels import steps
from runtime.kernels.compiled import FLAG, INTEGER, compiled, integers, reads, writes

F, INDEX = np.float32, np.int64
RANDOM = np.random.default_rng(7)
SCORES = RANDOM.integers(-4, 4, (3, 6)).astype(F)
SCORES[1, :3] = np.nan
SCALE, SHIFT = np.array([0.5, 2.0], F), np.array([-1.0, 3.0], F)
CONSTANTS = reads(F, 1)
TABLE = np.array([[1.0, np.nan], [4.0, 2.0]], F)
SOURCE, FIRST = np.array([1, 0, 0]), np.array([0, 2, 3, 3])
OPERATION = np.array([steps.FILL, steps.STANDARDISE, steps.EQUALS])
LEFT, RIGHT = np.array([5.0, 1.0, 4.0], F), np.array([0.0, 3.0, 0.0], F)


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
        "table": (
            steps.run_table,
            (reads(F, 2), writes(F, 2), *[reads(INDEX, 1)] * 3, CONSTANTS, CONSTANTS),
            (2, 3),
            (TABLE, SOURCE, FIRST, OPERATION, LEFT, RIGHT),
        ),
        "softmax": (steps.softmax, (reads(F, 2), writes(F, 2)), (3, 6), (SCORES,)),
    }
)


@pytest.mark.parametrize(("kernel", "types", "shape", "given"), CASES.values(), ids=CASES.keys())
def test_floats(
    kernel: Any, types: tuple[Any, ...], shape: tuple[int, int], given: tuple[Any, ...]
) -> None:
    plain, machine = np.zeros(shape, F), np.zeros(shape, F)
    kernel(given[0], plain, *given[1:])
    compiled(kernel, *types)(given[0], machine, *given[1:])
    np.testing.assert_array_max_ulp(machine, plain, maxulp=1 if kernel is steps.softmax else 0)
    assert plain.any()


@pytest.mark.parametrize("kernel", [steps.argmax, steps.top_k])
def test_indices(kernel: Any) -> None:
    width = 1 if kernel is steps.argmax else 4
    plain, machine = np.zeros((3, width), INDEX), np.zeros((3, width), INDEX)
    kernel(SCORES, plain)
    compiled(kernel, reads(F, 2), writes(INDEX, 2))(SCORES, machine)
    np.testing.assert_array_equal(machine, plain)
