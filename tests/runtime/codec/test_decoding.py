"""What a request says of itself, and which requests share what was found out about one."""

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as oip

from appliance.errors import RequestError
from appliance.tensors import DataType
from runtime.codec import Head, Placement, Requested, Sequence, decoding
from tests.runtime.codec.messages import arrays, decoded, request_with

PLAIN = {"x": ("UINT8", [1])}


def with_parameters(**parameters):
    """A plain request whose parameter has one value of one kind, as in priority=("int64_param", 1)."""
    request = request_with([b"1"], **PLAIN)
    for name, (kind, value) in parameters.items():
        setattr(request.parameters[name], kind, value)
    return request


def with_output(**parameters):
    """A plain request whose output "y" has these parameters."""
    request = request_with([b"1"], **PLAIN)
    output = request.outputs.add(name="y")
    for name, (kind, value) in parameters.items():
        setattr(output.parameters[name], kind, value)
    return request


def test_a_call_carries_what_the_request_says():
    request = request_with([b"1"], **PLAIN)
    request.model_version, request.id = "2", "r-1"
    request.outputs.add(name="y")
    message = request.SerializeToString()
    reading = decoded(message)
    call = reading.call
    assert (call.model, call.version, call.request_id, call.sent_id) == ("m", "2", "r-1", "r-1")
    assert (call.outputs, call.peer, call.bytes) == (
        (Requested("y"),),
        "ipv4:127.0.0.1:1",
        len(message),
    )
    assert (call.timeout_us, call.priority, call.sequence) == (0, 0, None)
    assert reading.heads() == {"x": Head(DataType.UINT8, (1,))}


def test_a_request_without_an_id_gets_one_for_the_log_and_none_back():
    call = decoded(request_with()).call
    assert (call.request_id, call.sent_id) == ("made", "")


def test_parameters_of_the_protocol_are_read():
    call = decoded(
        with_parameters(
            timeout=("int64_param", 1500),
            priority=("uint64_param", 3),
            sequence_id=("int64_param", 7),
            sequence_start=("bool_param", True),
            sequence_end=("bool_param", False),
            triton_enable_empty_final_response=("bool_param", True),
            note=("string_param", "n"),
            share=("double_param", 0.5),
        )
    ).call
    assert (call.timeout_us, call.priority) == (1500, 3)
    assert call.sequence == Sequence(7, start=True, end=False)


def test_a_sequence_may_be_named_by_a_text():
    sequence = decoded(with_parameters(sequence_id=("string_param", "s"))).call.sequence
    assert sequence == Sequence("s", start=False, end=False)


@pytest.mark.parametrize("none", [("int64_param", 0), ("string_param", "")])
def test_an_empty_sequence_id_is_none(none):
    assert decoded(with_parameters(sequence_id=none)).call.sequence is None


def test_what_stock_clients_send_is_read():
    """Message and parameters as tritonclient's own code makes them."""
    x = triton.InferInput("x", [1, 2], "FP32")
    x.set_data_from_numpy(np.array([[1, 2]], np.float32))
    y = triton.InferRequestedOutput("y", class_count=2)
    z = triton.InferRequestedOutput("z")
    z.set_shared_memory("r", 64, offset=8)
    message = triton._utils._get_inference_request(
        model_name="m",
        inputs=[x],
        model_version="",
        request_id="r-1",
        outputs=[y, z],
        sequence_id=5,
        sequence_start=True,
        sequence_end=True,
        priority=1,
        timeout=10,
        parameters={"note": "n", "share": 0.5, "yes": True, "count": 3},
    )
    call = decoded(message).call
    assert call.outputs == (
        Requested("y", 2, None),
        Requested("z", 0, Placement("r", 8, 64)),
    )
    assert (call.priority, call.timeout_us) == (1, 10)
    assert call.sequence == Sequence(5, start=True, end=True)


def refusals():
    def case(message, request):
        return pytest.param(request, message, id=message[:50])

    def wrong(name, told):
        return f"invalid value type for '{name}' parameter, expected {told}"

    text, whole, natural = ("string_param", "1"), ("int64_param", 1), ("uint64_param", 1)
    yield case(
        wrong("sequence_id", "int64_param or string_param."), with_parameters(sequence_id=natural)
    )
    yield case(wrong("sequence_start", "bool_param."), with_parameters(sequence_start=whole))
    yield case(wrong("sequence_end", "bool_param."), with_parameters(sequence_end=whole))
    yield case(wrong("priority", "int64_param or uint64_param."), with_parameters(priority=text))
    yield case(
        "invalid value for 'priority', expected value >= 0.",
        with_parameters(priority=("int64_param", -1)),
    )
    yield case(wrong("timeout", "int64_param."), with_parameters(timeout=natural))
    yield case(
        wrong("note", "int64_param, bool_param, or string_param."), with_parameters(note=natural)
    )
    final = "triton_enable_empty_final_response"
    yield case(wrong(final, "bool_param."), with_parameters(**{final: whole}))
    yield case(
        f"Only the following keys starting with 'triton_' are allowed: {final}",
        with_parameters(triton_final_response=("bool_param", True)),
    )
    empty = request_with([b"1"], **PLAIN)
    empty.parameters["note"].SetInParent()
    yield case("invalid value type for 'note' parameter", empty)
    yield case(
        "invalid value type for 'classification' parameter, expected int64_param",
        with_output(classification=natural),
    )
    yield case(
        "invalid value for 'classification' parameter, expected >= 1",
        with_output(classification=("int64_param", 0)),
    )
    yield case(
        "output can't set both 'shared_memory_region' and 'classification'",
        with_output(classification=whole, shared_memory_region=text, shared_memory_byte_size=whole),
    )
    endless = request_with([b"1"], **PLAIN)
    endless.id = "r" * 257
    yield case("the request id is longer than 256 characters", endless)


@pytest.mark.parametrize(("request_", "message"), list(refusals()))
def test_a_wrong_parameter_is_refused_when_who_asked_is_known(request_, message):
    reading = decoded(request_)
    assert reading.call.model == "m"
    with pytest.raises(RequestError) as refused:
        reading.heads()
    assert message in str(refused.value)


def test_parameters_of_outputs_without_a_meaning_here_are_passed_over():
    reading = decoded(with_output(note=("string_param", "n")))
    assert list(reading.heads()) == ["x"]
    assert reading.call.outputs == (Requested("y"),)


def test_bytes_that_are_no_request_are_refused():
    with pytest.raises(RequestError, match="no ModelInferRequest"):
        decoded(b"\x0a\x05m")


def test_requests_that_differ_in_id_and_data_share_their_header():
    first, second = request_with([b"1"], **PLAIN), request_with([b"2"], **PLAIN)
    second.id = "r-2"
    one, two = decoded(first), decoded(second)
    assert one.header == two.header is not None
    assert one.heads() is two.heads()
    other = request_with([b"1"], x=("INT8", [1]))
    assert decoded(other).header not in (None, one.header)


def typed_request():
    request = request_with(x=("FP32", [1]))
    request.inputs[0].contents.fp32_contents.append(1)
    return request


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(with_parameters(note=("int64_param", 1)), id="parameters"),
        pytest.param(with_output(classification=("int64_param", 1)), id="classes"),
        pytest.param(typed_request(), id="typed contents"),
        pytest.param(request_with([b"1"], x=("odd", [1])), id="refused"),
        pytest.param(b"\x40\x07" + request_with([b"1"], **PLAIN).SerializeToString(), id="unusual"),
    ],
)
def test_what_must_be_looked_at_each_time_has_no_header(message):
    assert decoded(message).header is None


def test_headers_that_are_kept_have_a_bound(monkeypatch):
    kept = decoding._Headers()
    monkeypatch.setattr(decoding, "_KEPT", kept)
    monkeypatch.setattr(decoding, "HEADERS_MAX", 4)
    monkeypatch.setattr(decoding, "HEADER_BYTES_MAX", 600)
    for name in ["a", "b" * 300, "c" * 280, "d" * 700, *"efghijk"]:
        request = request_with([b"1"], **{name: ("UINT8", [1])})
        assert list(arrays(request)) == [name]
        assert len(kept._by_bytes) <= 4
        assert sum(map(len, kept._by_bytes)) == kept._bytes <= 600


def test_an_empty_message_is_an_empty_request():
    reading = decoded(oip.ModelInferRequest())
    assert (reading.call.model, dict(reading.heads())) == ("", {})
