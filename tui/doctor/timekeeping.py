"""The clock: whether somebody sets it, and whether it can be right.

Knows: what the kernel says of its clock (adjtimex(2)). Rules: reads only. Leaves to others: setting it.
"""

import ctypes
from collections.abc import Iterator
from datetime import UTC, datetime

from appliance.certificates.certificate import utc_now
from appliance.clock import Clock
from tui.doctor.finding import Finding, trouble, warning, well

# A clock before this is one that lost its battery.
BUILT = datetime(2026, 1, 1, tzinfo=UTC)
TIMEX_BYTES = 208  # struct timex with its reserve, on every 64-bit Linux
UNSYNCHRONISED = 5  # TIME_ERROR


def examine_clock(clock: Clock) -> Iterator[Finding]:
    """Look at the machine's clock."""
    now = utc_now(clock.wall_ns())
    if now < BUILT:
        told = f"the clock says {now:%Y-%m-%d %H:%M}, which has passed"
        yield trouble("clock", told, "set the clock: no certificate holds at that time")
    elif kernel_state() == UNSYNCHRONISED:
        told = f"{now:%Y-%m-%d %H:%M} UTC, and no time service keeps it"
        yield warning("clock", told, "run chrony or systemd-timesyncd against a clock of the site")
    else:
        yield well("clock", f"{now:%Y-%m-%d %H:%M} UTC, kept by a time service")


def kernel_state() -> int:
    """The kernel's word on its clock: 0 to 4 when something keeps it, 5 when not (adjtimex(2))."""
    return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)))
