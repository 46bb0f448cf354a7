"""Input tensors by the protocol's field rules, as stock clients send them."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from appliance.errors import RequestError
from appliance.tensors import DataType
from runtime.codec import raw_bytes
from tests.runtime.codec.messages import arrays, decoded, request_with

NUMBERS = [datatype for datatype in DataType if datatype is not DataType.BYTES]
TYPED = {
    DataType.BOOL: "bool_contents",
    DataType.INT8: "int_contents",
    DataType.INT16: "int_contents",
    DataType.INT32: "int_contents",
    DataType.INT64: "int64_contents",
    DataType.UINT8: "uint_contents",
    DataType.UINT16: "uint_contents",
    DataType.UINT32: "uint_contents",
    DataType.UINT64: "uint64_contents",
    DataType.FP32: "fp32_contents",
    DataType.FP64: "fp64_contents",
}


@given(st.data())
def test_raw_tensors_of_every_number_type_come_through_bit_for_bit(data):
    datatype = data.draw(st.sampled_from(NUMBERS))
    array = data.draw(hnp.arrays(datatype.numpy, hnp.array_shapes(min_dims=0, min_side=0)))
    request = request_with([raw_bytes(array, datatype)], x=(datatype, list(array.shape)))
    found = arrays(request)["x"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


@given(st.data())
def test_typed_contents_come_through(data):
    datatype = data.draw(st.sampled_from(sorted(TYPED)))
    array = data.draw(hnp.arrays(datatype.numpy, hnp.array_shapes(max_dims=3)))
    request = request_with(x=(datatype, list(array.shape)))
    getattr(request.inputs[0].contents, TYPED[datatype]).extend(array.ravel().tolist())
    np.testing.assert_array_equal(arrays(request)["x"], array)


@given(st.lists(st.binary(max_size=20)))
def test_strings_are_read_and_written_as_the_stock_client_does(items):
    array = np.array(items, dtype=np.object_)
    sent = serialize_byte_tensor(array).item() if items else b""
    found = arrays(request_with([sent], x=("BYTES", [len(items)])))["x"]
    assert list(found) == items
    assert list(deserialize_bytes_tensor(raw_bytes(found, DataType.BYTES))) == items
    typed = request_with(x=("BYTES", [len(items)]))
    typed.inputs[0].contents.bytes_contents.extend(items)
    assert list(arrays(typed)["x"]) == items


def test_raw_contents_are_views_into_the_message():
    message = request_with([bytes(400)], x=("FP32", [1, 100])).SerializeToString()
    reading = decoded(message)
    array = reading.arrays(reading.heads())["x"]
    assert np.shares_memory(array, np.frombuffer(message, np.uint8))
    assert not array.flags.writeable


def test_raw_entries_belong_to_inputs_by_order():
    request = request_with([b"\1", b"\2\0"], a=("UINT8", [1]), b=("UINT16", [1]))
    assert {name: array.tolist() for name, array in arrays(request).items()} == {"a": [1], "b": [2]}


def test_surplus_raw_entries_are_ignored_as_triton_does():
    assert list(arrays(request_with([b"1", b"2"], x=("UINT8", [1])))) == ["x"]


@pytest.mark.parametrize("raw", [[], [b""]], ids=["no entry", "an empty entry"])
@pytest.mark.parametrize("datatype", ["FP32", "BYTES", "FP16"])
def test_a_tensor_without_elements_needs_no_data(datatype, raw):
    assert arrays(request_with(raw, x=(datatype, [2, 0])))["x"].shape == (2, 0)


def test_a_scalar_has_no_dimensions():
    assert arrays(request_with([b"\7"], x=("UINT8", [])))["x"] == 7


def refusals():
    def case(message, request):
        return pytest.param(request, message, id=message[:40])

    def typed(datatype, count=1, **fields):
        request = request_with(x=(datatype, [count]))
        for name, values in fields.items():
            getattr(request.inputs[0].contents, name).extend(values)
        return request

    yield case(
        "input byte size mismatch for input 'x' for model 'm'. Expected 8, got 4",
        request_with([b"1234"], x=("FP32", [2])),
    )
    yield case(
        "unable to find data for input tensor 'y' for model 'm' in request.",
        request_with([b"1"], x=("UINT8", [1]), y=("UINT8", [1])),
    )
    yield case(
        "unable to find data for input tensor 'x' for model 'm' in request.",
        request_with(x=("UINT8", [1])),
    )
    yield case("has unknown data-type 'FLOAT'", request_with([b"1234"], x=("FLOAT", [1])))
    yield case("has a negative shape", request_with([b"1234"], x=("FP32", [-1])))
    yield case("incomplete string length indicator", request_with([b"\1\0"], x=("BYTES", [1])))
    yield case(
        "incomplete string data", request_with([struct.pack("<I", 9) + b"ab"], x=("BYTES", [1]))
    )
    yield case(
        "unexpected number of string elements 1",
        request_with([struct.pack("<I", 1) + b"a"], x=("BYTES", [2])),
    )
    yield case("unexpected number of string elements 2", typed("BYTES", bytes_contents=[b"", b""]))
    both = typed("FP32", fp32_contents=[1.0])
    both.raw_input_contents.append(b"1234")
    yield case(
        "contents field must not be specified when using raw_input_contents for 'x' for model 'm'",
        both,
    )
    yield case(
        "unexpected explicit tensor data for input tensor 'x' for model 'm' of type 'FP32', "
        "expected datatype 'INT32'",
        typed("FP32", int_contents=[1]),
    )
    yield case(
        "unexpected explicit tensor data for input tensor 'x' for model 'm', "
        "binary data was already supplied.",
        typed("INT32", int_contents=[1], fp32_contents=[1.0]),
    )
    yield case("of type 'FP16', expected datatype 'FP32'", typed("FP16", fp32_contents=[1.0]))
    yield case("Expected 12, got 4", typed("FP32", 3, fp32_contents=[1.0]))
    yield case("does not fit INT8", typed("INT8", int_contents=[300]))
    twice = request_with([b"1", b"2"], x=("UINT8", [1]))
    twice.inputs.add(name="x", datatype="UINT8", shape=[1])
    yield case("input 'x' already exists in request", twice)


@pytest.mark.parametrize(("request_", "message"), list(refusals()))
def test_what_contradicts_itself_is_refused_in_words_clients_know(request_, message):
    with pytest.raises(RequestError) as refused:
        arrays(request_)
    assert message in str(refused.value)


def test_contents_that_are_there_but_empty_lack_their_elements():
    request = request_with(x=("FP32", [1]))
    request.inputs[0].contents.SetInParent()
    with pytest.raises(RequestError, match="Expected 4, got 0"):
        arrays(request)


@pytest.mark.parametrize(
    "shape", [[2**62] * 50_000, [1] * 65, [0, 10**18, 10**18, 1], [2**62] * 32]
)
@pytest.mark.parametrize("datatype", ["UINT8", "BYTES"])
@pytest.mark.parametrize("raw", [[b"x"], [b""], []])
def test_claims_about_shapes_cost_nothing(shape, datatype, raw):
    with pytest.raises(RequestError):
        arrays(request_with(raw, x=(datatype, shape)))


def test_strings_beyond_the_shape_are_not_read():
    with pytest.raises(RequestError, match="unexpected number of string elements 2 "):
        arrays(request_with([bytes(4_000_000)], x=("BYTES", [1])))
