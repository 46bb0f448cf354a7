"""Receipts and growth proofs over real logs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.checkpoint import read_checkpoint, sign_checkpoint
from appliance.audit.kinds import Inference
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.receipt import (
    answer_among,
    growth_of,
    open_growth,
    open_receipt,
    receipt_of,
)
from appliance.audit.record import decode
from appliance.errors import (
    AuditBroken,
    NotCovered,
    UnknownRecord,
    Unproven,
)
from appliance.signing import SigningKey

Make = Callable[..., Inference]


@pytest.mark.parametrize("sequence", [0, 255, 256, 599])
def test_a_receipt_proves_one_record_and_names_no_other(
    grown: Path, key: SigningKey, sequence: int
) -> None:
    with AuditReader(grown) as log:
        data = receipt_of(log, sequence)
    receipt = open_receipt(data, key.public)

    assert receipt.place == sequence
    assert decode(receipt.record).record.columns()[3] == f"request-{sequence}"
    assert data.count(b"request-") == 1
    assert len(data) < 3000


def test_a_record_without_a_checkpoint_has_no_receipt_yet(
    open_log: Callable[..., AuditLog], path: Path, inference: Make
) -> None:
    with open_log(checkpoint_records=100) as writer:
        writer.append([inference(0)])
        with AuditReader(path) as log:
            with pytest.raises(NotCovered):
                receipt_of(log, 0)
            with pytest.raises(UnknownRecord):
                receipt_of(log, 1)
            writer.checkpoint()
            receipt_of(log, 0)


def test_what_was_tampered_with_gives_no_receipt(
    grown: Path, tamper: Callable[..., None], inference: Make
) -> None:
    tamper(grown, "UPDATE record SET leaf = zeroblob(32) WHERE sequence = 400")
    with AuditReader(grown) as log:
        with pytest.raises(AuditBroken):
            receipt_of(log, 400)
        with pytest.raises(AuditBroken, match="does not hold what its checkpoint"):
            receipt_of(log, 401)
    tamper(grown, "DELETE FROM subtree")
    with AuditReader(grown) as log, pytest.raises(AuditBroken, match="not whole"):
        receipt_of(log, 599)


def test_a_log_grows_from_each_checkpoint_to_each_later_one(grown: Path, key: SigningKey) -> None:
    with AuditReader(grown) as log:
        notes = log.checkpoints(100)[1:]
        for place, old in enumerate(notes):
            for new in notes[place:]:
                first, second, note = open_growth(growth_of(log, old, new), key.public)
                assert (first, second) == (read_checkpoint(old), read_checkpoint(new))
                assert note == new
        with pytest.raises(Unproven, match="did not grow"):
            growth_of(log, notes[-1], notes[0])
        forged = sign_checkpoint(200, bytes(32), key)
        with pytest.raises(Unproven, match="did not grow"):
            growth_of(log, forged, notes[-1])
        with pytest.raises(Unproven, match="does not verify"):
            open_growth(growth_of(log, notes[0], notes[1]), SigningKey.generate().public)


def test_the_answer_is_what_a_requests_receipt_is_of(
    open_log: Callable[..., AuditLog], path: Path, inference: Make
) -> None:
    with open_log() as writer:
        writer.append([inference(7), inference(7, route="shadow")])
    with AuditReader(path) as log:
        entries = log.show("request-7")
    assert answer_among(entries) == entries[0]
    assert answer_among(entries[1:]) == entries[1]


def test_proofs_span_sealed_files_and_outlive_removed_ones(
    open_log: Callable[..., AuditLog], path: Path, inference: Make, key: SigningKey, clock: Any
) -> None:
    """A subtree of 256 records lies across two files; after the first is gone the later records still prove."""
    with open_log(checkpoint_records=50) as writer:
        writer.append([inference(number) for number in range(300)])
        with AuditReader(path) as log:
            old = log.checkpoints(1)[0]
        assert writer.seal()
        for start in range(300, 700, 50):
            writer.append([inference(number) for number in range(start, start + 50)])
        assert writer.seal()
        writer.append([inference(number) for number in range(700, 750)])
        writer.checkpoint()
        with AuditReader(path) as log:
            proven = [
                open_receipt(receipt_of(log, place), key.public) for place in (0, 299, 511, 740)
            ]
            open_growth(growth_of(log, old, log.checkpoints(1)[0]), key.public)
        assert [receipt.place for receipt in proven] == [0, 299, 511, 740]
        clock.advance(86_400 * 200)
        writer.append([inference(750)])
        assert writer.seal()
        writer.append([inference(751)])
        assert writer.remove_expired(183) > 0
        writer.append([inference(number) for number in range(750, 760)])
        writer.checkpoint()
        with AuditReader(path) as log:
            first, new = log.first(), log.checkpoints(1)[0]
            assert first > 0
            assert open_receipt(receipt_of(log, first), key.public).place == first
            with pytest.raises(UnknownRecord):
                receipt_of(log, 0)
            with pytest.raises(UnknownRecord, match="removed with others of its age"):
                growth_of(log, old, new)
            sealed = log.checkpoint_from(first)
            assert sealed is not None
            assert read_checkpoint(sealed).size == first, "sealing signs a checkpoint at the end"
            open_growth(growth_of(log, sealed, new), key.public)
