"""Key rings: trust goes from key to key, in proofs and over what retention removed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.checker import KEY_CHANGE_KIND
from appliance.audit.checkpoint import origin_of, sign_checkpoint
from appliance.audit.keyring import KeyRing, handed_over
from appliance.audit.kinds import Inference, KeyChange
from appliance.audit.log import AuditLog
from appliance.audit.proofs import root_over
from appliance.audit.reader import AuditReader
from appliance.audit.receipt import (
    growth_of,
    open_growth,
    open_receipt,
    receipt_of,
)
from appliance.audit.verify import verify
from appliance.errors import (
    AuditBroken,
    Unproven,
)
from appliance.signing import PublicKey, SigningKey, typed_message

Make = Callable[..., Inference]


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
    origin = origin_of(first.public)
    note = sign_checkpoint(9, bytes(32), third, origin=origin)

    for key in (first, second, third):
        assert KeyRing(key.public, changes=changes).open(note).size == 9
    assert KeyRing(third.public, origin=origin).open(note).size == 9
    assert KeyRing(second.public, origin=origin).admit(changes[0]) is False
    with pytest.raises(AuditBroken, match="signed by"):
        KeyRing(first.public, changes=changes[:1]).open(note)
    with pytest.raises(AuditBroken, match="signed by"):
        KeyRing(SigningKey.generate().public, origin=origin).open(note)


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


def test_trust_outlives_the_files_that_told_of_the_change(
    open_log: Callable[..., AuditLog], path: Path, inference: Make, key: SigningKey, clock: Any
) -> None:
    """Rotate twice, seal, remove: whoever has the first public key still checks the log and its receipts."""
    second, third = SigningKey.generate(), SigningKey.generate()
    with open_log() as writer:
        writer.append([inference(0)])
        writer.change_key(second, reason="yearly", by="op")
        writer.change_key(third, reason="yearly", by="op")
        assert writer.seal()
        clock.advance(86_400 * 200)
        writer.append([inference(1)])
        assert writer.seal()
        writer.append([inference(2)])
        assert writer.remove_expired(183) > 0
        place = writer.append([inference(3)])[0]
    with AuditReader(path) as log:
        assert log.first() > 0
        assert [entry.sequence for entry in log.key_changes()] == [1, 2]
        data = receipt_of(log, place)
    for each in (key, second, third):
        assert open_receipt(data, each.public).place == place
        found = verify(path, each.public)
        assert (found.removed, found.records) == (3, log_size(path))
    with pytest.raises(AuditBroken):
        verify(path, SigningKey.generate().public)


def log_size(path: Path) -> int:
    with AuditReader(path) as log:
        return log.size()
