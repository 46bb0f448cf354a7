"""Feedback: about whose requests, and what it may say."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from appliance.access import Role
from appliance.audit.kinds import Feedback, Inference
from appliance.audit.log import AuditLog
from appliance.audit.payload import Tensor
from appliance.clock import SystemClock
from appliance.errors import RequestError, RequestLimit, UnknownRecord
from appliance.signing import SigningKey
from appliance.tensors import DataType
from runtime.access import Principal
from runtime.feedback import FeedbackTaker, check_truth, tensor_from
from runtime.protocol import evidence_pb2 as wire
from runtime.recorder import Recorder
from runtime.services.feedback import FeedbackCall

LABEL = Tensor(
    name="label", datatype=DataType.INT64, shape=(1,), data=np.int64(3).tobytes()
)  # fmt: skip


def answered(request_id: str, principal: str, *, version: int, route: str = "active") -> Inference:
    zero = "0" * 64
    return Inference(
        request_id=request_id,
        model="m",
        version=version,
        bundle_sha256=zero,
        engine_sha256=zero,
        recipe_sha256=zero,
        route=route,  # type: ignore[arg-type]
        principal=principal,
        peer="",
        rows=1,
        input_sha256=zero,
        output_sha256=zero,
        outputs=(),
        vector=b"",
        queue_ns=0,
        compute_ns=0,
        total_ns=0,
    )


@pytest.fixture
def log(tmp_path: Path) -> Iterator[AuditLog]:
    path = tmp_path / "audit" / "log.db"
    with AuditLog.open(path, key=SigningKey.generate(), clock=SystemClock()) as opened:
        opened.append(
            [
                answered("a", "token:alice", version=1),
                answered("a", "token:alice", version=2, route="shadow"),
                answered("b", "token:bob", version=1),
                answered("s", "token:alice", version=2, route="shadow"),
            ]
        )
        yield opened


@pytest.fixture
def call(log: AuditLog, tmp_path: Path) -> Iterator[FeedbackCall]:
    recorder = Recorder(log, queue_records_max=10)
    taker = FeedbackTaker(tmp_path / "audit" / "log.db", recorder)
    yield FeedbackCall(taker)
    taker.close()
    recorder.close()


async def tell(
    call: FeedbackCall, request_id: str, name: str, role: Role | None, *models: str
) -> Any:
    principal = Principal(name, role, frozenset(models) or None)
    context = SimpleNamespace(principal=principal, peer=lambda: "ipv4:10.0.0.1:5")
    truth = [wire.Tensor(name="label", datatype="INT64", shape=[1], data=LABEL.data)]
    request = wire.FeedbackRequest(request_id=request_id, truth=truth, note="seen")
    return await call.Feedback(request, context)


async def test_a_client_tells_of_its_own_request(call: FeedbackCall, log: AuditLog) -> None:
    reply = await tell(call, "a", "token:alice", Role.CLIENT)
    assert (reply.sequence, reply.model, reply.version) == (4, "m", 1)
    assert log.size == 5


@pytest.mark.parametrize("request_id", ["b", "s", "nobody", ""])
async def test_a_client_is_told_nothing_of_others(call: FeedbackCall, request_id: str) -> None:
    with pytest.raises(UnknownRecord, match=f"no answered request '{request_id}'"):
        await tell(call, request_id, "token:alice", Role.CLIENT)


@pytest.mark.parametrize("role", [Role.ENGINEER, Role.OPERATOR, Role.AUDITOR])
async def test_who_runs_the_box_tells_of_any(
    call: FeedbackCall, tmp_path: Path, role: Role
) -> None:
    await tell(call, "b", "token:eve", role)
    from appliance.audit.reader import AuditReader

    with AuditReader(tmp_path / "audit" / "log.db") as reader:
        feedback = reader.show("b")[-1].record
    assert feedback == Feedback(
        request_id="b",
        model="m",
        version=1,
        principal="token:eve",
        peer="ipv4:10.0.0.1:5",
        truth=(LABEL,),
        note="seen",
    )


async def test_who_runs_some_models_tells_of_these_only(call: FeedbackCall) -> None:
    await tell(call, "b", "token:eve", Role.OPERATOR, "m")
    with pytest.raises(UnknownRecord, match="no answered request 'b'"):
        await tell(call, "b", "token:eve", Role.OPERATOR, "others")


async def test_many_tell_at_once(call: FeedbackCall) -> None:
    told = await asyncio.gather(*(tell(call, "a", "token:alice", Role.CLIENT) for _ in range(8)))
    assert sorted(reply.sequence for reply in told) == [*range(4, 12)]


@pytest.mark.parametrize(
    ("truth", "note", "error"),
    [
        ([], "", RequestError),
        ([LABEL, LABEL], "", RequestError),
        ([LABEL] * 17, "", RequestLimit),
        ([], "n" * 1001, RequestLimit),
        ([tensor_from("x", "FP32", [2], b"1234")], "", RequestError),
        ([tensor_from("x", "BYTES", [1], b"\xff\0\0\0a")], "", RequestError),
        ([tensor_from("x" * 129, "BOOL", [1], b"1")], "", RequestError),
        ([tensor_from("x", "UINT8", [70_000], bytes(70_000))], "", RequestLimit),
    ],
)
def test_what_may_not_be_said(truth: list[Tensor], note: str, error: type[Exception]) -> None:
    with pytest.raises(error) as refused:
        check_truth(truth, note)
    assert type(refused.value) is error


@pytest.mark.parametrize(("datatype", "shape"), [("FP31", [1]), ("FP32", [-1])])
def test_what_is_no_tensor(datatype: str, shape: list[int]) -> None:
    with pytest.raises(RequestError, match="no tensor of the protocol"):
        tensor_from("x", datatype, shape, b"")
