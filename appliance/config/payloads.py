"""Settings of which requests' inputs are kept beside the audit log.

Knows: the ladder of `keep`, each rung with what the one before it keeps. Leaves to others: acting on them
(`runtime.payloads`), the files (`appliance.payloads`).
"""

from typing import Annotated, Literal, TypeAlias

import msgspec

from appliance.config.section import Natural, Positive, Section
from appliance.version import ModelName

Keep: TypeAlias = Literal["none", "digest", "unsure", "sample", "all"]
PerMille = Annotated[int, msgspec.Meta(ge=0, le=1000)]
Days = Annotated[int, msgspec.Meta(ge=1, le=36_500)]
Bytes = Annotated[int, msgspec.Meta(ge=1 << 20, le=1 << 50)]


class ModelPayloads(Section, frozen=True, kw_only=True):
    """What one model has otherwise than `PayloadsConfig` says; None means as there."""

    keep: Keep | None = None
    sample_per_mille: PerMille | None = None
    confidence_per_mille_min: PerMille | None = None
    plain_digest: bool | None = None


class PayloadsConfig(Section, frozen=True, kw_only=True):
    """Payloads: the inputs of requests, kept within `days_max` and `bytes_max`, the oldest erased first.

    `keep`: "none" leaves not even a digest of the inputs in the record, "digest" only that, "unsure" keeps
    failed requests and answers whose confidence is under `confidence_per_mille_min`, "sample" also a share
    of all others, "all" every one. Without `plain_digest` a record has the salted digest alone, so that few
    possible inputs cannot be tried out.
    """

    keep: Keep = "digest"
    sample_per_mille: PerMille = 10
    confidence_per_mille_min: PerMille = 600
    plain_digest: bool = True
    days_max: Days = 30
    bytes_max: Bytes = 1 << 30
    request_bytes_max: Positive = 16 << 20
    queue_bytes_max: Positive = 64 << 20
    warm_requests: Natural = 32
    models: dict[ModelName, ModelPayloads] = msgspec.field(default_factory=dict)

    def of(self, model: str) -> "PayloadsConfig":
        """The settings of one model: its own where it has them."""
        own = self.models.get(model)
        told = msgspec.structs.asdict(own) if own else {}
        kept = {name: value for name, value in told.items() if value is not None}
        return msgspec.structs.replace(self, models={}, **kept)
