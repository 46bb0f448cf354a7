"""An audit record in its place, and the one way to write it as bytes.

Knows: what stands around a record in the log. Rules: canonical bytes are JSON with sorted keys, no spaces
and no floating-point numbers, so equal records have equal bytes and a digest means something; reading
refuses any other bytes. A field is never removed, renamed or given another meaning; one added later has a
default, which is what its absence in older records means. Leaves to others: what each kind says
(`audit.kinds`), the order of records (`audit.log`), the tree over them (`audit.tree`).

A checkpoint is no record: it is a signature over the tree, and as a leaf it would change what it signs.
"""

import msgspec

from appliance.audit.kinds import AnyRecord, Digest, Natural
from appliance.errors import AuditBroken

EVIDENCE_REMEDY = (
    "keep the file as evidence and compare it with a copy or a checkpoint that left the box"
)


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record in its place in the log.

    `sequence` counts from 0 without gaps. `wall_ns` is UTC and may step; `monotonic_ns` never steps back
    within one `boot_id` (the kernel's). `box` is the id of the key that signs this log's checkpoints.
    """

    sequence: Natural
    wall_ns: Natural
    monotonic_ns: Natural
    boot_id: str
    box: Digest
    record: AnyRecord


_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """The canonical bytes of `entry`; the leaf of the tree is made from these."""
    return _encoder.encode(entry)


def decode(body: bytes) -> Entry:
    """Read canonical bytes. Raises AuditBroken when they are no entry or not in canonical form."""
    try:
        entry = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AuditBroken(f"no audit record: {error}", remedy=EVIDENCE_REMEDY) from error
    # An entry of an older release lacks the fields added since: then only its form can be compared.
    if _encoder.encode(entry) != body and _encoder.encode(msgspec.json.decode(body)) != body:
        raise AuditBroken("its bytes are not in canonical form", remedy=EVIDENCE_REMEDY)
    return entry
