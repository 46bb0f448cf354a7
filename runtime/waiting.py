"""Waiting for work until something else is asked for.

Knows: how a task and an event race. Rules: a task that loses has ended when this returns; a thread that it waited for
has not. Leaves to others: what is asked for (`runtime.server`, `runtime.controlplane`).
"""

import asyncio
from typing import Any


async def ended_before(task: asyncio.Task[Any], asked: asyncio.Event) -> bool:
    """Whether `task` ended, however it did, before `asked` was set; it is cancelled otherwise."""
    asking = asyncio.create_task(asked.wait())
    await asyncio.wait({task, asking}, return_when=asyncio.FIRST_COMPLETED)
    asking.cancel()
    if task.done():
        return True
    task.cancel()
    await asyncio.wait({task})
    return False
