"""Moments as a person writes them. Pure.

Knows: a date, a time with or without a zone (RFC 3339, UTC where it names none), and a time ago such as 24h.
Rules: nothing is guessed: what is neither is refused with the forms. Leaves to others: the clock.
"""

import re
from datetime import UTC, datetime

_AGO = re.compile(r"(?P<count>\d{1,6})(?P<unit>[smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment_ns(text: str, now_ns: int) -> int:
    """The moment in nanoseconds since the Unix epoch, UTC; `now_ns` is now. Raises ValueError with the forms."""
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        return now_ns - int(ago["count"]) * _SECONDS[ago["unit"]] * 10**9
    try:
        then = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(
            f"'{text}' is no moment: write 2026-11-20, 2026-11-20T10:00:00Z, or 30m, 24h, 7d for that long ago"
        ) from error
    zoned = then if then.tzinfo else then.replace(tzinfo=UTC)
    return round(zoned.timestamp() * 1e6) * 1000
