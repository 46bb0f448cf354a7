"""Which loaded version a question about a model means.

Knows: nothing of its own. Rules: the router answers, off the event loop, since a name that is not loaded
makes it ask the disk. Leaves to others: roles, labels and texts (`runtime.router`).
"""

import asyncio

from appliance.store import StoredVersion
from runtime.swap import ServedTable


async def found(table: ServedTable, model: str, requested: str) -> StoredVersion:
    """The version that `requested` (a number, a role such as "canary", or "") means, as it is loaded.

    Raises UnknownModel, UnknownVersion, VersionNotServed or RequestError, as `runtime.router.choose`.
    """
    _, loaded = await asyncio.to_thread(table.route, model, requested)
    return loaded.stored
