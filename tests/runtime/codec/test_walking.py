"""The hand parser against protobuf: the same, or "not mine"."""

import struct

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as oip

from appliance.errors import RequestError
from runtime.codec import decode, decoding
from runtime.codec.walking import FIELDS_MAX, crowded, walk
from tests.runtime.codec.messages import request_with, seen

TYPES = ["FP32", "UINT8", "BYTES", "INT64", "FP16", "BF16", "odd", ""]
names = st.sampled_from(["x", "y", "", "é", "a" * 130])
PARAMETERS = """priority timeout sequence_id sequence_end note triton_x classification
shared_memory_region shared_memory_byte_size shared_memory_offset"""
parameters = st.dictionaries(
    st.sampled_from(PARAMETERS.split()),
    st.one_of(
        st.builds(oip.InferParameter, int64_param=st.integers(-2, 2**40)),
        st.builds(oip.InferParameter, uint64_param=st.integers(0, 3)),
        st.builds(oip.InferParameter, bool_param=st.booleans()),
        st.builds(oip.InferParameter, string_param=st.sampled_from(["", "r"])),
        st.builds(oip.InferParameter, double_param=st.just(0.5)),
        st.just(oip.InferParameter()),
    ),
    max_size=2,
)
contents = st.one_of(
    st.none(),
    st.builds(oip.InferTensorContents, fp32_contents=st.lists(st.just(1.5), max_size=3)),
    st.builds(
        oip.InferTensorContents,
        uint_contents=st.lists(st.integers(0, 300), max_size=2),
        bytes_contents=st.lists(st.binary(max_size=3), max_size=2),
    ),
)
rarely = st.integers(0, 4).map(lambda draw: draw == 0)


@st.composite
def requests(draw):
    """Requests of every kind, most of them plain and right."""
    odd = draw(rarely)
    request = oip.ModelInferRequest(
        model_name=draw(names), model_version=draw(st.sampled_from(["", "1"])), id=draw(names)
    )
    shapes = st.lists(st.integers(-1 if odd else 0, 3), max_size=3)
    for name in draw(st.lists(names, max_size=3, unique=not odd)):
        tensor = request.inputs.add(
            name=name, datatype=draw(st.sampled_from(TYPES)), shape=draw(shapes)
        )
        if odd:
            fill(tensor.parameters, draw(parameters))
            if (typed := draw(contents)) is not None:
                tensor.contents.CopyFrom(typed)
        count = 1
        for length in tensor.shape:
            count *= length
        item = {"FP32": b"\0\0\x80?", "BYTES": struct.pack("<I", 2) + b"ab"}.get(
            tensor.datatype, b"12345678"
        )
        request.raw_input_contents.append(item * max(count, 0))
    for name in draw(st.lists(names, max_size=2)):
        fill(request.outputs.add(name=name).parameters, draw(parameters) if odd else {})
    if odd:
        fill(request.parameters, draw(parameters))
    return request


def fill(into, values):
    for name, value in values.items():
        into[name].CopyFrom(value)


def fields_of(message: bytes) -> list[bytes]:
    """The top-level fields of a message that a stock encoder wrote."""
    found, at = [], 0
    while at < len(message):
        length = shift = 0
        end = at + 1
        while True:
            byte = message[end]
            length |= (byte & 0x7F) << shift
            shift, end = shift + 7, end + 1
            if byte < 0x80:
                break
        found.append(message[at : end + length])
        at = end + length
    return found


overlong = st.sampled_from([b"\x8a\x00\x01m", b"\x0a\x81\x00m", b"\x1a\x81\x80\x80\x80\x00m"])
unknown = st.sampled_from(
    [b"\x42\x01z", b"\x40\x07", b"\x45abcd", b"\x41abcdefgh", b"\x43\x40\x01\x44"]
)
wrong = st.sampled_from(
    [b"\x08\x01", b"\x18\x01", b"\x38\x01", b"\x2d\0\0\0\0", b"\x3b\x3c", b"\x00\x00"]
)
broken = st.sampled_from(
    [
        *(
            b"\x0a\xff\xff\xff\xff\x0f",
            b"\x3a\x05ab",
            b"\x1a\x02\xc3\x28",
            b"\x0a\x01\xff",
            b"\x0a",
        ),
        *(b"\x1a" + b"\xff" * 10 + b"\x01", b"\x3a\x80\x80\x80\x80\x10", b"\x1a\x03\xed\xa0\x80"),
    ]
)


@st.composite
def messages(draw):
    """The bytes of requests: whole, reordered, doubled, mixed with odd fields, cut, with changed bytes."""
    fields = fields_of(draw(requests()).SerializeToString())
    acts = draw(
        st.lists(st.sampled_from(["order", "double", "odd", "cut", "change", "insert"]), max_size=2)
    )
    if "order" in acts:
        fields = draw(st.permutations(fields))
    if "double" in acts and fields:
        fields.append(draw(st.sampled_from(fields)))
    if "odd" in acts:
        field = draw(st.one_of(overlong, unknown, wrong, broken))
        fields.insert(draw(st.integers(0, len(fields))), field)
    message = bytearray(b"".join(fields))
    if "cut" in acts:
        del message[draw(st.integers(0, len(message))) :]
    if "change" in acts and message:
        message[draw(st.integers(0, len(message) - 1))] = draw(st.integers(0, 255))
    if "insert" in acts:
        at = draw(st.integers(0, len(message)))
        message[at:at] = draw(st.binary(max_size=3))
    return bytes(message)


def by_protobuf(message: bytes):
    """What protobuf sees where the hand parser looks; None when the message is broken."""
    try:
        request = oip.ModelInferRequest.FromString(message)
    except DecodeError:
        return None
    rest = oip.ModelInferRequest.FromString(message)
    for name in ("id", "raw_input_contents"):
        rest.ClearField(name)
    return request.id, list(request.raw_input_contents), rest


@settings(max_examples=600)
@given(st.one_of(messages(), st.binary(max_size=40)))
@example(b"")
@example(b"\x1a\x00\x1a\x01a")
def test_what_the_hand_parser_takes_is_what_protobuf_sees(message):
    parts = walk(message)
    if parts is None:
        return
    kept, sent_id, entries = parts
    raws = [buffer[start:stop] for buffer, start, stop in entries]
    try:
        header = oip.ModelInferRequest.FromString(kept)
    except DecodeError:
        assert by_protobuf(message) is None
        return
    assert (sent_id, raws, header) == by_protobuf(message)


@settings(max_examples=600)
@given(st.one_of(messages(), st.binary(max_size=40)))
def test_a_request_is_the_same_by_either_way(message):
    with pytest.MonkeyPatch.context() as patch:
        by_hand = seen(message)
        again = seen(message)  # now from the header that was kept
        patch.setattr(decoding, "walk", lambda message: None)
        assert by_hand == again == seen(message)


@given(requests())
def test_whatever_a_stock_encoder_writes_is_taken(request):
    assert walk(request.SerializeToString()) is not None


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_152])
def test_lengths_of_every_size_are_read(size):
    request = request_with([bytes(size)], x=("UINT8", [size]))
    header, _, [(_, start, stop)] = walk(request.SerializeToString())
    assert stop - start == size
    assert header == request_with(x=("UINT8", [size])).SerializeToString()


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\x8a\x00\x01m", id="a tag in a longer form"),
        pytest.param(b"\x0a\x81\x00m", id="a length in a longer form"),
        pytest.param(b"\x1a\x01a\x1a\x01b", id="two ids"),
        pytest.param(b"\x42\x01z", id="a field unknown here"),
        pytest.param(b"\x18\x01", id="another wire type"),
        pytest.param(b"\x0a\x02m", id="cut short"),
        pytest.param(b"\x1a\x01\xff", id="an id that is no text"),
    ],
)
def test_what_a_stock_encoder_does_not_write_is_left_to_protobuf(message):
    assert walk(message) is None


@pytest.mark.parametrize("unusual", [b"", b"\x40\x07"], ids=["plain", "with a field unknown here"])
@pytest.mark.parametrize("field", [b"\x3a\x00", b"\x2a\x00", b"\x40\x01", b"\x45abcd", b"\x43\x44"])
def test_more_fields_than_are_sane_are_refused_before_they_are_parsed(field, unusual):
    with pytest.raises(RequestError, match=f"more than {FIELDS_MAX} fields"):
        decode(unusual + field * (FIELDS_MAX + 1), peer="", new_id=str)


def test_as_many_fields_as_may_be_are_taken():
    assert walk(b"\x3a\x00" * FIELDS_MAX) is not None
    assert not crowded(b"\x3a\x00" * FIELDS_MAX)
    assert crowded(b"\x3a\x00" * (FIELDS_MAX + 1))


@given(st.binary(max_size=60))
def test_counting_fields_takes_any_bytes(message):
    assert not crowded(message)
