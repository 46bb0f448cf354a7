"""Where the threads that only run Python do so: together on one processor.

Knows: the processor that they share. Rules: the interpreter lets one of them run at a time, so a second
processor gains them nothing, and handing over from one processor to another costs ten times a switch on the
same one (docs/decisions/0045-one-processor.md); threads that run an engine stay free. Leaves to others: which
threads those are.
"""

import os
from contextlib import suppress


def share_processor() -> None:
    """Keep the calling thread on the last of the processors that it may use; the first ones serve interrupts."""
    with suppress(OSError):  # a sandbox that forbids it costs speed, nothing else
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
