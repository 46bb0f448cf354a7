"""What one audit record says, and the one way to write it as bytes.

Knows: every kind of record and its fields. Rules: canonical bytes are JSON with sorted keys, no spaces
and no floating-point numbers, so equal records have equal bytes and a digest means something; reading
refuses any other bytes. A field is never removed, renamed or given another meaning; one added later has a
default, which is what its absence in older records means. Leaves to others: the order of records
(`audit.log`), the tree over them (`audit.tree`).

A checkpoint is no record: it is a signature over the tree, and as a leaf it would change what it signs.
"""

from typing import Annotated, Literal, TypeAlias, get_args

import msgspec

from appliance.audit.payload import Tensor
from appliance.deployment import Deployment
from appliance.errors import AuditBroken

Natural = Annotated[int, msgspec.Meta(ge=0)]
# Sixty-four hex digits; checked by length alone because verifying reads millions of them.
Digest = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]

EVIDENCE_REMEDY = (
    "keep the file as evidence and compare it with a copy or a checkpoint that left the box"
)


# What the log can be searched by: category, model, version, event id, result. The event id ties records
# together: a request's or a decision's. The result is one word: ok, an error's code, an act, or done,
# failed, interrupted. A plain tuple, because verifying makes one for each of millions of records.
Columns: TypeAlias = tuple[str, str, int, str | None, str]


class Record(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="category",
):
    """The part of an entry that its writer says."""

    def columns(self) -> Columns:
        """What the log can find this record by."""
        return (str(self.__struct_config__.tag), "", 0, None, "")


class Inference(Record, frozen=True, kw_only=True, tag="inference"):
    """One answered request.

    Digests are of the tensors as clients see them (`payload.digest`); `outputs` holds the answer itself
    when it is small. `vector` is the drift vector: float32, little-endian, `rows` x k, row after row.
    `route` says why this version answered; a shadow's answer went to nobody. `principal` is who asked as authenticated ("" when nobody was), `peer` the network address.
    """

    request_id: str
    model: str
    version: Natural
    bundle_sha256: Digest
    engine_sha256: Digest
    recipe_sha256: Digest
    route: Literal["active", "canary", "pinned", "shadow"]
    principal: str
    peer: str
    rows: Natural
    input_sha256: Digest
    output_sha256: Digest
    outputs: tuple[Tensor, ...]
    vector: bytes
    queue_ns: Natural
    compute_ns: Natural
    total_ns: Natural

    def columns(self) -> Columns:
        """Found by request, model and version."""
        return ("inference", self.model, self.version, self.request_id, "ok")


class Failure(Record, frozen=True, kw_only=True, tag="failure"):
    """One refused or failed request; `version` 0 when none was chosen, `code` as in `errors`."""

    request_id: str
    model: str
    version: Natural
    principal: str
    peer: str
    code: str
    message: str

    def columns(self) -> Columns:
        """Found by request, model, version and error code."""
        return ("failure", self.model, self.version, self.request_id, self.code)


class Decision(Record, frozen=True, kw_only=True, tag="decision"):
    """An operator's act, recorded before it is carried out; `version` is the one it is about."""

    decision_id: str
    model: str
    act: str
    version: Natural
    actor: str
    reason: str
    before: Deployment
    after: Deployment

    def columns(self) -> Columns:
        """Found by decision, model, version and act."""
        return ("decision", self.model, self.version, self.decision_id, self.act)


class Outcome(Record, frozen=True, kw_only=True, tag="outcome"):
    """What came of a decision; `deployment` is how the model stands from here on."""

    decision_id: str
    model: str
    result: Literal["done", "failed", "interrupted"]
    message: str
    deployment: Deployment

    def columns(self) -> Columns:
        """Found by decision, model and result."""
        return ("outcome", self.model, 0, self.decision_id, self.result)


class Boot(Record, frozen=True, kw_only=True, tag="boot"):
    """The runtime started: which release, with which settings (`Config.digest`)."""

    release: str
    config_sha256: Digest


class Stop(Record, frozen=True, kw_only=True, tag="stop"):
    """The runtime stopped on purpose; a boot without one before it followed a crash."""

    reason: str


class Gap(Record, frozen=True, kw_only=True, tag="gap"):
    """`count` answers left without a record, as the configuration allowed, and why."""

    count: Natural
    reason: str


AnyRecord: TypeAlias = Inference | Failure | Decision | Outcome | Boot | Stop | Gap
CATEGORIES: tuple[str, ...] = tuple(kind.__struct_config__.tag for kind in get_args(AnyRecord))


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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AuditBroken(f"no audit record: {error}", remedy=EVIDENCE_REMEDY) from error
    # An entry of an older release lacks the fields added since: then only its form can be compared.
    if _encoder.encode(entry) != body and _encoder.encode(msgspec.json.decode(body)) != body:
        raise AuditBroken("its bytes are not in canonical form", remedy=EVIDENCE_REMEDY)
    return entry
