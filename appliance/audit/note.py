"""Signed notes: a short text with signature lines under it (https://c2sp.org/signed-note).

Knows: the format's layout and the key hash of its Ed25519 signatures. Rules: signatures of unknown keys
are ignored, so that witnesses may add theirs; a known key's must fit; base64 has one spelling. Leaves to
others: what the text says (`audit.checkpoint`).
"""

import base64
import binascii
import hashlib
import re

from appliance.errors import AuditBroken
from appliance.signing import PublicKey, SigningKey

NOTE_BYTES_MAX = 64 << 10
ED25519 = b"\x01"
KEY_HASH_BYTES = 4

# An em dash, the key's name (no space, no plus), the base64 of key hash and signature.
_LINE = re.compile("\u2014 ([^\\s+]+) ([A-Za-z0-9+/]+={0,2})")
_REMEDY = "take the whole note as it was exported, from its first line to its last newline"


def key_hash(name: str, public: PublicKey) -> bytes:
    """The 4 bytes that name a key: SHA-256(name || 0x0A || 0x01 || raw key)[:4]."""
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public.raw).digest()[:KEY_HASH_BYTES]


def sign_note(text: str, name: str, key: SigningKey) -> str:
    """The note of `text`, which ends in a newline, signed by `key` under `name`."""
    signature = key_hash(name, key.public) + key.sign(text.encode())
    return f"{text}\n\u2014 {name} {base64.b64encode(signature).decode()}\n"


def note_text(note: str) -> str:
    """The text of `note`, last newline included, unverified. Raises AuditBroken when it is no note."""
    text, _ = _split(note)
    return text


def open_note(note: str, name: str, public: PublicKey) -> str:
    """The text of `note` when `public` signed it under `name`; AuditBroken otherwise."""
    text, signatures = _split(note)
    for signer, signature in signatures:
        if signer == name and signature[:KEY_HASH_BYTES] == key_hash(name, public):
            if public.verify(text.encode(), signature[KEY_HASH_BYTES:]):
                return text
            raise AuditBroken("the signature does not fit the text", remedy=_REMEDY)
    signers = ", ".join(signer for signer, _ in signatures)
    raise AuditBroken(
        f"signed by {signers}, not by the key {name}",
        remedy="check with the public key of the box that wrote the log",
    )


def _split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The text and the (name, key hash || signature) of each signature line."""
    head, blank, lines = note.rpartition("\n\n")
    control = any(letter < " " and letter != "\n" for letter in note)
    if not blank or not lines.endswith("\n") or control or len(note) > NOTE_BYTES_MAX:
        raise AuditBroken("not a signed note", remedy=_REMEDY)
    return f"{head}\n", [_signature(line) for line in lines[:-1].split("\n")]


def _signature(line: str) -> tuple[str, bytes]:
    match = _LINE.fullmatch(line)
    try:
        data = base64.b64decode(match[2], validate=True) if match else b""
    except binascii.Error:
        data = b""
    # Re-encoding refuses the spare bits in which two spellings of the same bytes can differ.
    if match is None or len(data) <= KEY_HASH_BYTES or base64.b64encode(data).decode() != match[2]:
        raise AuditBroken("not a signature line of a signed note", remedy=_REMEDY)
    return match[1], data
