"""Letting go of a version that is no longer needed.

Knows: how long its last requests may take, and its engine's last call. Rules: it is freed when nobody uses
it; one that somebody uses for ever is freed when its time is over, so that nothing waits for it without end.
Leaves to others: who uses it (`runtime.loaded`), answering what is queued (`runtime.batching`).
"""

import asyncio
import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from appliance import journal


class Version(Protocol):
    """What must be known of a version."""

    def drain(self, unused: Callable[[], None]) -> None:
        """Take no more users, and call `unused` once the last has gone."""

    def close(self) -> None:
        """Answer what is queued and free everything; blocks until that is done."""


async def drained(version: Version, *, model: str, number: int, seconds: float) -> None:
    """Wait until nobody uses the version, then free it; each takes at most `seconds`.

    What is late goes on by itself, on a thread that no stop waits for, and is told in the journal.
    """
    loop, unused, closed = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def tell(event: asyncio.Event) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(event.set)

    def close() -> None:
        try:
            version.close()
            give_back()
            journal.event("version.closed", model=model, version=number)
        finally:
            tell(closed)

    version.drain(partial(tell, unused))
    if not await _within(unused, seconds):
        journal.event("version.held", model=model, version=number, seconds=seconds)
    threading.Thread(target=close, name=f"closing {model}/{number}", daemon=True).start()
    if not await _within(closed, seconds):
        journal.event("version.unclosed", model=model, version=number, seconds=seconds)


def give_back() -> None:
    """Return to the system the free memory that the allocator keeps; only glibc's can (malloc_trim(3))."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
