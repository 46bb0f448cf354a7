"""A client asks where its record stands, fetches the receipt, and checks it without the box."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient import grpc as triton
from tritonclient.utils import np_to_triton_dtype
from typer.testing import CliRunner

from appliance.audit import checker
from appliance.audit.reader import AuditReader
from appliance.audit.receipt import open_receipt
from appliance.errors import ApplianceError, UnknownRecord, Unproven
from appliance.signing import PublicKey, SigningKey
from runtime.client import ControlClient, EvidenceClient, InferenceClient
from runtime.protocol import evidence_pb2 as wire
from tui.cli import app

IMAGE = np.zeros((1, 8, 8, 1), np.uint8)


def box_key(runtime: Any) -> PublicKey:
    return PublicKey.load(runtime.state / "keys" / "box.pub")


def test_a_client_gets_the_place_of_its_record_and_a_receipt_that_verifies(
    runtime: Any, tmp_path: Path
) -> None:
    with InferenceClient(runtime.address) as client:
        reply = client.infer("digits", {"image": IMAGE}, request_id="wanted", receipt=True)
        plain = client.infer("digits", {"image": IMAGE}, request_id="plain")
    with EvidenceClient(runtime.address) as evidence:
        sequence = int(str(reply.receipt["holdfast-record"]))
        data, receipt = evidence.receipt(box_key(runtime), sequence=sequence)
        _, same = evidence.receipt(box_key(runtime), request_id="wanted")
        note = evidence.checkpoint()

    assert "holdfast-record" not in plain.receipt
    assert receipt.place == same.place == sequence
    assert json.loads(receipt.record)["record"]["request_id"] == "wanted"
    assert checker.read_checkpoint(note)[0].size > sequence
    (tmp_path / "receipt").write_bytes(data)
    alone = [sys.executable, "-I", checker.__file__, "receipt", tmp_path / "receipt"]
    checked = subprocess.run(
        [*alone, "--key", runtime.state / "keys" / "box.pub"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr
    assert '"request_id": "wanted"' in checked.stdout


def test_a_stock_client_asks_by_a_header(runtime: Any) -> None:
    """In a stream the place comes as a parameter, since one request has no trailing metadata there."""
    tensor = triton.InferInput("image", IMAGE.shape, np_to_triton_dtype(IMAGE.dtype))
    tensor.set_data_from_numpy(IMAGE)
    answers: list[object] = []
    with triton.InferenceServerClient(runtime.address) as client:
        client.start_stream(
            lambda result, error: answers.append(error or result),
            headers={"holdfast-receipt": "1"},
        )
        client.async_stream_infer("digits", [tensor], request_id="streamed")
        client.stop_stream()

    (answer,) = answers
    place = answer.get_response().parameters["holdfast-record"].string_param  # type: ignore[attr-defined]
    with EvidenceClient(runtime.address) as evidence:
        _, receipt = evidence.receipt(box_key(runtime), sequence=int(place))
    assert json.loads(receipt.record)["record"]["request_id"] == "streamed"


def test_what_is_not_there_or_not_the_callers_is_told_alike(runtime: Any) -> None:
    with EvidenceClient(runtime.address) as evidence:
        for wanted in ({"request_id": "nobody's"}, {"sequence": 10**9}, {"sequence": 0}):
            with pytest.raises(UnknownRecord, match="you have no record"):
                evidence.receipt(box_key(runtime), **wanted)  # type: ignore[arg-type]
        with pytest.raises(ApplianceError, match="names no record"):
            evidence._call(evidence._evidence.Receipt, wire.ReceiptRequest())
        with InferenceClient(runtime.address) as client:
            client.infer("digits", {"image": IMAGE}, request_id="mine")
        with pytest.raises(Unproven, match="not signed by this key"):
            evidence.receipt(SigningKey.generate().public, request_id="mine")


def test_the_public_lane_and_answers_that_do_not_wait(
    state: Path, start_runtime: Callable[..., Any]
) -> None:
    """Where an answer leaves before its record is durable, no place can be told; a receipt can."""

    settings = '[server]\naddress = "127.0.0.1:0"\ntransport = "public"\n[audit]\nawaited = false\n'
    runtime = start_runtime(state, settings)
    runtime.decide("activate", 1)
    with InferenceClient(runtime.address) as client:
        reply = client.infer("digits", {"image": IMAGE}, request_id="early", receipt=True)
    assert "holdfast-record" not in reply.receipt
    assert runtime.stop() == 0
    runtime = start_runtime(state, '[server]\naddress = "127.0.0.1:0"\ntransport = "public"\n')
    with InferenceClient(runtime.address) as client:
        reply = client.infer("digits", {"image": IMAGE}, request_id="late", receipt=True)
    assert int(str(reply.receipt["holdfast-record"])) > 0
    with EvidenceClient(runtime.address) as evidence:
        _, receipt = evidence.receipt(box_key(runtime), request_id="early")
    assert json.loads(receipt.record)["record"]["request_id"] == "early"


def test_an_operator_need_not_wait_for_a_checkpoint(runtime: Any, tmp_path: Path) -> None:
    with InferenceClient(runtime.address) as client, ControlClient(runtime.socket) as control:
        older = client.infer("digits", {"image": IMAGE}, receipt=True)
        control.sign(int(str(older.receipt["holdfast-record"])))  # the next one is not due for long
        client.infer("digits", {"image": IMAGE}, request_id="young")
    with AuditReader(runtime.state / "audit" / "log.db") as log:
        sequence = log.show("young")[-1].sequence
        assert log.checkpoint_from(sequence + 1) is None
    file = tmp_path / "receipt.json"
    words = ["--state", str(runtime.state), "audit", "receipt", "young", "-o", str(file)]
    done = CliRunner().invoke(app, words)

    assert done.exit_code == 0, done.stderr
    assert open_receipt(file.read_bytes(), box_key(runtime)).place == sequence
    with ControlClient(runtime.socket) as control:
        assert control.sign(sequence) > sequence
        with pytest.raises(UnknownRecord, match="no record 4000000 yet"):
            control.sign(4_000_000)
