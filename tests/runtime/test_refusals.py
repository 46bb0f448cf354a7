"""What the real server refuses, and in which words."""

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as oip
from tritonclient.grpc import service_pb2_grpc as oip_stubs
from tritonclient.utils import InferenceServerException

from appliance.audit.kinds import Failure
from appliance.audit.reader import AuditReader


def image_input(images, *, name="image", datatype="UINT8"):
    tensor = triton.InferInput(name, list(images.shape), datatype)
    tensor.set_data_from_numpy(images)
    return tensor


ONE = np.zeros((1, 8, 8, 1), np.uint8)
REFUSALS = {
    "unknown model": (
        lambda c: c.infer("nothing", [image_input(ONE)]),
        "StatusCode.NOT_FOUND",
        "Request for unknown model: 'nothing' is not found",
    ),
    "unknown version": (
        lambda c: c.infer("digits", [image_input(ONE)], model_version="9"),
        "StatusCode.NOT_FOUND",
        "version 9 is not found",
    ),
    "version not loaded": (
        lambda c: c.infer("digits", [image_input(ONE)], model_version="2"),
        "StatusCode.UNAVAILABLE",
        "version 2 is not at ready state",
    ),
    "version no number": (
        lambda c: c.infer("digits", [image_input(ONE)], model_version="newest"),
        "StatusCode.INVALID_ARGUMENT",
        "failed to get model version from specified version string 'newest'",
    ),
    "wrong name": (
        lambda c: c.infer("digits", [image_input(ONE, name="picture")]),
        "StatusCode.INVALID_ARGUMENT",
        "unexpected inference input 'picture' for model 'digits'",
    ),
    "no input": (
        lambda c: c.infer("digits", []),
        "StatusCode.INVALID_ARGUMENT",
        "expected 1 inputs but got 0 inputs for model 'digits'",
    ),
    "wrong dtype": (
        lambda c: c.infer("digits", [image_input(ONE.astype(np.float32), datatype="FP32")]),
        "StatusCode.INVALID_ARGUMENT",
        "inference input 'image' data-type is 'FP32', but model 'digits' expects 'UINT8'",
    ),
    "wrong shape": (
        lambda c: c.infer("digits", [image_input(np.zeros((1, 8, 8, 3), np.uint8))]),
        "StatusCode.INVALID_ARGUMENT",
        "unexpected shape for input 'image' for model 'digits'. "
        "Expected [-1,-1,-1,1], got [1,8,8,3]",
    ),
    "no rows": (
        lambda c: c.infer("digits", [image_input(np.zeros((0, 8, 8, 1), np.uint8))]),
        "StatusCode.INVALID_ARGUMENT",
        "unexpected shape",
    ),
    "too many rows": (
        lambda c: c.infer("digits", [image_input(np.zeros((33, 8, 8, 1), np.uint8))]),
        "StatusCode.INVALID_ARGUMENT",
        "inference request batch-size must be <= 32 for 'digits'",
    ),
    "unknown output": (
        lambda c: c.infer(
            "digits", [image_input(ONE)], outputs=[triton.InferRequestedOutput("mask")]
        ),
        "StatusCode.INVALID_ARGUMENT",
        "unexpected inference output 'mask' for model 'digits'",
    ),
    "metadata of an unknown model": (
        lambda c: c.get_model_metadata("nothing"),
        "StatusCode.NOT_FOUND",
        "is not found",
    ),
    "config of an unknown model": (
        lambda c: c.get_model_config("nothing"),
        "StatusCode.NOT_FOUND",
        "is not found",
    ),
    "statistics of an unknown model": (
        lambda c: c.get_inference_statistics("nothing"),
        "StatusCode.INVALID_ARGUMENT",
        "requested model 'nothing' is not available",
    ),
    "an image without pixels": (
        lambda c: c.infer("digits", [image_input(np.zeros((1, 0, 8, 1), np.uint8))]),
        "StatusCode.INVALID_ARGUMENT",
        "",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_requests_are_refused_in_words_clients_know(client, case):
    ask, status, message = REFUSALS[case]
    with pytest.raises(InferenceServerException) as refused:
        ask(client)
    assert refused.value.status() == status
    assert message in refused.value.message()


def test_a_refused_request_leaves_a_record(client, runtime):
    with pytest.raises(InferenceServerException):
        client.infer("digits", [image_input(ONE, name="picture")], request_id="refused")
    with AuditReader(runtime.state / "audit" / "log.db") as reader:
        (entry,) = reader.show("refused")
    assert isinstance(entry.record, Failure)
    assert entry.record.code == "request.invalid"
    assert entry.record.version == 1


def test_a_wrong_raw_length_is_refused(runtime):
    request = oip.ModelInferRequest(model_name="digits", raw_input_contents=[b"short"])
    request.inputs.add(name="image", datatype="UINT8", shape=[1, 8, 8, 1])
    with grpc.insecure_channel(runtime.address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            oip_stubs.GRPCInferenceServiceStub(channel).ModelInfer(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Expected 64, got 5" in refused.value.details()
