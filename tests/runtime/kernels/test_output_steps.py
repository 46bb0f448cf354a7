"""Each kernel of scores and boxes compiled gives what the same function gives as plain Python."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runtime.kernels import box_steps, output_steps
from runtime.kernels.compiled import (
    DOUBLE,
    FLAG,
    INTEGER,
    SINGLE,
    compiled,
    integers,
    reads,
    writes,
)

F, INDEX = np.float32, np.int64
RANDOM = np.random.default_rng(7)
SCORES = RANDOM.integers(-4, 4, (3, 6)).astype(F)
SCORES[1, :3] = np.nan
MANY = RANDOM.random((2, 40, 3), F)
MANY[0, 3], MANY[1, 4, 1] = np.nan, 0.5
BOXES = np.ascontiguousarray(np.sort(RANDOM.integers(0, 9, (2, 40, 4)), axis=-1), F)
BOXES[0, 7, 2], BOXES[0, 8, 1], BOXES[1, 9] = np.nan, np.inf, 0.0
PLACED = np.array([[2.0, -1.0, 0.5, 3.0, 9.0, 5.0], [1.0, 0.0, 1.0, 0.0, 4.0, 4.0]])
READ, MADE = reads(F, 3), writes(F, 3)


def both(kernel: Callable[..., None], types: tuple[Any, ...], *given: Any, made: list[Any]) -> Any:
    """What `kernel` writes to arrays like `made`, as plain Python and as machine code."""
    plain, machine = [array.copy() for array in made], [array.copy() for array in made]
    with np.errstate(all="ignore"):
        kernel(*_filled(given, plain))
    compiled(kernel, *types)(*_filled(given, machine))
    return zip(machine, plain, strict=True)


def _filled(given: tuple[Any, ...], made: list[Any]) -> list[Any]:
    """The arguments, with the next of `made` for each `...`."""
    left = iter(made)
    return [next(left) if argument is ... else argument for argument in given]


@pytest.mark.parametrize("kernel", [output_steps.softmax, output_steps.sigmoid])
def test_probabilities(kernel: Any) -> None:
    types = (reads(F, 2), writes(F, 2))
    for machine, plain in both(kernel, types, SCORES, ..., made=[np.zeros((3, 6), F)]):
        np.testing.assert_array_max_ulp(machine, plain, maxulp=1)


@pytest.mark.parametrize(("kernel", "width"), [(output_steps.argmax, 1), (output_steps.top_k, 4)])
def test_indices(kernel: Any, width: int) -> None:
    types = (reads(F, 2), writes(INDEX, 2))
    for machine, plain in both(kernel, types, SCORES, ..., made=[np.zeros((3, width), INDEX)]):
        np.testing.assert_array_equal(machine, plain)


@pytest.mark.parametrize("form", [box_steps.XYXY, box_steps.CXCYWH, box_steps.XYWH, box_steps.YXYX])
def test_forms(form: int) -> None:
    types = (READ, MADE, INTEGER, SINGLE, SINGLE)
    given = (BOXES, ..., form, F(1.5), F(2.0))
    for machine, plain in both(box_steps.reform, types, *given, made=[np.zeros_like(BOXES)]):
        np.testing.assert_array_equal(machine, plain)


@pytest.mark.parametrize("strides", [(70, 1), (1, 8)])
def test_heads(strides: tuple[int, int]) -> None:
    head = RANDOM.random((2, 8 * 70), F)
    types = (reads(F, 2), MADE, MADE, integers(2), FLAG, INTEGER)
    given = (head, ..., ..., strides, True, box_steps.CXCYWH)
    made = [np.zeros((2, 70, 4), F), np.zeros((2, 70, 3), F)]
    for machine, plain in both(box_steps.split_head, types, *given, made=made):
        np.testing.assert_array_equal(machine, plain)
        assert plain.any()


def test_anchors() -> None:
    anchors = RANDOM.random((40, 4))
    types = (READ, reads(np.float64, 2), DOUBLE, DOUBLE, MADE)
    given = (np.ascontiguousarray(MANY[..., [0, 1, 2, 2]]), anchors, 0.1, 0.2, ...)
    for machine, plain in both(box_steps.move_anchors, types, *given, made=[np.zeros_like(BOXES)]):
        np.testing.assert_array_max_ulp(machine, plain, maxulp=1)


@pytest.mark.parametrize("every_class", [False, True])
@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("candidates", [12, 500])
def test_suppression(every_class: bool, agnostic: bool, candidates: int) -> None:
    options = (SINGLE, DOUBLE, INTEGER, FLAG, FLAG)
    scratch = (writes(F, 1), writes(INDEX, 1))
    kept = (MADE, writes(F, 2), writes(INDEX, 2), writes(INDEX, 2))
    given = (BOXES, MANY, F(0.3), 0.4, 1, every_class, agnostic, ..., ..., ..., ..., ..., ...)
    made = [
        np.zeros(candidates, F),
        np.zeros(candidates, INDEX),
        np.full((2, 10, 4), 9, F),
        np.full((2, 10), 9, F),
        np.full((2, 10), 9, INDEX),
        np.zeros((2, 1), INDEX),
    ]
    types = (READ, READ, *options, *scratch, *kept)
    for machine, plain in both(box_steps.suppress, types, *given, made=made):
        np.testing.assert_array_equal(machine, plain)
        assert plain.any()


def test_rescaling() -> None:
    types = (READ, reads(np.float64, 2), MADE)
    made = [np.ones_like(BOXES)]
    for machine, plain in both(box_steps.rescale, types, BOXES, PLACED, ..., made=made):
        np.testing.assert_array_equal(machine, plain)
        assert np.isnan(plain[0, 7, 2])
        assert plain[0, 8, 1] == 5.0
        assert not plain[1, 9].any()
