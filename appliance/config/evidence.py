"""Settings of what is recorded and kept.

Leaves to others: acting on them (`appliance.audit`, `runtime`).
"""

from typing import Annotated, Literal

import msgspec

from appliance.config.section import Natural, Positive, Seconds, Section

Bytes = Annotated[int, msgspec.Meta(ge=1, le=2**60)]
# A file of less would be sealed after a few records.
FileBytes = Annotated[int, msgspec.Meta(ge=1 << 20, le=2**40)]


class AuditConfig(Section, frozen=True, kw_only=True):
    """The audit log. A checkpoint is signed every N records or T seconds, whichever comes first.

    Unless `awaited`, a reply leaves before its record is durable: what a power cut can take is then up to
    `queue_records_max` records of answers that were given.

    The growing file is sealed at `segment_bytes_max` or after `segment_days`; sealed files are deleted when all
    their records are `retention_days` old (0: never). Of the failures with one code that one principal causes in
    a minute, `refusals_singly` are recorded one by one, the others counted together.
    """

    awaited: bool = True
    queue_records_max: Positive = 4096
    checkpoint_records: Positive = 1024
    checkpoint_seconds: Seconds = 60.0
    segment_bytes_max: FileBytes = 1 << 30
    segment_days: Positive = 30
    retention_days: Natural = 366
    refusals_singly: Positive = 60


class StorageConfig(Section, frozen=True, kw_only=True):
    """What happens as the disk of the state directory fills: free bytes at which each thing happens.

    At `warn` it is told; at `shed` no payloads are kept any more; at `stop` requests are refused, or answered
    without a record and counted as a gap (`when_full`). `ballast_bytes` are held by a file that is given up
    then, so that what must be written still can be.
    """

    warn_bytes_free: Bytes = 2 << 30
    shed_bytes_free: Bytes = 1 << 30
    stop_bytes_free: Bytes = 256 << 20
    ballast_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**40)] = 64 << 20
    when_full: Literal["refuse", "gap"] = "refuse"

    def __post_init__(self) -> None:
        """Raise ValueError unless the thresholds are in order."""
        if not self.warn_bytes_free >= self.shed_bytes_free >= self.stop_bytes_free:
            raise ValueError("warn_bytes_free >= shed_bytes_free >= stop_bytes_free must hold")
