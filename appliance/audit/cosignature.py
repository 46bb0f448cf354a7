"""Cosignatures: a witness's word that it saw a log grow (https://c2sp.org/tlog-cosignature v1.0.0, Ed25519).

Knows: the bytes that a witness signs and the line that it adds to a checkpoint's note. Rules: a witness signs
with a key of its own, under the name `holdfast-witness/` and the start of the key's id, and no other name counts,
for the signature does not cover it; what does not fit is told, a stranger's line counts for nothing. Leaves to others: whether to cosign (`audit.witness`).
"""

from collections.abc import Iterable
from typing import NamedTuple

from appliance.audit.checker import COSIGNATURE, TIME_BYTES
from appliance.audit.note import KEY_HASH_BYTES, key_hash, note_text, signature_line, split_note
from appliance.errors import AuditBroken
from appliance.signing import PublicKey, SigningKey

_REMEDY = "ask the witness for what it has: its checkpoint and this one cannot both be true"


class Cosigned(NamedTuple):
    """A witness by name, and when it cosigned: whole seconds since 1970, UTC."""

    name: str
    seconds: int


def witness_name(public: PublicKey) -> str:
    """The name that a witness signs under."""
    return f"holdfast-witness/{public.key_id[:16]}"


def cosign(note: str, key: SigningKey, *, seconds: int) -> str:
    """The line that `key`, a witness, adds to the checkpoint `note` at `seconds` since 1970."""
    name = witness_name(key.public)
    signature = key.sign(_message(note_text(note), seconds))
    stamp = seconds.to_bytes(TIME_BYTES, "big")
    return signature_line(name, key_hash(name, key.public, COSIGNATURE) + stamp + signature)


def cosigned_by(note: str, witnesses: Iterable[PublicKey]) -> list[Cosigned]:
    """Which of `witnesses` cosigned `note`; AuditBroken when one's cosignature does not fit."""
    text, signatures = split_note(note)
    found = []
    for public in witnesses:
        name = witness_name(public)
        for signer, signature in signatures:
            head, rest = signature[:KEY_HASH_BYTES], signature[KEY_HASH_BYTES:]
            if signer != name or head != key_hash(name, public, COSIGNATURE):
                continue
            seconds = int.from_bytes(rest[:TIME_BYTES], "big")
            if not public.verify(_message(text, seconds), rest[TIME_BYTES:]):
                raise AuditBroken(f"the cosignature of {name} does not fit", remedy=_REMEDY)
            found.append(Cosigned(name, seconds))
    return found


def _message(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()
