"""Receipts, growth proofs, key rings and witnesses over real logs."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.checker import KEY_CHANGE_KIND
from appliance.audit.checkpoint import origin_of, read_checkpoint, sign_checkpoint
from appliance.audit.cosignature import Cosigned, cosign, cosigned_by, witness_name
from appliance.audit.keyring import KeyRing, handed_over
from appliance.audit.kinds import Inference, KeyChange
from appliance.audit.log import AuditLog
from appliance.audit.proofs import root_over
from appliance.audit.reader import AuditReader
from appliance.audit.receipt import (
    answer_among,
    growth_of,
    growth_path,
    open_growth,
    open_receipt,
    receipt_of,
)
from appliance.audit.record import decode
from appliance.audit.witness import Witness
from appliance.errors import (
    AuditBroken,
    NotCovered,
    StateError,
    UnknownLog,
    UnknownRecord,
    Unproven,
    WitnessRefused,
)
from appliance.signing import PublicKey, SigningKey, typed_message

Make = Callable[..., Inference]


@pytest.fixture
def grown(path: Path, open_log: Callable[..., AuditLog], inference: Make) -> Path:
    """A closed log of 600 records: over one subtree's worth, with a checkpoint every 100."""
    with open_log(checkpoint_records=100) as log:
        for start in range(0, 600, 50):
            log.append([inference(number) for number in range(start, start + 50)])
    return path


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


def change(old: SigningKey, new: PublicKey, **changes: object) -> KeyChange:
    fields: dict[str, object] = {
        "key": "box",
        "old_key_id": old.public.key_id,
        "new_key_id": new.key_id,
        "new_public": new.raw,
        "signature": handed_over(old, new),
        "reason": "yearly",
        "by": "op",
        "old_public": old.public.raw,
    }
    return KeyChange(**(fields | changes))  # type: ignore[arg-type]


def test_trust_goes_from_key_to_key() -> None:
    first, second, third = (SigningKey.generate() for _ in range(3))
    changes = [change(first, second.public), change(second, third.public)]
    note = sign_checkpoint(9, bytes(32), third, origin=origin_of(first.public))

    for key in (first, second, third):
        assert KeyRing(key.public, changes=changes).open(note).size == 9
    assert KeyRing.for_note(note, third.public).open(note).size == 9
    assert KeyRing.for_note(note, second.public).admit(changes[0]) is False
    with pytest.raises(AuditBroken, match="signed by"):
        KeyRing(first.public, changes=changes[:1]).open(note)
    with pytest.raises(AuditBroken, match="signed by"):
        KeyRing.for_note(note, SigningKey.generate().public).open(note)


def test_a_key_change_that_does_not_fit_is_refused() -> None:
    first, second = SigningKey.generate(), SigningKey.generate()
    ring = KeyRing(first.public)

    with pytest.raises(AuditBroken, match="not signed by the key before it"):
        ring.admit(change(second, second.public, old_key_id=first.public.key_id))
    with pytest.raises(AuditBroken, match="not signed by the key before it"):
        ring.admit(change(first, second.public, new_public=bytes(32)))
    signed = first.sign(typed_message(KEY_CHANGE_KIND, b"short"))
    with pytest.raises(AuditBroken, match="names two keys"):
        ring.admit(change(first, second.public, new_key_id="0" * 64))
    with pytest.raises(AuditBroken, match="not signed by the key before it"):
        KeyRing(second.public, changes=[change(first, second.public, signature=bytes(64))])
    with pytest.raises(AuditBroken, match="what is no key"):
        ring.admit(change(first, second.public, new_public=b"short", signature=signed))
    assert ring.admit(change(first, second.public, key="witness")) is False
    assert ring.keys == (first.public,)


def test_a_receipt_outlives_its_key(
    open_log: Callable[..., AuditLog], path: Path, inference: Make, key: SigningKey
) -> None:
    """With the log's key change in it, a receipt signed by the new key verifies under the old one."""
    new = SigningKey.generate()
    with open_log() as writer:
        writer.append([inference(0), change(key, new.public)])  # type: ignore[list-item]
    with AuditReader(path) as log:
        root = root_over(log, range(2))
        note = sign_checkpoint(2, root, new, origin=origin_of(key.public))
        data = receipt_of(log, 0, cosigned=note)
    assert open_receipt(data, key.public).place == 0
    assert open_receipt(data, new.public).place == 0
    with pytest.raises(Unproven, match="not signed by this key"):
        open_receipt(data, SigningKey.generate().public)


WITNESS = SigningKey.generate()


def test_the_cosignature_of_the_specification_has_its_key_hash() -> None:
    """The key hash covers the name, the type 0x04 and the key, so no box signature passes for one."""
    note = sign_checkpoint(3, bytes(32), WITNESS)
    line = cosign(note, WITNESS, seconds=1_679_315_147)
    witnessed = note + line

    assert line.startswith(f"\u2014 {witness_name(WITNESS.public)} ")
    assert cosigned_by(witnessed, [WITNESS.public]) == [
        Cosigned(witness_name(WITNESS.public), 1_679_315_147)
    ]
    assert cosigned_by(note, [WITNESS.public]) == []
    assert cosigned_by(witnessed, [SigningKey.generate().public]) == []
    with pytest.raises(AuditBroken, match="does not fit"):
        cosigned_by(sign_checkpoint(4, bytes(32), WITNESS) + line, [WITNESS.public])


@pytest.fixture
def witness(tmp_path: Path, key: SigningKey, clock_class: Callable[[], object]) -> Witness:
    logs = {origin_of(key.public): (key.public,)}
    return Witness(tmp_path / "witness", WITNESS, logs, clock_class())  # type: ignore[arg-type]


def test_a_witness_follows_a_log_as_it_grows(
    grown: Path, witness: Witness, key: SigningKey
) -> None:
    with AuditReader(grown) as log:
        size = 0
        for note in log.checkpoints(100):
            new = read_checkpoint(note)
            known = witness.latest(new.origin)
            proof = growth_path(log, read_checkpoint(known), new) if size else []
            answer = witness.add(size, proof, note)
            assert answer.size == new.size
            assert cosigned_by(note + answer.cosignature, [WITNESS.public])
            size = new.size
        # Asked again, it says so again; asked from elsewhere, it tells what it has.
        assert witness.add(size, [], note).cosignature
        assert witness.add(0, [], note) == ("", 600)
        with pytest.raises(WitnessRefused, match="no proof leads"):
            witness.add(700, [], note)
        with pytest.raises(WitnessRefused, match="no proof leads"):
            witness.add(600, [bytes(32)] * 64, note)


def test_a_witness_refuses_a_rewritten_log(
    grown: Path, witness: Witness, key: SigningKey, tmp_path: Path
) -> None:
    with AuditReader(grown) as log:
        notes = log.checkpoints(100)
    witness.add(0, [], notes[3])
    size = read_checkpoint(notes[3]).size
    for forged, proof in (
        (sign_checkpoint(size, bytes(32), key), []),
        (sign_checkpoint(size + 1, bytes(32), key), [bytes(32)] * 3),
    ):
        with pytest.raises(WitnessRefused, match="did not grow"):
            witness.add(size, proof, forged)
    assert read_checkpoint(witness.latest(origin_of(key.public))).size == size


def test_a_witness_signs_for_nobody_it_does_not_know(witness: Witness, key: SigningKey) -> None:
    stranger = SigningKey.generate()

    with pytest.raises(UnknownLog):
        witness.add(0, [], sign_checkpoint(1, bytes(32), stranger))
    with pytest.raises(WitnessRefused, match="not cosigned"):
        witness.add(0, [], sign_checkpoint(1, bytes(32), stranger, origin=origin_of(key.public)))
    with pytest.raises(WitnessRefused, match="not cosigned"):
        witness.add(0, [], "no note")


def test_a_witness_that_cannot_keep_does_not_cosign(
    witness: Witness, key: SigningKey, tmp_path: Path
) -> None:
    (tmp_path / "witness").write_text("in the way")
    with pytest.raises(StateError):
        witness.add(0, [], sign_checkpoint(1, bytes(32), key))


def test_two_at_once_cannot_take_a_witness_back(
    grown: Path, witness: Witness, key: SigningKey
) -> None:
    """Both prove growth from the same size; one of them wins, the other is told the new size."""
    with AuditReader(grown) as log:
        notes = log.checkpoints(100)[1:]
        witness.add(0, [], notes[0])
        old = read_checkpoint(notes[0])
        asked = [(note, growth_path(log, old, read_checkpoint(note))) for note in notes[1:]]
    answers = []
    threads = [
        threading.Thread(target=lambda a=a: answers.append(witness.add(old.size, a[1], a[0])))  # type: ignore[misc]
        for a in asked
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(bool(answer.cosignature) for answer in answers) == 1
    assert len({answer.size for answer in answers}) == 1


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


def test_receipts_and_growth_span_a_change_of_the_key(
    open_log: Callable[..., AuditLog], path: Path, inference: Make, key: SigningKey
) -> None:
    """Whoever has the first public key checks what the second one signed; the checker follows the change."""
    new = SigningKey.generate()
    with open_log() as writer:
        writer.append([inference(0)])
        writer.checkpoint()
        writer.change_key(new, reason="yearly", by="op")
        writer.append([inference(1)])
        writer.checkpoint()
    with AuditReader(path) as log:
        notes = log.checkpoints(10)
        for sequence in (0, 2):
            data = receipt_of(log, sequence)
            assert open_receipt(data, key.public).place == sequence
        assert open_receipt(data, new.public).place == 2
        old, grown, _ = open_growth(growth_of(log, notes[1], notes[-1]), key.public)
        changes = [entry.record for entry in log.key_changes()]
    assert old.origin == grown.origin == origin_of(key.public)
    ring = KeyRing(new.public, changes=changes)  # type: ignore[arg-type]
    assert [ring.open(note).size for note in notes] == [0, 1, 2, 3]
