"""Checkpoints: the size and root hash of the audit log, signed by the box.

Knows: the checkpoint text (https://c2sp.org/tlog-checkpoint) and the name a log has. Rules: a checkpoint is
written when the log has exactly that many records; two of one log never disagree; a log keeps its first
key's name when another key signs it. Leaves to
others: the note around it (`audit.note`), when to sign (`audit.log`).
"""

import base64
import binascii
import re
from dataclasses import dataclass

from appliance.audit.note import note_text, open_note, sign_note
from appliance.audit.tree import HASH_BYTES
from appliance.errors import AuditBroken
from appliance.signing import PublicKey, SigningKey

_TEXT = re.compile(r"([^\n]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]+=)\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """`root` (32 bytes) of the tree over the first `size` records of the log called `origin`."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The three lines that are signed: origin, size in decimal, root in base64."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def origin_of(public: PublicKey) -> str:
    """The name of the log that begins under this key, which is also the name its checkpoints are signed under."""
    return f"holdfast/{public.key_id[:16]}"


def sign_checkpoint(size: int, root: bytes, key: SigningKey, *, origin: str = "") -> str:
    """The signed note that says the log `origin` has `root` at `size` records; "": the log begun by `key`."""
    origin = origin or origin_of(key.public)
    return sign_note(Checkpoint(origin=origin, size=size, root=root).text(), origin, key)


def read_checkpoint(note: str) -> Checkpoint:
    """What `note` claims, unverified. Raises AuditBroken when it is no checkpoint."""
    return _parse(note_text(note))


def open_checkpoint(note: str, *keys: PublicKey, origin: str = "") -> Checkpoint:
    """What `note` says of the log `origin`, verified; "": the log that the first of `keys` began.

    Raises AuditBroken when none of `keys` signed just that.
    """
    origin = origin or origin_of(keys[0])
    checkpoint = _parse(open_note(note, origin, *keys))
    if checkpoint.origin != origin:
        raise _malformed(f"it is about the log {checkpoint.origin}, not {origin}")
    return checkpoint


def _parse(text: str) -> Checkpoint:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise _malformed("it has not the three lines origin, size, root")
    try:
        root = base64.b64decode(match[3], validate=True)
    except binascii.Error:
        root = b""
    checkpoint = Checkpoint(origin=match[1], size=int(match[2]), root=root)
    if len(root) != HASH_BYTES or checkpoint.text() != text:
        raise _malformed("its root is not the base64 of 32 bytes")
    return checkpoint


def _malformed(why: str) -> AuditBroken:
    return AuditBroken(
        f"not a checkpoint of this log: {why}", remedy="take the note of a holdfast audit log"
    )
