"""Control and evidence messages: any bytes that parse are acted on or refused."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from appliance.access import Role
from appliance.audit.kinds import Stop
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.witness import Witness
from appliance.clock import SystemClock
from appliance.config import StateConfig
from appliance.signing import SigningKey
from runtime.access.principal import Principal
from runtime.feedback import check_truth, tensor_from
from runtime.protocol import control_pb2 as control
from runtime.protocol import evidence_pb2 as evidence
from runtime.services.control import act_from
from runtime.services.evidence import EvidenceService
from tests.fuzz.mutating import fuzzed, mutants, refused_or_taken, saved

KEY = SigningKey.generate()
NUMBERS = st.sampled_from([0, 1, 2, 7, (1 << 31) - 1, 1 << 31, (1 << 63) - 1])
HONEST: dict[Any, list[Any]] = {
    evidence.ReceiptRequest: [
        evidence.ReceiptRequest(sequence=1),
        evidence.ReceiptRequest(request_id="r-1"),
    ],
    evidence.AddCheckpointRequest: [
        evidence.AddCheckpointRequest(old_size=3, proof=[bytes(32)] * 3, checkpoint="a\n1\nb\n\n")
    ],
    evidence.FeedbackRequest: [
        evidence.FeedbackRequest(
            request_id="r-1",
            note="n",
            truth=[evidence.Tensor(name="x", datatype="FP32", shape=[1, 2], data=bytes(8))],
        )
    ],
    control.DecideRequest: [
        control.DecideRequest(model="m", act="start_canary", version=1, per_mille=5, reason="r"),
        control.DecideRequest(model="m", act="tune", tuning=control.Tuning(bucket_rows=[1, 2])),
    ],
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EvidenceService]:
    """Over a small log that is covered by checkpoints, and a witness for it."""
    state = StateConfig(directory=str(tmp_path_factory.mktemp("state")))
    with AuditLog.open(state.audit_log, key=KEY, clock=SystemClock(), checkpoint_records=1) as log:
        log.append([Stop(reason="stopped")])
        log.append([Stop(reason="stopped")])
        with AuditReader(state.audit_log) as reader:
            HONEST[evidence.AddCheckpointRequest].append(
                evidence.AddCheckpointRequest(checkpoint=reader.checkpoints()[-1])
            )
        origin = HONEST[evidence.AddCheckpointRequest][-1].checkpoint.partition("\n")[0]
        witness = Witness(state.root / "w", KEY, {origin: [KEY.public]}, SystemClock())
        recorder: Any = SimpleNamespace(sign_soon=lambda: None)
        made = EvidenceService(state=state, recorder=recorder, clock=SystemClock(), witness=witness)
        yield made
        made.close()


def _acts(service: EvidenceService) -> dict[Any, Callable[[Any], object]]:
    """What is done with each message."""
    context = SimpleNamespace(principal=Principal("", None), peer=lambda: "ipv4:127.0.0.1:1")
    client = SimpleNamespace(principal=Principal("c", Role.CLIENT), peer=context.peer)

    def _receipt(request: Any) -> None:
        asyncio.run(service.Receipt(request, context))
        asyncio.run(service.Receipt(request, client))

    def _added(request: Any) -> None:
        asyncio.run(service.AddCheckpoint(request, context))

    return {
        evidence.ReceiptRequest: _receipt,
        evidence.AddCheckpointRequest: _added,
        evidence.FeedbackRequest: _told,
        control.DecideRequest: act_from,
    }


def _told(request: Any) -> None:
    truth = [tensor_from(t.name, t.datatype, t.shape, t.data) for t in request.truth]
    check_truth(truth, request.note)


def _every(service: EvidenceService, data: bytes) -> None:
    """Take these bytes for each of the messages."""
    for kind, act in _acts(service).items():

        def _message(data: bytes, kind: Any = kind, act: Callable[[Any], object] = act) -> None:
            act(kind.FromString(data))

        refused_or_taken(_message, data, DecodeError)


@fuzzed
@given(st.data())
def test_any_bytes_are_acted_on_or_refused(service: EvidenceService, data: st.DataObject) -> None:
    honest = [message.SerializeToString() for each in HONEST.values() for message in each]
    _every(service, data.draw(mutants(honest)))


@fuzzed
@given(st.integers(0, 2**64 - 1) | NUMBERS | st.text(max_size=300))
def test_any_record_that_is_asked_for_is_there_or_not(
    service: EvidenceService, asked: int | str
) -> None:
    named = {"sequence": asked} if isinstance(asked, int) else {"request_id": asked}
    _every(service, evidence.ReceiptRequest(**named).SerializeToString())


@fuzzed
@given(
    st.text(max_size=5) | st.just("n" * 200),
    st.sampled_from(["FP32", "BYTES", "BOOL", "BF16", "FP16", "", "fp32", "INT64"]),
    st.lists(st.integers(-1, 3) | st.sampled_from([1 << 31, 1 << 62, (1 << 63) - 1]), max_size=70),
    st.binary(max_size=40),
)
def test_any_truth_is_taken_or_refused(
    service: EvidenceService, name: str, datatype: str, shape: list[int], data: bytes
) -> None:
    tensor = evidence.Tensor(name=name, datatype=datatype, shape=shape, data=data)
    _every(service, evidence.FeedbackRequest(truth=[tensor] * 2).SerializeToString())
    _every(service, evidence.FeedbackRequest(truth=[tensor]).SerializeToString())


ACTS = ["activate", "start_canary", "promote", "retire", "tune", "", "Activate"]


@fuzzed
@given(st.sampled_from(ACTS), st.lists(NUMBERS, max_size=5), st.data())
def test_any_decision_is_an_act_or_refused(
    service: EvidenceService, act: str, rows: list[int], data: st.DataObject
) -> None:
    request = control.DecideRequest(act=act)
    for message in (request, request.tuning):
        for field in message.DESCRIPTOR.fields:
            if (
                field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32)
                and not field.is_repeated
            ):
                setattr(message, field.name, data.draw(NUMBERS) & 0x7FFF_FFFF)
            elif (
                field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64)
                and not field.is_repeated
            ):
                setattr(message, field.name, data.draw(NUMBERS))
    request.tuning.bucket_rows.extend(row & 0x7FFF_FFFF for row in rows)
    _every(service, request.SerializeToString())


@pytest.mark.parametrize("path", saved("messages"), ids=lambda path: path.name)
def test_saved_cases(service: EvidenceService, path: Path) -> None:
    _every(service, path.read_bytes())
