"""Arrays to the wire and back."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from appliance.errors import ApplianceError, RequestError
from appliance.tensors import DataType
from runtime.client import BFloat16
from runtime.client.tensors import array_from_raw, array_from_values, raw_from_array

NUMBERS = [datatype.numpy for datatype in DataType if datatype is not DataType.BYTES]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
TEXTS = st.one_of(st.binary(max_size=300), st.text(max_size=80))


def there_and_back(array):
    raw = raw_from_array("x", array)
    return array_from_raw("x", raw.datatype, raw.shape, bytes(raw.data))


@given(st.sampled_from(NUMBERS).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES)))
def test_numbers_come_back_as_they_went(array):
    back = there_and_back(array)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array, strict=True)


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_bytes_on_the_wire_are_little_endian_in_row_order(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    wanted = array.astype(dtype.newbyteorder("<")).tobytes()
    for same in (array, np.asfortranarray(array), array.astype(dtype.newbyteorder(">"))):
        raw = raw_from_array("x", same)
        assert (raw.shape, bytes(raw.data)) == ((2, 3), wanted)
        assert raw.datatype == raw_from_array("x", array).datatype


def test_a_large_array_is_viewed_and_not_copied():
    array = np.zeros((4, 5), np.float32)
    raw = raw_from_array("x", array)
    assert np.shares_memory(np.frombuffer(raw.data, np.uint8), array)


@given(arrays.arrays(np.object_, SHAPES, elements=TEXTS))
def test_texts_come_back_as_bytes(array):
    back = there_and_back(array)
    assert back.shape == array.shape
    as_bytes = [item.encode() if isinstance(item, str) else item for item in array.ravel()]
    assert list(back.ravel()) == as_bytes


@pytest.mark.parametrize("array", [np.array(["é", "zz"]), np.array(["é".encode(), b"zz"])])
def test_texts_of_fixed_width_are_texts(array):
    raw = raw_from_array("x", array)
    assert (raw.datatype, bytes(raw.data)) == ("BYTES", b"\2\0\0\0\xc3\xa9\2\0\0\0zz")


@given(arrays.arrays(np.float32, SHAPES, elements=st.floats(width=32)))
def test_bf16_rounds_as_ml_dtypes_does(array):
    raw = raw_from_array("x", BFloat16(array))
    with np.errstate(invalid="ignore", over="ignore"):
        near = array.astype(ml_dtypes.bfloat16)
    assert (raw.datatype, raw.shape) == ("BF16", array.shape)
    back = array_from_raw("x", "BF16", raw.shape, bytes(raw.data))
    np.testing.assert_array_equal(back, near.astype(np.float32), strict=True)
    assert raw_from_array("x", near).datatype == "BF16"
    np.testing.assert_array_equal(there_and_back(near), near.astype(np.float32), strict=True)


def test_other_floats_travel_as_bf16_too():
    for values in (np.array([1.0, 2.5]), np.float16(0.5)):
        raw = raw_from_array("x", BFloat16(values))
        back = array_from_raw("x", raw.datatype, raw.shape, bytes(raw.data))
        np.testing.assert_array_equal(back, np.asarray(values, np.float32))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.zeros(2, np.complex64), "array of complex64"),
        (np.array(["2026-01-01"], "datetime64[D]"), "array of datetime64"),
        (np.array([b"a", 3], object), "holds a int"),
        (np.array([None]), "holds a NoneType"),
    ],
)
def test_what_cannot_travel_is_refused_by_name(value, told):
    with pytest.raises(RequestError, match=f"input 'x'.*{told}"):
        raw_from_array("x", value)


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("FP32", (2,), bytes(7)),
        ("FP32", (2,), bytes(4)),
        ("FP33", (1,), bytes(4)),
        ("BYTES", (1,), b"\1\0"),
        ("BYTES", (1,), b"\2\0\0\0a"),
        ("BYTES", (2,), b"\1\0\0\0a"),
        ("BF16", (1,), bytes(4)),
    ],
)
def test_an_output_that_contradicts_itself_is_refused(datatype, shape, data):
    with pytest.raises(ApplianceError, match=f"output 'y' is no {datatype} of shape"):
        array_from_raw("y", datatype, shape, data)


def test_typed_values_become_the_same_arrays():
    np.testing.assert_array_equal(
        array_from_values("y", "INT8", (2, 1), [1, -2]), np.array([[1], [-2]], np.int8), strict=True
    )
    texts = array_from_values("y", "BYTES", (2,), [b"a", b""])
    assert texts.tolist() == [b"a", b""]
    assert array_from_values("y", "FP64", (0, 3), []).shape == (0, 3)
    for values in ([300], [1, 2]):
        with pytest.raises(ApplianceError, match="output 'y'"):
            array_from_values("y", "UINT8", (1,), values)
