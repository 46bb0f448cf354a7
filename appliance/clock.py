"""Time, as a thing that is handed in.

Knows: wall time, monotonic time and which boot this is. Rules: every room that needs time takes a Clock
in its constructor, so that tests and simulation set it. Leaves to others: sleeping and timers.
"""

import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """What a room may ask about time."""

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC; may step."""

    def monotonic_ns(self) -> int:
        """Nanoseconds from an arbitrary start within this boot; never steps back."""


class SystemClock:
    """The machine's own clocks."""

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC; may step."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Nanoseconds from an arbitrary start within this boot; never steps back."""
        return time.monotonic_ns()


@cache
def boot_id() -> str:
    """The kernel's id of this boot (32 hex digits and dashes), Linux `random/boot_id`."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def timestamp(wall_ns: int) -> str:
    """Format `wall_ns` as RFC 3339 UTC with microseconds, e.g. 2026-11-20T10:00:00.000000Z."""
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{rest // 1000:06d}Z"
