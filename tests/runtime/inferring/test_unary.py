"""ModelInfer by the stock client: what it may send, and what comes back."""

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as oip
from tritonclient.grpc import service_pb2_grpc as oip_stubs
from tritonclient.utils import InferenceServerException

from appliance.audit.kinds import Failure
from appliance.errors import UnknownRecord
from appliance.tensors import DataType, Interface, TensorSpec

ONE = np.ones((1, 1), np.float32)


def interface(datatype, shape=(-1,), batch_max=4):
    spec = TensorSpec(name="x", datatype=datatype, shape=shape)
    return Interface(inputs=(spec,), outputs=(spec,), batch_max=batch_max)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ((DataType.FP32, (-1,)), np.float32([[1, 2], [3, 4]])),
        ((DataType.FP32, (-1,)), np.zeros((2, 0), np.float32)),
        ((DataType.FP32, ()), np.float32([1, 2])),
        ((DataType.FP16, (-1,)), np.float16([[1.5, -2]])),
        ((DataType.BOOL, (-1,)), np.array([[True, False]])),
        ((DataType.BYTES, (-1,)), np.array([[b"", b"\xff\x00", "\u00e4".encode()]], np.object_)),
        ((DataType.BYTES, (-1,)), np.zeros((1, 0), np.object_)),
    ],
    ids=["raw", "no elements", "no axes", "half", "truth", "bytes", "no bytes"],
)
@pytest.mark.usefixtures("engine")
def test_what_is_sent_comes_back(box, client, tensor, asked, sent):
    box.serve(interface(*asked))
    for _ in range(3):  # the second finds its header checked already, the third may be run at once
        found = client.infer("digits", [tensor(sent)], request_id="sent").as_numpy("x")
        np.testing.assert_array_equal(found, sent)
        assert found.shape == sent.shape


def test_a_model_without_batches_takes_a_scalar(box, engine, client, tensor):
    box.serve(interface(DataType.FP32, (), 0))
    assert client.infer("digits", [tensor(np.array(7, np.float32))]).as_numpy("x") == 7


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        (DataType.FP32, "fp32_contents", [1.5, 2.5]),
        (DataType.BYTES, "bytes_contents", [b"", b"two"]),
        (DataType.BOOL, "bool_contents", [True, False]),
    ],
)
def test_typed_contents_are_answered_raw(box, engine, datatype, field, values):
    box.serve(interface(datatype))
    request = oip.ModelInferRequest(model_name="digits", id="typed")
    sent = request.inputs.add(name="x", datatype=datatype, shape=[1, len(values)])
    getattr(sent.contents, field).extend(values)
    with grpc.insecure_channel(box.address) as channel:
        reply = oip_stubs.GRPCInferenceServiceStub(channel).ModelInfer(request)
    found = triton.InferResult(reply).as_numpy("x")
    assert found.tolist() == [values]


def test_classes_are_values_and_indices(box, engine, client, tensor):
    box.serve(interface(DataType.FP32))
    asked = triton.InferRequestedOutput("x", class_count=2)
    result = client.infer("digits", [tensor(np.float32([[1, 9, 5]]))], outputs=[asked])
    assert result.as_numpy("x").tolist() == [[b"9.000000:1", b"5.000000:2"]]


@pytest.mark.parametrize("given", [{"priority": 1}, {"timeout": 30_000_000}, {"sequence_id": 3}])
def test_parameters_of_the_protocol_are_taken(engine, client, tensor, given):
    assert client.infer("digits", [tensor(ONE)], **given).as_numpy("x") == 1


@pytest.mark.parametrize("version", ["", "1", "active"])
def test_a_version_is_asked_for_by_number_or_by_role(engine, client, tensor, version):
    result = client.infer("digits", [tensor(ONE)], model_version=version)
    assert result.get_response().model_version == "1"


REFUSALS = {
    "model": ({"model": "nothing"}, "NOT_FOUND", "model.unknown"),
    "version": ({"model_version": "9"}, "NOT_FOUND", "version.unknown"),
    "unloaded": ({"model_version": "2"}, "UNAVAILABLE", "version.unserved"),
    "label": ({"model_version": "canary"}, "NOT_FOUND", "version.unknown"),
    "word": ({"model_version": "newest"}, "INVALID_ARGUMENT", "request.invalid"),
    "rows": ({"rows": 5}, "INVALID_ARGUMENT", "request.limit"),
    "name": ({"name": "y"}, "INVALID_ARGUMENT", "request.invalid"),
    "datatype": ({"datatype": "INT32"}, "INVALID_ARGUMENT", "request.invalid"),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_every_refusal_has_its_record(box, engine, client, tensor, why):
    given, status, code = REFUSALS[why]
    given = dict(given)
    name, datatype = given.pop("name", "x"), given.pop("datatype", "FP32")
    sent = triton.InferInput(name, [given.pop("rows", 1), 1], datatype)
    sent.set_data_from_numpy(np.ones(sent.shape(), np.int32 if datatype == "INT32" else np.float32))
    with pytest.raises(InferenceServerException) as refused:
        client.infer(given.pop("model", "digits"), [sent], request_id=f"refused-{why}", **given)
    assert refused.value.status() == f"StatusCode.{status}"
    (record,) = box.records(f"refused-{why}")
    assert isinstance(record, Failure)
    assert record.code == code
    box.settle()


def test_bytes_that_are_no_request_have_a_record_too(box, engine):
    with grpc.insecure_channel(box.address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\xff\xff")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    trailing = {item.key: item.value for item in refused.value.trailing_metadata()}
    (record,) = box.records(trailing["holdfast-request-id"])
    assert (record.code, record.model) == ("request.invalid", "")
    box.settle()


def test_an_engine_that_fails_answers_internal(box, engine, client, tensor):
    engine.fault = ValueError("broken")
    with pytest.raises(InferenceServerException, match="broken") as refused:
        client.infer("digits", [tensor(ONE)], request_id="engine")
    assert refused.value.status() == "StatusCode.INTERNAL"
    assert [record.code for record in box.records("engine")] == ["engine.failed"]


def test_a_fault_of_our_own_is_an_incident_and_no_more(box, engine, client, tensor, monkeypatch):
    def broken(self, heads):
        raise ZeroDivisionError("the secret")

    monkeypatch.setattr("runtime.codec.decoding.Request.arrays", broken)
    with pytest.raises(InferenceServerException, match="incident") as refused:
        client.infer("digits", [tensor(ONE)], request_id="ours")
    assert refused.value.status() == "StatusCode.INTERNAL"
    assert "secret" not in str(refused.value)
    assert [record.code for record in box.records("ours")] == ["internal"]
    box.settle()


def test_a_request_whose_time_is_over_never_reaches_the_engine(box, engine, client, tensor, heard):
    box.hold()
    client.async_infer("digits", [tensor(ONE)], heard)
    engine.entered.acquire()
    client.async_infer("digits", [tensor(ONE)], heard, request_id="over", timeout=1)
    box.until(lambda: box.world.table.queued() == {"digits": 1})
    box.until(lambda: box.on_loop(checked(box)) == {"digits": 0})
    assert "Request timeout expired" in str(heard.wait()[1])
    engine.go.set()
    assert heard.wait()[1] is None
    assert engine.ran == 1
    assert [record.code for record in box.records("over")] == ["server.overloaded"]


async def checked(box):
    box.world.table.check()
    return box.world.table.queued()


def test_a_client_that_cancels_everything_never_reaches_the_engine(
    box, engine, client, tensor, heard
):
    box.hold()
    client.async_infer("digits", [tensor(ONE)], heard, request_id="first")
    engine.entered.acquire()
    waiting = [
        client.async_infer("digits", [tensor(ONE)], heard, request_id=f"left-{number}")
        for number in range(20)
    ]
    box.until(lambda: box.world.table.queued() == {"digits": 20})
    for call in waiting:
        call.cancel()
    box.until(lambda: box.world.table.queued() == {"digits": 0})
    engine.go.set()
    results = [heard.wait() for _ in range(21)]
    assert [error.status() for _, error in results if error] == ["StatusCode.CANCELLED"] * 20
    box.settle()
    assert engine.ran == 1
    with pytest.raises(UnknownRecord):
        box.records("left-0")


def test_a_deadline_that_passes_in_the_queue_leaves_nothing_behind(
    box, engine, client, tensor, heard
):
    box.hold()
    client.async_infer("digits", [tensor(ONE)], heard)
    engine.entered.acquire()
    waiting, seconds = box.world.table._serving["digits"].loaded[1].batcher._waiting, 0.05
    before = waiting._numbered
    while waiting._numbered == before:  # until one was in the queue when its deadline passed
        with pytest.raises(InferenceServerException) as late:
            client.infer("digits", [tensor(ONE)], client_timeout=seconds)
        assert late.value.status() == "StatusCode.DEADLINE_EXCEEDED"
        seconds *= 2
    box.until(lambda: box.world.table.queued() == {"digits": 0})
    engine.go.set()
    assert heard.wait()[1] is None
    box.settle()
    assert engine.ran == 1
