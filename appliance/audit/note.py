"""Signed notes: a short text with signature lines under it (https://c2sp.org/signed-note).

Knows: the format's layout and the key hash of its Ed25519 signatures. Rules: signatures of unknown keys
are ignored, so that witnesses may add theirs; a known key's must fit; base64 has one spelling. Leaves to
others: what the text says (`audit.checkpoint`), witnesses' signatures (`audit.cosignature`).
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


def key_hash(name: str, public: PublicKey, kind: bytes = ED25519) -> bytes:
    """The 4 bytes that name a key: SHA-256(name || 0x0A || kind || raw key)[:4]."""
    return hashlib.sha256(name.encode() + b"\n" + kind + public.raw).digest()[:KEY_HASH_BYTES]


def sign_note(text: str, name: str, key: SigningKey) -> str:
    """The note of `text`, which ends in a newline, signed by `key` under `name`."""
    return f"{text}\n" + signature_line(name, key_hash(name, key.public) + key.sign(text.encode()))


def signature_line(name: str, signature: bytes) -> str:
    """The line of `signature`, its key hash first, that stands under a note."""
    return f"\u2014 {name} {base64.b64encode(signature).decode()}\n"


def note_text(note: str) -> str:
    """The text of `note`, last newline included, unverified. Raises AuditBroken when it is no note."""
    text, _ = split_note(note)
    return text


def open_note(note: str, name: str, *keys: PublicKey) -> str:
    """The text of `note` when one of `keys` signed it under `name`; AuditBroken otherwise."""
    text, signatures = split_note(note)
    hashes = {key_hash(name, key): key for key in keys}
    signed = False
    for signer, signature in signatures:
        public = hashes.get(signature[:KEY_HASH_BYTES])
        if signer == name and public is not None:
            signed = public.verify(text.encode(), signature[KEY_HASH_BYTES:])
            if not signed:
                raise AuditBroken("the signature does not fit the text", remedy=_REMEDY)
    if signed:
        return text
    signers = ", ".join(signer for signer, _ in signatures)
    raise AuditBroken(
        f"signed by {signers}, not by the key {name}",
        remedy="check with the public key of the box that wrote the log",
    )


def split_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The text and the (name, key hash || signature) of each line under it; AuditBroken when it is no note."""
    head, blank, lines = note.rpartition("\n\n")
    control = any(letter < " " and letter != "\n" for letter in note)
    if not blank or not lines.endswith("\n") or control or len(note.encode()) > NOTE_BYTES_MAX:
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
