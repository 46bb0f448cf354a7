"""The door of a real runtime, as stock clients and strangers meet it, on both lanes."""

import shutil
import time
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2 as reflection
from tritonclient.utils import InferenceServerException

from appliance.access import Role, revoke_tokens
from appliance.audit.kinds import Failure, Inference
from runtime.access import METHODS
from runtime.protocol import evidence_pb2 as wire
from tests.conftest import runtimes
from tests.runtime.access.guarded import SETTINGS, Guarded, code, guarded_box, image, raw, until
from tests.runtime.transport.test_tls import LOOPBACK, Authority

SPIFFE = "spiffe://plant/{}/{}"
UNDESCRIBED = {
    "/grpc.health.v1.Health/List",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
}


@pytest.fixture(scope="module", params=["fast", "public"])
def box(request, digits_state, tmp_path_factory):
    with guarded_box(request.param, digits_state, tmp_path_factory.mktemp("box")) as box:
        yield box


def test_the_table_names_what_is_served_and_no_more(box):
    """Asked of the server itself: reflection lists its services, and their descriptors the calls."""
    with box.channel() as channel:
        asking = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection.ServerReflectionRequest.SerializeToString,
            reflection.ServerReflectionResponse.FromString,
        )

        def asked(**question):
            requests = iter([reflection.ServerReflectionRequest(**question)])
            (told,) = asking(requests, metadata=tuple(box.bearer("client").items()))
            return told

        services = asked(list_services="").list_services_response.service
        served = set()
        for name in {service.name for service in services}:
            told = asked(file_containing_symbol=name).file_descriptor_response
            for file in map(FileDescriptorProto.FromString, told.file_descriptor_proto):
                for service in file.service:
                    if f"{file.package}.{service.name}" == name:
                        served |= {f"/{name}/{method.name}" for method in service.method}
    # The stock descriptors know neither the newest call of health nor reflection's second name.
    assert set(METHODS) - served <= UNDESCRIBED
    assert served <= set(METHODS)


def test_every_call_that_is_served_is_in_the_table_and_asks_for_its_roles(box):
    denied = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
    with box.channel() as channel:
        for method, rule in METHODS.items():
            assert raw(channel, method, {}) is grpc.StatusCode.UNAUTHENTICATED, method
            wrong = {"authorization": "Bearer holdfast_" + "A" * 43}
            assert raw(channel, method, wrong) is grpc.StatusCode.UNAUTHENTICATED, method
            for role in Role:
                got = raw(channel, method, box.bearer(str(role)))
                if role in rule.roles:
                    assert got not in denied | {grpc.StatusCode.UNIMPLEMENTED}, (method, role)
                else:
                    assert got is grpc.StatusCode.PERMISSION_DENIED, (method, role)


def test_a_stock_client_asks_with_a_token_and_is_recorded_by_name(box):
    with box.client() as client:
        assert code(client.is_server_live) is grpc.StatusCode.UNAUTHENTICATED
        assert client.is_server_live(headers=box.bearer("line-3"))
        client.infer("digits", [image()], request_id="by-token", headers=box.bearer("line-3"))
        with pytest.raises(InferenceServerException, match="neither a token nor a certificate"):
            client.infer("digits", [image()], request_id="by-nobody")
    assert [r.principal for r in box.records(Inference, request_id="by-token")] == ["token:line-3"]
    until(lambda: box.records(Failure, code="access.unidentified", principal=""))


async def test_the_asyncio_client_asks_with_a_token(box):
    client = box.client(triton_aio)
    with pytest.raises(InferenceServerException, match="neither a token"):
        await client.infer("digits", [image()])
    reply = await client.infer("digits", [image()], headers=box.bearer("client"))
    assert reply.get_response().model_version == "1"
    await client.close()


def test_a_principal_asks_its_own_models_only_and_sees_no_others(box):
    own, other = box.bearer("digits-only"), box.bearer("others-only")
    with box.client() as client:
        client.infer("digits", [image()], headers=own)
        assert client.is_model_ready("digits", headers=own)
        assert [m.name for m in client.get_model_repository_index(headers=own).models] == [
            "digits"
        ] * 2
        assert not client.get_model_repository_index(headers=other).models
        assert not client.get_inference_statistics(headers=other).model_stats
        for call in (
            lambda: client.infer("digits", [image()], request_id="not-mine", headers=other),
            lambda: client.is_model_ready("digits", headers=other),
            lambda: client.get_model_metadata("digits", headers=other),
            lambda: client.get_model_config("digits", headers=other),
            lambda: client.get_inference_statistics("digits", headers=other),
            lambda: client.get_trace_settings("digits", headers=other),
        ):
            assert code(call) is grpc.StatusCode.PERMISSION_DENIED
    until(lambda: box.records(Failure, request_id="not-mine"))
    (record,) = box.records(Failure, request_id="not-mine")
    assert (record.principal, record.code) == ("token:others-only", "access.forbidden")
    assert (record.model, record.version) == ("digits", 0)


def test_an_auditor_of_some_models_gets_no_receipts_of_others(box):
    for model in ("digits", "others"):
        box.issue(f"audits-{model}", Role.AUDITOR, models=(model,))
    with box.client() as client, box.channel() as channel:
        client.infer("digits", [image()], request_id="audited", headers=box.bearer("client"))
        asking = channel.unary_unary("/holdfast.EvidenceService/Receipt")
        wanted = wire.ReceiptRequest(request_id="audited").SerializeToString()

        def asked(name):
            return code(lambda: asking(wanted, metadata=tuple(box.bearer(name).items())))

        for name, told in (("digits", "OK"), ("others", "NOT_FOUND")):
            # Not known to the door yet, and the record not covered yet.
            passing = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE)
            until(lambda: asked(f"audits-{name}") not in passing)  # noqa: B023
            assert asked(f"audits-{name}") is grpc.StatusCode[told]


def test_settings_are_read_by_all_and_changed_by_few(box):
    with box.client() as client:
        client.get_log_settings(headers=box.bearer("client"))
        changed = lambda name: code(  # noqa: E731
            lambda: client.update_log_settings({"log_info": True}, headers=box.bearer(name))
        )
        assert changed("client") is grpc.StatusCode.PERMISSION_DENIED
        # Beyond the door, the configuration does not grant it here to anybody.
        assert changed("operator") is not grpc.StatusCode.PERMISSION_DENIED


def test_a_revoked_token_is_refused_within_a_second_in_an_open_stream_too(box):
    box.issue("leaver")
    answers = []
    with box.client() as client:
        until(
            lambda: code(lambda: client.is_server_live(headers=box.bearer("leaver"))).value[0] == 0
        )
        client.start_stream(
            lambda result, error: answers.append(error), headers=box.bearer("leaver")
        )
        client.async_stream_infer("digits", [image()])
        until(lambda: answers)
        assert answers == [None]
        revoke_tokens(box.state.tokens, "leaver", now_ns=time.time_ns())
        until(
            lambda: (
                code(lambda: client.is_server_live(headers=box.bearer("leaver")))
                is grpc.StatusCode.UNAUTHENTICATED
            )
        )
        client.async_stream_infer("digits", [image()], request_id="too-late")
        until(lambda: len(answers) == 2)
        assert "was revoked" in str(answers[1])
        client.stop_stream()
    until(lambda: box.records(Failure, request_id="too-late", code="access.unidentified"))


@pytest.mark.parametrize("lane", ["fast", "public"])
def test_certificates_state_their_roles(digits_state, tmp_path, lane):
    from cryptography import x509

    state = Path(shutil.copytree(digits_state, tmp_path / "state"))
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("box", LOOPBACK)
    settings = SETTINGS.format(
        lane=lane, certificate=certificate, key=key, client_ca=authority.certificate, calls=9
    )
    settings += (
        f'[[access.principals]]\nname = "{SPIFFE.format("client", "dismissed")}"\nrole = "none"\n'
    )

    def shown(name, role=None):
        uri = [x509.UniformResourceIdentifier(SPIFFE.format(role, name))] if role else []
        chain, private = authority.issue(name, *uri)
        return {
            "ssl": True,
            "root_certificates": authority.certificate,
            "certificate_chain": chain,
            "private_key": private,
        }

    with runtimes(tmp_path) as start:
        runtime = start(state, settings)
        runtime.decide("activate", 1)

        def ask(**given):
            with triton.InferenceServerClient(runtime.address, **given) as client:
                return code(lambda: client.infer("digits", [image()], request_id="cert"))

        assert ask(**shown("line-3", "client")) is grpc.StatusCode.OK
        assert ask(**shown("desk", "operator")) is grpc.StatusCode.PERMISSION_DENIED
        assert ask(**shown("plain")) is grpc.StatusCode.UNAUTHENTICATED
        assert ask(**shown("dismissed", "client")) is grpc.StatusCode.UNAUTHENTICATED
        assert runtime.stop() == 0
    guarded = Guarded(runtime, authority)
    (record,) = guarded.records(Inference, request_id="cert")
    assert record.principal == "spiffe://plant/client/line-3"
    refused = {record.principal: record.code for record in guarded.records(Failure)}
    assert refused == {
        "spiffe://plant/operator/desk": "access.forbidden",
        "": "access.unidentified",
    }


def test_an_address_of_the_network_without_tls_keeps_the_runtime_from_starting(
    state, start_runtime
):
    runtime = start_runtime(state, '[server]\naddress = "0.0.0.0:0"\n', wait=False)
    assert runtime.process.wait() == 10
    assert "there is no TLS" in runtime.journal.read_text()
