"""Tensor specs and interfaces: what fits."""

import numpy as np
import pytest

from appliance.errors import RequestError, RequestLimit
from appliance.tensors import DataType, Interface, TensorSpec, datatype_of

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
