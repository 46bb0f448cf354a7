"""Checks receipts, checkpoints and consistency proofs of a Holdfast box, with nothing but Python.

This one file needs no database, no network and no package: copy it anywhere and run

    python checker.py receipt FILE --key box.pub
    python checker.py checkpoint FILE --key box.pub [--witness witness.pub ...]
    python checker.py consistency FILE --key box.pub

It exits with 0 when everything holds, 1 when something does not, 2 when a file or the command is unusable.

Knows: Ed25519 (RFC 8032 section 5.1), the Merkle tree and its proofs (RFC 6962 section 2.1, checked as in
RFC 9162 sections 2.1.3.2 and 2.1.4.2), signed notes, checkpoints and cosignatures (https://c2sp.org:
signed-note, tlog-checkpoint, tlog-cosignature v1.0.0). Rules: what does not verify is told, never passed
over; a signature of an unknown key counts for nothing; it needs only the standard library, for ever. Leaves
to others: whether the key is the box's (get it in person, or at two places), whether the log's name is the one
you know (its first key's: whoever holds a key can sign two logs with it), and whether another checkpoint of the
same log contradicts this one (compare with one that left the box earlier).
"""

import argparse
import base64
import binascii
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

RECEIPT_FORMAT = "holdfast receipt 1"
CONSISTENCY_FORMAT = "holdfast consistency proof 1"
KEY_CHANGE_KIND = "application/vnd.holdfast.key-change"
_BOX_CHANGE = ("key_change", "box")
ED25519, COSIGNATURE = b"\x01", b"\x04"
HASH_BYTES, KEY_BYTES, KEY_HASH_BYTES, TIME_BYTES, NOTE_BYTES_MAX = 32, 32, 4, 8, 64 << 10


class NotProven(Exception):
    """Something does not hold; the message says what."""


# --- Ed25519, RFC 8032 section 5.1: the curve -x^2 + y^2 = 1 + d x^2 y^2 over the integers modulo P.

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_ROOT_OF_MINUS_1 = pow(2, (_P - 1) // 4, _P)
# A point (x, y) is held as (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z: so adding needs no division.
Point = tuple[int, int, int, int]
_NEUTRAL: Point = (0, 1, 1, 0)


def ed25519_verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) over `message` was made by the key whose public half is `public` (32)."""
    if len(public) != KEY_BYTES or len(signature) != 64:
        return False
    key, commitment = _point(public), signature[:32]
    scalar = int.from_bytes(signature[32:], "little")
    if key is None or scalar >= _ORDER:
        return False
    digest = hashlib.sha512(commitment + public + message).digest()
    challenge = int.from_bytes(digest, "little") % _ORDER
    x, y, z, t = key
    # scalar * base = commitment + challenge * key, with the key's negative brought to the left side.
    found = _add(_times(scalar, _BASE), _times(challenge, (_P - x, y, z, _P - t)))
    return _encoded(found) == commitment


def _point(data: bytes) -> Point | None:
    """The point that 32 bytes name (section 5.1.3); None when there is none."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= _P:
        return None
    x_squared = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(x_squared, (_P + 3) // 8, _P)
    if (x * x - x_squared) % _P:
        x = x * _ROOT_OF_MINUS_1 % _P
    if (x * x - x_squared) % _P or (not x and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _encoded(point: Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, _P - 2, _P)
    x, y = x * inverse % _P, y * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _add(one: Point, other: Point) -> Point:
    """The sum of two points (section 5.1.4)."""
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    a, b = (y1 - x1) * (y2 - x2) % _P, (y1 + x1) * (y2 + x2) % _P
    c, d = 2 * t1 * t2 * _D % _P, 2 * z1 * z2 % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, point: Point) -> Point:
    total = _NEUTRAL
    while scalar:
        if scalar & 1:
            total = _add(total, point)
        point = _add(point, point)
        scalar >>= 1
    return total


_BASE = _point((4 * pow(5, _P - 2, _P) % _P).to_bytes(32, "little")) or _NEUTRAL


# --- The Merkle tree, RFC 6962 section 2.1.


def leaf_hash(data: bytes) -> bytes:
    """The hash of a record's bytes as a leaf."""
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node above two others."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root_from_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root of the tree of `size` leaves that `path` leads to from leaf `index` (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size:
        raise NotProven(f"there is no record {index} among {size}")
    here, last, root = index, size - 1, leaf
    for beside in path:
        if not last:
            raise NotProven("the path has too many hashes")
        if here & 1 or here == last:
            root = node_hash(beside, root)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            root = node_hash(root, beside)
        here, last = here >> 1, last >> 1
    if last:
        raise NotProven("the path has too few hashes")
    return root


def check_consistency(
    old_size: int, size: int, old_root: bytes, root: bytes, path: Sequence[bytes]
) -> None:
    """Raise NotProven unless the tree with `root` grew from the one with `old_root` (RFC 9162 2.1.4.2)."""
    if not 0 < old_size <= size:
        raise NotProven(f"a log of {old_size} records is no beginning of one of {size}")
    if old_size == size:
        if path or old_root != root:
            raise NotProven("two different roots for logs of one size")
        return
    hashes = list(path)
    if not old_size & (old_size - 1):
        hashes.insert(0, old_root)
    if not hashes:
        raise NotProven("the path has too few hashes")
    here, last = old_size - 1, size - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    old_found = found = hashes[0]
    for beside in hashes[1:]:
        if not last:
            raise NotProven("the path has too many hashes")
        if here & 1 or here == last:
            old_found, found = node_hash(beside, old_found), node_hash(beside, found)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            found = node_hash(found, beside)
        here, last = here >> 1, last >> 1
    if last or old_found != old_root or found != root:
        raise NotProven("the newer log did not grow from the older one: records were changed")


# --- Signed notes, checkpoints, cosignatures.

_LINE = re.compile("\u2014 ([^\\s+]+) ([A-Za-z0-9+/]+={0,2})")
_TEXT = re.compile(r"([^\n]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n")


class Checkpoint(NamedTuple):
    """What a checkpoint says: the log called `origin` had `root` (32 bytes) at `size` records."""

    origin: str
    size: int
    root: bytes


def read_checkpoint(note: str) -> tuple[Checkpoint, str, list[tuple[str, bytes]]]:
    """What `note` claims, the text that is signed, and each signature's name and bytes; nothing is verified."""
    head, blank, lines = note.rpartition("\n\n")
    text = f"{head}\n"
    match = _TEXT.fullmatch(text)
    odd = re.search(r"[\x00-\x09\x0b-\x1f]", note) or len(note.encode()) > NOTE_BYTES_MAX
    if not blank or match is None or not lines.endswith("\n") or odd:
        raise NotProven("this is no checkpoint: origin, size, root, an empty line, signatures")
    signatures = []
    for line in lines[:-1].split("\n"):
        signed = _LINE.fullmatch(line)
        signature = _bytes(signed[2]) if signed else b""
        if signed is None or len(signature) <= KEY_HASH_BYTES:
            raise NotProven("a line below the checkpoint is no signature")
        signatures.append((signed[1], signature))
    return Checkpoint(match[1], int(match[2]), _bytes(match[3])), text, signatures


def open_checkpoint(note: str, keys: Sequence[bytes]) -> Checkpoint:
    """What `note` says when one of `keys` signed it under the log's own name; NotProven otherwise."""
    checkpoint, text, signatures = read_checkpoint(note)
    hashes = {key_hash(checkpoint.origin, ED25519, key): key for key in keys}
    signed = False
    for name, signature in signatures:
        key = hashes.get(signature[:KEY_HASH_BYTES])
        if name == checkpoint.origin and key is not None:
            signed = ed25519_verifies(key, text.encode(), signature[KEY_HASH_BYTES:])
            if not signed:
                raise NotProven("the checkpoint's signature does not fit its text")
    if not signed:
        raise NotProven("the checkpoint is not signed by this key")
    return checkpoint


def cosigned_at(note: str, public: bytes) -> list[tuple[str, int]]:
    """The name of the witness with the key `public`, and when (seconds since 1970, UTC), for each cosignature.

    A cosignature does not cover the name it stands under: only the one that the key itself gives counts, so
    that nobody can pass one witness off as two. Raises NotProven when a cosignature does not fit.
    """
    _, text, signatures = read_checkpoint(note)
    name = f"holdfast-witness/{hashlib.sha256(public).hexdigest()[:16]}"
    head = key_hash(name, COSIGNATURE, public)
    found = []
    for signer, signature in signatures:
        if signer != name or signature[:KEY_HASH_BYTES] != head:
            continue
        stamp = signature[KEY_HASH_BYTES : KEY_HASH_BYTES + TIME_BYTES]
        seconds = int.from_bytes(stamp, "big")
        message = f"cosignature/v1\ntime {seconds}\n{text}".encode()
        if not ed25519_verifies(public, message, signature[KEY_HASH_BYTES + TIME_BYTES :]):
            raise NotProven(f"the cosignature of {name} does not fit the checkpoint")
        found.append((name, seconds))
    return found


def key_hash(name: str, kind: bytes, public: bytes) -> bytes:
    """The 4 bytes that name a key in a note: SHA-256(name || 0x0A || kind || public)[:4]."""
    return hashlib.sha256(name.encode() + b"\n" + kind + public).digest()[:KEY_HASH_BYTES]


def trusted_keys(public: bytes, records: Sequence[bytes]) -> list[bytes]:
    """`public`, and each key that the key changes in `records` hand over to, from one trusted to the next."""
    keys = [public]
    for record in records:
        said = _object(record).get("record")
        if not isinstance(said, dict) or (said.get("category"), said.get("key")) != _BOX_CHANGE:
            raise NotProven("a record that should tell of a change of the box's key does not")
        if said.get("old_key_id") != hashlib.sha256(keys[-1]).hexdigest():
            continue  # a change from before the given key came
        kind, new = KEY_CHANGE_KIND.encode(), _bytes(said.get("new_public"))
        message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(new), new)
        if not ed25519_verifies(keys[-1], message, _bytes(said.get("signature"))):
            raise NotProven("a change of the box's key is not signed by the key before it")
        keys.append(new)
    return keys


# --- The files.


class Receipt(NamedTuple):
    """A record's canonical bytes, the checkpoint that covers it, and where it stands among how many."""

    record: bytes
    note: str
    place: int
    checkpoint: Checkpoint


def check_receipt(data: bytes, public: bytes) -> Receipt:
    """The receipt in a file's bytes, when all of it verifies; NotProven otherwise."""
    said = _file(data, RECEIPT_FORMAT)
    record, note, index = said["record"].encode(), said["checkpoint"], int(said["index"])
    checkpoint = open_checkpoint(note, trusted_keys(public, _texts(said, "key_changes")))
    if (
        root_from_inclusion(index, checkpoint.size, leaf_hash(record), _path(said))
        != checkpoint.root
    ):
        raise NotProven("the record is not the one that the log holds at this place")
    if _object(record).get("sequence") != index:
        raise NotProven("the record names another place than the receipt")
    return Receipt(record, note, index, checkpoint)


def check_growth(data: bytes, public: bytes) -> tuple[Checkpoint, Checkpoint, str]:
    """Both checkpoints of a consistency proof that verifies, and the later one's note; NotProven otherwise."""
    said = _file(data, CONSISTENCY_FORMAT)
    keys = trusted_keys(public, _texts(said, "key_changes"))
    old, new = open_checkpoint(said["old"], keys), open_checkpoint(said["new"], keys)
    if old.origin != new.origin:
        raise NotProven(f"two logs: {old.origin} and {new.origin}")
    check_consistency(old.size, new.size, old.root, new.root, _path(said))
    return old, new, said["new"]


def read_public_key(pem: str) -> bytes:
    """The 32 bytes of an Ed25519 public key in PEM (RFC 8410); NotProven when it is none."""
    lines = [line for line in pem.splitlines() if not line.startswith("-----")]
    try:
        der = _bytes("".join(lines).strip())
    except NotProven:
        der = b""
    head = bytes.fromhex("302a300506032b6570032100")
    if "BEGIN PUBLIC KEY" not in pem or not der.startswith(head) or len(der) != len(head) + 32:
        raise NotProven("the key file is no Ed25519 public key in PEM")
    return der[len(head) :]


_LISTS = {"path": list, "key_changes": list}
_FIELDS: dict[str, dict[str, type]] = {
    RECEIPT_FORMAT: {"record": str, "index": int, "checkpoint": str, **_LISTS},
    CONSISTENCY_FORMAT: {"old": str, "new": str, **_LISTS},
}


def _file(data: bytes, form: str) -> dict[str, Any]:
    said = _object(data)
    if said.get("format") != form:
        raise NotProven(f"the file is no {form!r}")
    for name, kind in _FIELDS[form].items():
        if type(said.get(name)) is not kind:
            raise NotProven(f"the file has no {name!r} of the right kind")
    return said


def _texts(said: dict[str, Any], name: str) -> list[bytes]:
    if not all(isinstance(text, str) for text in said[name]):
        raise NotProven(f"{name!r} holds something else than text")
    return [text.encode() for text in said[name]]


def _path(said: dict[str, Any]) -> list[bytes]:
    path = [_bytes(text.decode()) for text in _texts(said, "path")]
    if any(len(beside) != HASH_BYTES for beside in path):
        raise NotProven("the path holds something else than hashes")
    return path


def _object(data: bytes) -> dict[str, Any]:
    try:
        said = json.loads(data)
        # Half characters, which have no bytes and so no hash, are refused here.
        json.dumps(said, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise NotProven(f"not JSON: {error}") from error
    if not isinstance(said, dict):
        raise NotProven("not a JSON object")
    return said


def _bytes(text: Any) -> bytes:
    """What canonical base64 says; other spellings of the same bytes are refused."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise NotProven(f"not base64: {text!r:.80}") from error
    if base64.b64encode(data).decode() != text:
        raise NotProven(f"not canonical base64: {text!r:.80}")
    return data


# --- The command.


def _checked(command: str, data: bytes, public: bytes) -> tuple[list[str], str]:
    """What was proven, in lines, and the checkpoint note that it rests on."""
    if command == "receipt":
        receipt = check_receipt(data, public)
        # Letters outside of ASCII are shown escaped: some of them steer a terminal or turn text round.
        record = json.dumps(_object(receipt.record), indent=2)
        size, origin = receipt.checkpoint.size, receipt.checkpoint.origin
        place = f"It is record {receipt.place} of the first {size} of {origin}."
        return [record, "The receipt verifies.", place], receipt.note
    if command == "consistency":
        old, new, note = check_growth(data, public)
        grown = f"{new.origin} grew from {old.size} to {new.size} records"
        return ["The proof verifies.", f"{grown}; none of the first {old.size} changed."], note
    note = data.decode()
    said = open_checkpoint(note, [public])
    told = f"{said.origin} had {said.size} records with root {said.root.hex()}."
    return ["The checkpoint's signature verifies.", told], note


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description="Check evidence of a Holdfast box, offline.")
    parser.add_argument("command", choices=("receipt", "checkpoint", "consistency"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--key", type=Path, required=True, help="the box's public key (PEM)")
    parser.add_argument("--witness", type=Path, action="append", default=[], help="a witness's key")
    given = parser.parse_args(arguments)
    try:
        data, public = given.file.read_bytes(), read_public_key(given.key.read_text())
        witnesses = [(path, read_public_key(path.read_text())) for path in given.witness]
    except (OSError, ValueError, NotProven) as error:
        sys.stderr.write(f"cannot check: {error}\n")
        return 2
    try:
        lines, note = _checked(given.command, data, public)
        for path, witness in witnesses:
            cosigned = cosigned_at(note, witness)
            if not cosigned:
                raise NotProven(f"the witness of {path} has not cosigned the checkpoint")
            lines += [f"{name} cosigned it at {when} s since 1970." for name, when in cosigned]
    except (NotProven, UnicodeDecodeError) as error:
        sys.stderr.write(f"NOT PROVEN: {error}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
