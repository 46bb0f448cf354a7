"""Pilots that wait until the console has nothing left to do.

Textual's own ask the processor time: a process that gets none for a few hundredths of a second passes for an
idle one, and the next key comes before the dialog that it is for.
"""

import asyncio

import textual.app
import textual.pilot
from textual._wait import wait_for_idle


def make_pilots_patient() -> None:
    """Let every key and pause end only when its work is done; what threads and timers do is still to wait for."""
    textual.app.wait_for_idle = textual.pilot.wait_for_idle = _wait_for_quiet


async def _wait_for_quiet(*seconds: float) -> None:
    """Wait as Textual does, then until the event loop has nothing more to run."""
    await wait_for_idle(*seconds)
    loop = asyncio.get_running_loop()
    while loop._ready:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
