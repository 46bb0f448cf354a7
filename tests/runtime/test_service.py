"""The real server in a child process, driven by the stock client as its own documentation shows."""

import urllib.request

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2 as oip
from tritonclient.grpc import service_pb2_grpc as oip_stubs
from tritonclient.utils import InferenceServerException

from appliance.audit.kinds import Inference
from appliance.audit.reader import AuditReader
from appliance.errors import DecisionError, UnknownModel, UnknownVersion, Unreachable
from runtime.client import ControlClient


def image_input(images, *, name="image", datatype="UINT8"):
    tensor = triton.InferInput(name, list(images.shape), datatype)
    tensor.set_data_from_numpy(images)
    return tensor


def test_the_server_is_live_ready_and_names_itself(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata(as_json=True)
    assert metadata["name"] == "holdfast"
    assert "holdfast" in metadata["extensions"]


def test_model_readiness(client):
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("digits", "2")
    assert not client.is_model_ready("nothing")
    with pytest.raises(InferenceServerException, match="specified version string 'x'"):
        client.is_model_ready("digits", "x")


def test_metadata_and_config_describe_what_clients_send(client):
    metadata = client.get_model_metadata("digits", as_json=True)
    assert metadata["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": ["-1", "-1", "-1", "1"]}
    ]
    assert [output["name"] for output in metadata["outputs"]] == [
        "logits",
        "probabilities",
        "classes",
        "labels",
    ]
    config = client.get_model_config("digits").config
    assert config.max_batch_size == 32
    assert list(config.input[0].dims) == [-1, -1, 1]
    assert [output.data_type for output in config.output][-1] == 13  # TYPE_STRING


def test_real_images_get_right_answers(client, held_out):
    images, labels = held_out["image"][:64], held_out["label"][:64]
    right = 0
    for start in range(0, 64, 32):
        part = slice(start, start + 32)
        result = client.infer("digits", [image_input(images[part])], request_id=f"part-{start}")
        assert result.get_response().id == f"part-{start}"
        right += int((result.as_numpy("classes")[:, 0] == labels[part]).sum())
        np.testing.assert_allclose(result.as_numpy("probabilities").sum(axis=1), 1, rtol=1e-5)
    assert right >= 0.9 * 64


def test_images_of_any_size_are_taken(client, held_out):
    image = held_out["image"][:1]
    small = client.infer("digits", [image_input(image)]).as_numpy("labels")[0, 0]
    large = np.repeat(np.repeat(image, 4, axis=1), 4, axis=2)
    assert client.infer("digits", [image_input(large)]).as_numpy("labels")[0, 0] == small


def test_only_the_outputs_asked_for_come_back(client, held_out):
    wanted = [triton.InferRequestedOutput("labels")]
    result = client.infer("digits", [image_input(held_out["image"][:1])], outputs=wanted)
    assert [output.name for output in result.get_response().outputs] == ["labels"]


def test_the_asynchronous_client_is_answered(client, held_out):
    import queue

    results = queue.Queue()
    for row in range(4):
        client.async_infer(
            "digits",
            [image_input(held_out["image"][row : row + 1])],
            callback=lambda result, error: results.put((result, error)),
        )
    assert all(results.get()[1] is None for _ in range(4))


def test_every_answer_is_in_the_log_before_it_arrives(client, runtime, held_out):
    image = held_out["image"][:2]
    result = client.infer("digits", [image_input(image)], request_id="logged")
    with AuditReader(runtime.state / "audit" / "log.db") as reader:
        (entry,) = reader.show("logged")
    record = entry.record
    assert isinstance(record, Inference)
    assert (record.model, record.version, record.rows, record.route) == ("digits", 1, 2, "active")
    kept = {tensor.name: tensor.data for tensor in record.outputs}
    assert kept["probabilities"] == result.as_numpy("probabilities").tobytes()
    assert record.peer.startswith("ipv4:127.0.0.1:")


def test_a_request_without_id_learns_the_one_it_was_recorded_under(runtime, held_out):
    image = held_out["image"][:1]
    request = oip.ModelInferRequest(model_name="digits", raw_input_contents=[image.tobytes()])
    request.inputs.add(name="image", datatype="UINT8", shape=image.shape)
    with grpc.insecure_channel(runtime.address) as channel:
        stub = oip_stubs.GRPCInferenceServiceStub(channel)
        reply, call = stub.ModelInfer.with_call(request)
    assert reply.id == ""
    (name,) = [v for k, v in call.trailing_metadata() if k == "holdfast-request-id"]
    with AuditReader(runtime.state / "audit" / "log.db") as reader:
        assert len(reader.show(name)) == 1


def test_statistics_advance(client, held_out):
    def counts():
        stats = client.get_inference_statistics("digits").model_stats[0]
        return stats.inference_count, stats.inference_stats.queue.count

    rows, queued = counts()
    client.infer("digits", [image_input(held_out["image"][:3])])
    assert counts() == (rows + 3, queued + 1)


def test_the_index_tells_loaded_from_unloaded(client):
    index = client.get_model_repository_index(as_json=True)["models"]
    states = {item["version"]: item["state"] for item in index if item["name"] == "digits"}
    assert states["1"] == "READY"
    assert states["2"] == "UNAVAILABLE"


def test_health_and_reflection(runtime):
    with grpc.insecure_channel(runtime.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService"):
            reply = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        listed = next(reflection.ServerReflectionInfo(iter([asked]))).list_services_response
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= {
        service.name for service in listed.service
    }


def test_health_can_be_watched(runtime):
    with grpc.insecure_channel(runtime.address) as channel:
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        watched.cancel()


def test_a_refusal_tells_code_and_remedy_and_long_names_do_not_break_it(runtime):
    with grpc.insecure_channel(runtime.address) as channel:
        stub = oip_stubs.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(oip.ModelInferRequest(model_name="\u00e9" * 20_000))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    trailing = {item.key: item.value for item in refused.value.trailing_metadata()}
    assert trailing["holdfast-code"] == "model.unknown"
    assert trailing["holdfast-remedy-bin"]
    assert trailing["holdfast-request-id"]


def test_prometheus_reads_counters(client, control, held_out):
    client.infer("digits", [image_input(held_out["image"][:1])])
    url = f"http://{control.status().metrics_address}/metrics"
    with urllib.request.urlopen(url) as reply:
        text = reply.read().decode()
    (line,) = [
        line
        for line in text.splitlines()
        if line.startswith('holdfast_requests_total{model="digits",result="answered",version="1"}')
    ]
    assert float(line.split()[-1]) > 0
    assert "holdfast_audit_queue" in text


def test_control_lists_versions_with_roles_and_proof(control):
    (model,) = control.list()
    assert (model.name, model.active, [v.number for v in model.versions]) == ("digits", 1, [1, 2])
    first = model.versions[0]
    assert (first.role, first.loaded, first.damage) == ("active", True, "")
    assert first.thresholds[0].reached >= first.thresholds[0].minimum


def test_control_refuses_what_the_rules_forbid(control):
    decide = control.decide
    with pytest.raises(DecisionError, match="already active") as refused:
        decide("digits", "activate", 1, actor="test", reason="again")
    assert refused.value.remedy
    with pytest.raises(UnknownVersion):
        decide("digits", "activate", 9, actor="test", reason="no such")
    with pytest.raises(UnknownModel):
        decide("nothing", "activate", 1, actor="test", reason="no such")
    with pytest.raises(DecisionError, match="no act"):
        decide("digits", "delete", 1, actor="test", reason="no such")
    with pytest.raises(DecisionError, match="needs an actor and a reason"):
        decide("digits", "activate", 2, actor="test", reason=" ")
    with pytest.raises(DecisionError, match="there is no previous version"):
        decide("digits", "roll_back", actor="test", reason="too early")


def test_watch_yields_statuses(control):
    statuses = control.watch(100)
    first, second = next(statuses), next(statuses)
    assert second.wall_ns > first.wall_ns
    assert first.models[0].name == "digits"


def test_nobody_there_is_an_error_with_a_remedy(tmp_path):
    with ControlClient(tmp_path / "control.sock") as control:
        with pytest.raises(Unreachable) as refused:
            control.status()
    assert "holdfast-runtime" in refused.value.remedy
