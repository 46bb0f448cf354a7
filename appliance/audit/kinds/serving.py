"""Records of what clients asked and were told.

Knows: answers, failures, refusals counted together, true answers sent later, gaps, erased payloads. Rules: as
for every record (`kinds.root`): no field is ever removed, renamed or given another meaning. Leaves to others:
when each is written.
"""

from typing import Literal

from appliance.audit.kinds.root import Columns, Digest, Natural, Record
from appliance.audit.payload import Tensor


class Inference(Record, frozen=True, kw_only=True, tag="inference"):
    """One answered request.

    Digests are of the tensors as clients see them (`payload.digest`); `outputs` holds the answer itself
    when it is small. `vector` is the drift vector: float32, little-endian, `rows` x k, row after row.
    `route` says why this version answered; a shadow's answer went to nobody. `principal` is who asked as
    authenticated ("" when nobody was), `peer` the network address. `sequence` is the id of the sequence it was
    part of ("" when none) and `step` its place there, from 1. `payload_sha256` is the salted digest of the payload that was kept ("" when none was):
    erasing payload and salt leaves the record whole.
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
    sequence: str = ""
    step: Natural = 0
    payload_sha256: str = ""

    def columns(self) -> Columns:
        """Found by request, model, version and principal."""
        return ("inference", self.model, self.version, self.request_id, "ok", self.principal)


class Failure(Record, frozen=True, kw_only=True, tag="failure"):
    """One refused or failed request; `version` 0 when none was chosen, `code` as in `errors`.

    `payload_sha256` as in Inference.
    """

    request_id: str
    model: str
    version: Natural
    principal: str
    peer: str
    code: str
    message: str
    payload_sha256: str = ""

    def columns(self) -> Columns:
        """Found by request, model, version, error code and principal."""
        return (
            "failure",
            self.model,
            self.version,
            self.request_id,
            self.code,
            self.principal,
        )


class Refusals(Record, frozen=True, kw_only=True, tag="refusals"):
    """`count` failures of one principal with one code, beyond those that were recorded singly.

    `message` and `peer` are the first one's; the first came at `first_wall_ns`, the last at `last_wall_ns`.
    """

    principal: str
    peer: str
    code: str
    count: Natural
    message: str
    first_wall_ns: Natural
    last_wall_ns: Natural

    def columns(self) -> Columns:
        """Found by error code and principal."""
        return ("refusals", "", 0, None, self.code, self.principal)


class Feedback(Record, frozen=True, kw_only=True, tag="feedback"):
    """The true answer for an earlier request, as `principal` said it; `version` is what had answered."""

    request_id: str
    model: str
    version: Natural
    principal: str
    peer: str
    truth: tuple[Tensor, ...]
    note: str

    def columns(self) -> Columns:
        """Found by the request it is about, model, version and principal."""
        return ("feedback", self.model, self.version, self.request_id, "", self.principal)


class Gap(Record, frozen=True, kw_only=True, tag="gap"):
    """`count` answers left without a record, as the configuration allowed, and why."""

    count: Natural
    reason: str


class Erased(Record, frozen=True, kw_only=True, tag="erased"):
    """The payloads of `count` records were erased: those of `request_id`, or of many when it is "".

    `by` is who asked for it, `reason` why; the records themselves stay.
    """

    request_id: str
    model: str
    count: Natural
    reason: str
    by: str

    def columns(self) -> Columns:
        """Found by request, model and who asked."""
        return ("erased", self.model, 0, self.request_id or None, "done", self.by)
