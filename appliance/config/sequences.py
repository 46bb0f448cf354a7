"""Settings of sequences: models that keep a state between requests.

Leaves to others: acting on them (`runtime.sequences`).
"""

from appliance.config.section import Positive, Seconds, Section


class SequencesConfig(Section, frozen=True, kw_only=True):
    """The sequences of one version. A sequence is forgotten after `idle_seconds` without a request.

    At most `sequences_max` are kept at a time, with states of at most `state_bytes_max` together; of each,
    `waiting_requests_max` requests may wait for the one before them.
    """

    sequences_max: Positive = 1024
    state_bytes_max: Positive = 256 << 20
    idle_seconds: Seconds = 60.0
    waiting_requests_max: Positive = 64
