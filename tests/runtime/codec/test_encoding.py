"""Replies, byte for byte as protobuf writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as oip

from appliance.audit.payload import Tensor
from appliance.tensors import DataType
from runtime.codec import Call, encode_stream, encode_stream_error
from runtime.codec.encoding import encode
from tests.runtime.codec.messages import decoded, request_with

CALL = decoded(request_with()).call
texts = st.text(max_size=140)
tensors = st.builds(
    Tensor,
    name=texts,
    datatype=st.sampled_from(DataType),
    shape=st.lists(st.integers(0, 2**40), max_size=3).map(tuple),
    data=st.one_of(st.binary(max_size=300), st.just(bytes(20_000))),
)
calls = st.builds(
    lambda model, sent_id: Call(
        model=model,
        version="",
        request_id="r",
        sent_id=sent_id,
        peer="",
        outputs=(),
        timeout_us=0,
        bytes=0,
    ),
    texts,
    texts,
)
versions = st.integers(1, 2**40)


def by_protobuf(call, version, outputs):
    reply = oip.ModelInferResponse(
        model_name=call.model, model_version=str(version), id=call.sent_id
    )
    for tensor in outputs:
        reply.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        reply.raw_output_contents.append(bytes(tensor.data))
    return reply


@given(calls, versions, st.lists(tensors, max_size=3))
def test_a_reply_is_what_protobuf_would_write(call, version, outputs):
    message = encode(call, version=version, outputs=outputs)
    assert message == by_protobuf(call, version, outputs).SerializeToString()


@given(calls, versions, st.lists(tensors, max_size=3))
def test_so_is_a_reply_in_a_stream(call, version, outputs):
    infer = by_protobuf(call, version, outputs)
    infer.parameters["triton_final_response"].bool_param = True
    message = encode_stream(call, version=version, outputs=outputs)
    if not call.sent_id:
        infer.parameters["holdfast-request-id"].string_param = call.request_id
        assert oip.ModelStreamInferResponse.FromString(message).infer_response == infer
        return
    assert message == oip.ModelStreamInferResponse(infer_response=infer).SerializeToString()


@given(calls, texts)
def test_and_an_error_in_a_stream(call, text):
    told = oip.ModelStreamInferResponse.FromString(encode_stream_error(text, call))
    assert (told.error_message, told.infer_response.id) == (text, call.sent_id)
    given = told.infer_response.parameters["holdfast-request-id"].string_param
    assert given == ("" if call.sent_id else call.request_id)
    alone = oip.ModelStreamInferResponse(error_message=text).SerializeToString()
    assert encode_stream_error(text) == alone


def test_an_error_in_a_stream_carries_what_a_status_would_beside_it():
    message = encode_stream_error("no", CALL, {"holdfast-code": "request.invalid"})
    parameters = oip.ModelStreamInferResponse.FromString(message).infer_response.parameters
    assert parameters["holdfast-code"].string_param == "request.invalid"


def test_views_of_data_are_as_good_as_bytes():
    tensor = Tensor(
        name="y", datatype=DataType.UINT8, shape=(3,), data=memoryview(bytearray(b"abc"))
    )
    reply = oip.ModelInferResponse.FromString(encode(CALL, version=1, outputs=[tensor]))
    assert list(reply.raw_output_contents) == [b"abc"]


def test_a_request_without_an_id_gets_none_back():
    assert oip.ModelInferResponse.FromString(encode(CALL, version=1, outputs=())).id == ""


@pytest.mark.parametrize("length", [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_lengths_of_every_size_are_written(length):
    tensor = Tensor(name="y", datatype=DataType.UINT8, shape=(length,), data=bytes(length))
    message = encode(CALL, version=1, outputs=[tensor])
    assert message == by_protobuf(CALL, 1, [tensor]).SerializeToString()
