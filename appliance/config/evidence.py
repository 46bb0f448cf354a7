"""Settings of what is recorded and kept.

Leaves to others: acting on them (`appliance.audit`, `runtime`).
"""

from appliance.config.section import Positive, Seconds, Section


class AuditConfig(Section, frozen=True, kw_only=True):
    """The audit log. A checkpoint is signed every N records or T seconds, whichever comes first.

    Unless `awaited`, a reply leaves before its record is durable: what a power cut can take is then up to
    `queue_records_max` records of answers that were given.
    """

    awaited: bool = True
    queue_records_max: Positive = 4096
    checkpoint_records: Positive = 1024
    checkpoint_seconds: Seconds = 60.0
