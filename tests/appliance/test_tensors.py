"""Tensor specs and interfaces: what fits."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RequestError, RequestLimit
from appliance.tensors import (
    AxisRange,
    DataType,
    Interface,
    TensorSpec,
    datatype_of,
    shapes_to_try,
)

IMAGE = TensorSpec(name="image", datatype=DataType.UINT8, shape=(-1, -1, 3))
SCORES = TensorSpec(name="scores", datatype=DataType.FP32, shape=(10,))


def interface(batch_max: int) -> Interface:
    return Interface(inputs=(IMAGE,), outputs=(SCORES,), batch_max=batch_max)


@pytest.mark.parametrize("datatype", list(DataType))
def test_every_datatype_has_one_numpy_twin(datatype):
    assert datatype_of(datatype.numpy) is datatype


def test_what_the_protocol_lacks_has_no_datatype():
    assert datatype_of(np.dtype(np.complex64)) is None


@pytest.mark.parametrize(
    ("shape", "fits"), [((4, 5, 3), True), ((4, 5, 1), False), ((4, 3), False), ((), False)]
)
def test_open_axes_take_any_length(shape, fits):
    assert IMAGE.fits(shape) is fits


def test_tensors_are_found_by_name():
    assert interface(0).input("image") is IMAGE
    assert interface(0).output("scores") is SCORES
    assert interface(0).input("scores") is None
    assert interface(0).output("image") is None


def test_the_wire_shape_shows_the_batch_axis():
    assert interface(8).wire_shape(SCORES) == (-1, 10)
    assert interface(0).wire_shape(SCORES) == (10,)


def test_rows_are_counted_and_limited():
    assert interface(8).check_shape(IMAGE, (8, 4, 5, 3), model="m") == 8
    assert interface(0).check_shape(IMAGE, (4, 5, 3), model="m") == 1
    with pytest.raises(RequestLimit) as refused:
        interface(8).check_shape(IMAGE, (9, 4, 5, 3), model="m")
    assert "<= 8" in str(refused.value)


@pytest.mark.parametrize("shape", [(), (4, 5, 3), (0, 4, 5, 3), (1, 4, 5, 4)])
def test_a_wrong_shape_is_told_as_triton_tells_it(shape):
    with pytest.raises(RequestError) as refused:
        interface(8).check_shape(IMAGE, shape, model="m")
    assert "unexpected shape for input 'image' for model 'm'. Expected [-1,-1,-1,3]" in str(
        refused.value
    )


SIDE = AxisRange(min=16, opt=64, max=512, step=16)
SIZED = TensorSpec(
    name="image", datatype=DataType.FP32, shape=(3, -1, -1), ranges=(None, SIDE, None)
)


def test_a_range_takes_its_steps_only():
    assert [length for length in (0, 15, 16, 24, 32, 512, 528) if length in SIDE] == [16, 32, 512]
    assert str(SIDE) == "16 to 512 by 16"
    assert str(AxisRange(min=1, opt=1, max=9)) == "1 to 9"


@pytest.mark.parametrize(
    "wrong",
    [
        {"min": 2, "opt": 1, "max": 3},
        {"min": 1, "opt": 4, "max": 3},
        {"min": -1, "opt": 1, "max": 3},
        {"min": 1, "opt": 2, "max": 5, "step": 2},
        {"min": 1, "opt": 3, "max": 4, "step": 2},
        {"min": 1, "opt": 3, "max": 4, "step": 0},
        {"min": 1, "opt": 3, "max": 2**40},
    ],
)
def test_ranges_that_make_no_sense_are_refused(wrong):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, AxisRange)


def test_ranges_are_of_open_axes():
    for shape, ranges in (((3, 4), (None, SIDE)), ((-1,), (None, SIDE))):
        with pytest.raises(ValueError, match="'x'"):
            TensorSpec(name="x", datatype=DataType.FP32, shape=shape, ranges=ranges)


def test_lengths_outside_a_range_do_not_fit():
    assert SIZED.fits((3, 64, 5))
    assert not SIZED.fits((3, 65, 5))
    assert not SIZED.fits((3, 528, 5))
    assert SIZED.fits((3, -1, -1))  # not known yet
    assert SIZED.lengths() == "[3, 16 to 512 by 16, any]"


def test_a_request_outside_a_range_is_told_what_is_taken():
    found = Interface(inputs=(SIZED,), outputs=(), batch_max=4)
    assert found.check_shape(SIZED, (2, 3, 32, 9), model="m") == 2
    with pytest.raises(RequestError) as refused:
        found.check_shape(SIZED, (2, 3, 600, 9), model="m")
    assert (
        "Expected [-1,3,-1,-1], got [2,3,600,9] ([3, 16 to 512 by 16, any] behind the rows)"
        in str(refused.value)
    )
    assert "16 to 512 by 16" in refused.value.remedy


def test_the_sizes_to_try_are_the_ends_and_an_odd_one():
    plain = TensorSpec(name="scale", datatype=DataType.FP32, shape=(2, -1))
    wide = AxisRange(min=2, opt=8, max=20)
    ranged = TensorSpec(name="x", datatype=DataType.FP32, shape=(-1,), ranges=(wide,))
    found = Interface(inputs=(ranged, plain), outputs=(), batch_max=0)
    tried = shapes_to_try(found)
    assert [shapes["x"] for shapes in tried] == [(8,), (2,), (20,), (11,)]
    assert all(shapes["scale"] == (2, -1) for shapes in tried)
    assert shapes_to_try(interface(8)) == ()


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(1, 7))
def test_every_size_to_try_is_one_that_is_taken(least, first, more, step):
    given_range = AxisRange(
        min=least, opt=least + first * step, max=least + (first + more) * step, step=step
    )
    spec = TensorSpec(name="x", datatype=DataType.FP32, shape=(-1,), ranges=(given_range,))
    tried = shapes_to_try(Interface(inputs=(spec,), outputs=(), batch_max=0))
    assert 1 <= len(tried) <= 4
    assert all(spec.fits(shapes["x"]) for shapes in tried)
    assert len({shapes["x"] for shapes in tried}) == len(tried)
