"""Requests as servers read them, replies as servers of several kinds write them."""

import subprocess
import sys

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as oip

from appliance.errors import ApplianceError, RequestError
from runtime import client, protocol
from runtime.client import messages
from runtime.client.messages import RECEIPT_PREFIX, infer_request, reply_from
from runtime.client.ordered import Ordered

SIZES = [0, 1, 127, 128, 300, 16384, 3_000_000]


def parsed(*given, **named):
    return oip.ModelInferRequest.FromString(infer_request(*given, **named))


def test_a_request_reads_as_the_stub_would_write_it():
    x, y = np.arange(6, dtype=np.int16).reshape(2, 3), np.array([b"a", "é"], object)
    wanted = oip.ModelInferRequest(model_name="m", model_version="3", id="r")
    wanted.parameters["priority"].uint64_param = 2
    wanted.inputs.add(name="x", datatype="INT16", shape=(2, 3))
    wanted.inputs.add(name="y", datatype="BYTES", shape=(2,))
    wanted.outputs.add(name="out")
    wanted.raw_input_contents.extend([x.tobytes(), b"\1\0\0\0a\2\0\0\0\xc3\xa9"])
    found = parsed("m", {"x": x, "y": y}, version="3", outputs=["out"], request_id="r", priority=2)
    assert found == wanted


@pytest.mark.parametrize("size", SIZES)
def test_contents_of_any_length_keep_their_frame(size):
    x = np.arange(size, dtype=np.uint8)
    request = parsed("m", {"x": x, "y": np.float32(1)})
    assert list(request.raw_input_contents) == [x.tobytes(), np.float32(1).tobytes()]
    assert [list(item.shape) for item in request.inputs] == [[size], []]


def test_a_request_over_the_limit_is_refused_here(monkeypatch):
    monkeypatch.setattr(messages, "MESSAGE_BYTES_MAX", 100)
    with pytest.raises(RequestError, match="larger than 100 bytes") as caught:
        infer_request("m", {"x": np.zeros(100, np.uint8)})
    assert caught.value.code == "request.limit"


def test_typed_contents_are_read_as_other_servers_send_them():
    reply = oip.ModelInferResponse(model_name="m", model_version="1", id="r")
    reply.outputs.add(name="a", datatype="FP32", shape=(2,)).contents.fp32_contents.extend([1, 2])
    reply.outputs.add(name="b", datatype="BYTES", shape=(1,)).contents.bytes_contents.append(b"t")
    reply.outputs.add(name="c", datatype="INT64", shape=(0,))
    outputs = reply_from(reply, {}).outputs
    assert {name: (array.dtype.str, array.tolist()) for name, array in outputs.items()} == {
        "a": ("<f4", [1, 2]),
        "b": ("|O", [b"t"]),
        "c": ("<i8", []),
    }


def test_a_reply_that_brings_too_few_contents_is_refused():
    reply = oip.ModelInferResponse(raw_output_contents=[b""])
    with pytest.raises(ApplianceError, match="names 0 outputs and brings 1"):
        reply_from(reply, {})


def test_the_receipt_is_all_that_a_holdfast_says_of_the_record():
    """A later release may send keys that this client has never heard of."""
    keys = [value for name, value in vars(protocol).items() if name.endswith("_KEY")]
    assert keys
    assert all(key.startswith(RECEIPT_PREFIX) for key in keys)
    trailing = {protocol.REQUEST_ID_KEY: "made", "holdfast-leaf-bin": b"\1", "date": "today"}
    reply = reply_from(oip.ModelInferResponse(), trailing)
    assert reply.request_id == "made"
    assert reply.receipt == {protocol.REQUEST_ID_KEY: "made", "holdfast-leaf-bin": b"\1"}
    assert reply_from(oip.ModelInferResponse(id="sent"), trailing).request_id == "sent"


def streamed(request_id="", error=""):
    return oip.ModelStreamInferResponse(
        error_message=error, infer_response=oip.ModelInferResponse(id=request_id)
    )


def test_replies_of_a_stream_are_put_in_order():
    order = Ordered("s")
    assert [order.add() for _ in range(3)] == ["s-0", "s-1", "s-2"]
    for request_id in ("s-2", "unknown", "s-0", "s-0"):
        order.take(streamed(request_id))
    assert order.next().request_id == "s-0"
    assert order.next() is None
    order.take(streamed(error="no id"))
    assert str(order.next()) == "no id"
    assert order.next().request_id == "s-2"
    assert order.waiting == 0
    order.take(streamed())


def test_an_error_in_a_stream_is_the_class_it_was_raised_as():
    order = Ordered("s")
    response = streamed(order.add(), "queue full")
    for key, value in {"holdfast-code": "server.overloaded", "holdfast-remedy": "wait"}.items():
        response.infer_response.parameters[key].string_param = value
    order.take(response)
    error = order.next()
    assert (error.code, str(error), error.remedy) == ("server.overloaded", "queue full", "wait")


def test_the_door_brings_each_client_only_when_it_is_used():
    code = (
        "import sys, runtime.client as door; heavy = ('grpc', 'numpy', 'tritonclient');"
        "print([n for n in heavy if n in sys.modules]); door.ControlClient;"
        "print([n for n in heavy if n in sys.modules])"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.split("\n")[:2] == ["[]", "['grpc']"]
    assert all(getattr(client, name) for name in client.__all__)
    assert set(client._ROOMS) < set(client.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = client.Nothing
