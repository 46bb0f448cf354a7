"""ModelStreamInfer by the stock client: order, errors in their place, and every way to end."""

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as oip
from tritonclient.grpc import service_pb2_grpc as oip_stubs

from appliance.tensors import DataType, Interface, TensorSpec

MANY = 3000
WIDE = TensorSpec(name="x", datatype=DataType.FP32, shape=(-1,))


@pytest.fixture
def streaming(client, heard):
    """The stock client with a stream begun."""
    client.start_stream(heard)
    yield client
    client.stop_stream(cancel_requests=True)


def one(value):
    return np.full((1, 1), value, np.float32)


def test_thousands_are_answered_in_their_order(box, engine, streaming, tensor, heard):
    for number in range(MANY):
        streaming.async_stream_infer("digits", [tensor(one(number))], request_id=str(number))
    for number in range(MANY):
        result, error = heard.wait()
        assert error is None
        assert result.get_response().id == str(number)
        assert result.as_numpy("x") == number
        assert result.get_response().parameters["triton_final_response"].bool_param
    box.settle()


def test_a_bad_request_gets_its_error_and_the_stream_goes_on(box, engine, streaming, tensor, heard):
    for model in ("nothing", "nothing", "digits"):
        streaming.async_stream_infer(model, [tensor(one(1))], request_id=f"bad-{model}")
    for _ in range(2):
        result, error = heard.wait()
        assert result is None
        assert "'nothing' is not found" in str(error)
    result, error = heard.wait()
    assert error is None
    assert result.get_response().id == "bad-digits"
    assert [record.code for record in box.records("bad-nothing")] == ["model.unknown"] * 2


def test_the_end_waits_for_what_is_running(box, engine, client, tensor, heard):
    box.hold()
    client.start_stream(heard)
    for number in range(5):
        client.async_stream_infer("digits", [tensor(one(number))])
    engine.entered.acquire()
    box.until(lambda: box.world.dataplane._calls == 5)
    box.let_go()
    client.stop_stream()  # returns when the server has ended the call
    assert [result.as_numpy("x")[0, 0] for result, _ in heard.all] == list(range(5))
    box.settle()


def test_a_stream_that_is_cancelled_takes_what_waits_with_it(box, engine, client, tensor, heard):
    box.hold()
    client.start_stream(heard)
    client.async_stream_infer("digits", [tensor(one(0))])
    engine.entered.acquire()
    for number in range(1, 20):
        client.async_stream_infer("digits", [tensor(one(number))])
    box.until(lambda: box.world.table.queued() == {"digits": 19})
    client.stop_stream(cancel_requests=True)
    box.until(lambda: box.world.table.queued() == {"digits": 0})
    box.let_go()
    box.settle()
    assert engine.ran == 1


def test_a_client_that_stops_reading_gets_all_when_it_goes_on(box, engine, tensor):
    """Replies of 64 KiB fill what the connection holds; then requests are no longer read."""
    box.serve(Interface(inputs=(WIDE,), outputs=(WIDE,), batch_max=4))
    request = oip.ModelInferRequest(
        model_name="digits", raw_input_contents=[np.ones(1 << 14, np.float32).tobytes()]
    )
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1 << 14])
    sent = 0

    def requests():
        nonlocal sent
        for number in range(400):
            request.id = str(number)
            sent = number + 1
            yield request

    with grpc.insecure_channel(box.address) as channel:
        replies = oip_stubs.GRPCInferenceServiceStub(channel).ModelStreamInfer(requests())
        assert next(replies).infer_response.id == "0"
        box.until(lambda: box.world.dataplane._calls == 0 and engine.ran >= 64)
        assert sent < 400
        for number, reply in enumerate(replies, 1):
            assert reply.infer_response.id == str(number)
        assert number == 399
    box.settle()


def test_bytes_that_are_no_request_are_an_error_in_their_place(box, engine, tensor):
    good = oip.ModelInferRequest(model_name="digits", id="good")
    good.inputs.add(name="x", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(1)
    with grpc.insecure_channel(box.address) as channel:
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        replies = [
            oip.ModelStreamInferResponse.FromString(reply)
            for reply in call(iter([b"\xff\xff", good.SerializeToString()]))
        ]
    assert [bool(reply.error_message) for reply in replies] == [True, False]
    assert replies[1].infer_response.id == "good"
    box.settle()


def test_a_broken_connection_leaves_nothing_behind(box, engine, tensor, heard):
    box.hold()
    client = triton.InferenceServerClient(box.address)
    client.start_stream(heard)
    client.async_stream_infer("digits", [tensor(one(0))])
    engine.entered.acquire()
    for number in range(1, 5):
        client.async_stream_infer("digits", [tensor(one(number))])
    box.until(lambda: box.world.table.queued() == {"digits": 4})
    client._channel.close()
    box.until(lambda: box.world.table.queued() == {"digits": 0})
    box.let_go()
    box.settle()
    assert engine.ran == 1
    client.close()
