"""The time that a signer states.

Knows: how it is given on the command line. Rules: nothing is stated unasked, for a bundle's bytes must not
depend on when it was packed. Leaves to others: what a box makes of it (`appliance.trust`).
"""

from appliance.clock import Clock, SystemClock, timestamp
from appliance.errors import ConfigError, KeyFileError
from appliance.trust import moment


def signing_time(told: str | None, clock: Clock | None = None) -> str | None:
    """`told` as RFC 3339, "now" by the clock, None for None. Raises ConfigError when it is no time."""
    if told == "now":
        return timestamp((clock or SystemClock()).wall_ns())
    if told is None:
        return None
    try:
        return moment(told).isoformat()
    except KeyFileError as error:
        raise ConfigError(f"--signed-at: {error}", remedy=error.remedy) from error
