"""The wire codec against messages as stock clients make them."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.grpc import service_pb2 as oip
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from appliance.errors import RequestError
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.codec import WireTensors, call_from, chosen_outputs, encode, raw_bytes, raw_tensors

NUMBERS = [datatype for datatype in DataType if datatype is not DataType.BYTES]
TYPED = {
    DataType.BOOL: "bool_contents",
    DataType.INT8: "int_contents",
    DataType.INT32: "int_contents",
    DataType.INT64: "int64_contents",
    DataType.UINT16: "uint_contents",
    DataType.UINT64: "uint64_contents",
    DataType.FP32: "fp32_contents",
    DataType.FP64: "fp64_contents",
}


def decode(request):
    tensors = WireTensors(request)
    return tensors.arrays(tensors.heads())


def request_with(raw: list[bytes] = (), **tensors: tuple[str, list[int]]):
    request = oip.ModelInferRequest(model_name="m", raw_input_contents=raw)
    for name, (datatype, shape) in tensors.items():
        request.inputs.add(name=name, datatype=datatype, shape=shape)
    return request


@given(st.data())
def test_raw_tensors_of_every_number_type_come_through_bit_for_bit(data):
    datatype = data.draw(st.sampled_from(NUMBERS))
    array = data.draw(hnp.arrays(datatype.numpy, hnp.array_shapes(min_dims=0, min_side=0)))
    request = request_with([raw_bytes(array, datatype)], x=(datatype, list(array.shape)))
    decoded = decode(request)["x"]
    assert decoded.dtype == array.dtype
    assert decoded.shape == array.shape
    assert decoded.tobytes() == array.tobytes()


@given(st.data())
def test_typed_contents_come_through(data):
    datatype = data.draw(st.sampled_from(sorted(TYPED)))
    array = data.draw(hnp.arrays(datatype.numpy, hnp.array_shapes(max_dims=3)))
    request = request_with(x=(datatype, list(array.shape)))
    getattr(request.inputs[0].contents, TYPED[datatype]).extend(array.ravel().tolist())
    np.testing.assert_array_equal(decode(request)["x"], array)


@given(st.lists(st.binary(max_size=20)))
def test_strings_are_read_and_written_as_the_stock_client_does(items):
    array = np.array(items, dtype=np.object_)
    sent = serialize_byte_tensor(array).item() if items else b""
    decoded = decode(request_with([sent], x=("BYTES", [len(items)])))["x"] if sent else array
    assert list(decoded) == items
    assert list(deserialize_bytes_tensor(raw_bytes(decoded, DataType.BYTES))) == items


def test_raw_and_typed_inputs_are_matched_by_order():
    request = request_with([b"\1", b"\2\0"], a=("UINT8", [1]), b=("UINT16", [1]))
    assert {name: array.tolist() for name, array in decode(request).items()} == {"a": [1], "b": [2]}


def refusals():
    def case(message, request):
        return pytest.param(request, message, id=message[:30])

    yield case(
        "input byte size mismatch for input 'x' for model 'm'. Expected 8, got 4",
        request_with([b"1234"], x=("FP32", [2])),
    )
    yield case(
        "unable to find data for input tensor 'y' for model 'm' in request.",
        request_with([b"1"], x=("UINT8", [1]), y=("UINT8", [1])),
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
    both = request_with([b"1234"], x=("FP32", [1]))
    both.inputs[0].contents.fp32_contents.append(1.0)
    yield case("contents field must not be specified when using raw_input_contents", both)
    wrong_field = request_with(x=("FP32", [1]))
    wrong_field.inputs[0].contents.int_contents.append(1)
    yield case("unexpected explicit tensor data for input tensor 'x'", wrong_field)
    too_few = request_with(x=("FP32", [3]))
    too_few.inputs[0].contents.fp32_contents.append(1.0)
    yield case("Expected 3, got 1", too_few)
    too_large = request_with(x=("INT8", [1]))
    too_large.inputs[0].contents.int_contents.append(300)
    yield case("does not fit INT8", too_large)
    half = request_with(x=("FP16", [1]))
    half.inputs[0].contents.fp32_contents.append(1.0)
    yield case("unexpected explicit tensor data", half)
    twice = request_with([b"1", b"2"], x=("UINT8", [1]))
    twice.inputs.add(name="x", datatype="UINT8", shape=[1])
    yield case("input 'x' already exists in request", twice)
    shared = request_with(x=("UINT8", [1]))
    shared.inputs[0].parameters["shared_memory_region"].string_param = "r"
    yield case("Client shared memory is disabled", shared)
    endless = request_with([b"1"], x=("UINT8", [1]))
    endless.id = "r" * 257
    yield case("the request id is longer than 256 characters", endless)
    sequence = request_with([b"1"], x=("UINT8", [1]))
    sequence.parameters["sequence_id"].int64_param = 7
    yield case("sequences are not served", sequence)
    classes = request_with([b"1"], x=("UINT8", [1]))
    classes.outputs.add(name="y").parameters["classification"].int64_param = 3
    yield case("the classification extension is not served", classes)


@pytest.mark.parametrize(("request_", "message"), list(refusals()))
def test_what_contradicts_itself_is_refused_in_words_clients_know(request_, message):
    with pytest.raises(RequestError) as refused:
        decode(request_)
    assert message in str(refused.value)


def test_surplus_raw_entries_are_ignored_as_triton_does():
    assert list(decode(request_with([b"1", b"2"], x=("UINT8", [1])))) == ["x"]


def test_a_call_carries_what_the_request_says():
    request = request_with()
    request.model_version, request.id = "2", "r-1"
    request.parameters["timeout"].int64_param = 1500
    request.outputs.add(name="y")
    call = call_from(request, peer="ipv4:127.0.0.1:1", new_id=str)
    assert (call.model, call.version, call.request_id) == ("m", "2", "r-1")
    assert (call.outputs, call.timeout_us, call.peer) == (("y",), 1500, "ipv4:127.0.0.1:1")


def test_a_request_without_an_id_gets_one_for_the_log_and_none_back():
    call = call_from(request_with(), peer="", new_id=lambda: "made")
    assert call.request_id == "made"
    assert encode(call, version=1, outputs=()).id == ""


def test_a_reply_holds_the_outputs_asked_for_in_the_order_asked_for():
    interface = Interface(
        inputs=(),
        outputs=(
            TensorSpec(name="a", datatype=DataType.FP32, shape=(1,)),
            TensorSpec(name="b", datatype=DataType.BYTES, shape=(1,)),
        ),
        batch_max=4,
    )
    outputs = {
        "a": np.ones((1, 1), np.float32),
        "b": np.array([[b"yes"]], dtype=np.object_),
    }
    request = request_with()
    request.id = "r-2"
    for name in ("b", "a"):
        request.outputs.add(name=name)
    call = call_from(request, peer="", new_id=lambda: "made")
    reply = encode(call, version=7, outputs=raw_tensors(chosen_outputs(call, interface), outputs))
    assert (reply.model_name, reply.model_version, reply.id) == ("m", "7", "r-2")
    assert [(o.name, o.datatype, list(o.shape)) for o in reply.outputs] == [
        ("b", "BYTES", [1, 1]),
        ("a", "FP32", [1, 1]),
    ]
    assert list(reply.raw_output_contents) == [b"\3\0\0\0yes", struct.pack("<f", 1.0)]


@pytest.mark.parametrize(
    ("names", "message"),
    [(["z"], "unexpected inference output 'z' for model 'm'"), (["a", "a"], "already exists")],
)
def test_an_unknown_or_repeated_output_is_refused(names, message):
    request = request_with()
    for name in names:
        request.outputs.add(name=name)
    call = call_from(request, peer="", new_id=str)
    with pytest.raises(RequestError, match=message):
        chosen_outputs(call, Interface(inputs=(), outputs=(), batch_max=0))


@pytest.mark.parametrize(
    "shape", [[2**62] * 50_000, [1] * 65, [0, 10**18, 10**18, 1], [2**62] * 32]
)
@pytest.mark.parametrize("datatype", ["UINT8", "BYTES"])
def test_claims_about_shapes_cost_nothing(shape, datatype):
    with pytest.raises(RequestError):
        decode(request_with([b"x"], x=(datatype, shape)))
    with pytest.raises(RequestError):
        decode(request_with([b""], x=(datatype, shape)))


def test_strings_beyond_the_shape_are_not_read():
    with pytest.raises(RequestError, match="unexpected number of string elements 2 "):
        decode(request_with([bytes(4_000_000)], x=("BYTES", [1])))
