"""Is the server there, is it ready, is a model ready.

Knows: what readiness is made of. Rules: an unknown model is not ready, which is no error (as in Triton; its
clients poll for it). Leaves to others: why (`runtime.swap`, the journal).
"""

import asyncio
from typing import Any

from tritonclient.grpc import service_pb2 as oip

from appliance.errors import UnknownModel, UnknownVersion, VersionNotServed
from runtime.dataplane import DataPlane
from runtime.swap import ServedTable


class Presence:
    """ServerLive, ServerReady and ModelReady."""

    def __init__(self, *, table: ServedTable, dataplane: DataPlane) -> None:
        self._table = table
        self._dataplane = dataplane

    async def ServerLive(self, request: Any, context: Any) -> Any:
        """Whether the process answers."""
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        """Whether every model with an active version can answer."""
        return oip.ServerReadyResponse(ready=self._table.ready and not self._dataplane.draining)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        """Whether a model (or one version) can answer; an unknown one cannot, which is no error."""
        try:
            _, loaded = await asyncio.to_thread(self._table.route, request.name, request.version)
        except (UnknownModel, UnknownVersion, VersionNotServed):
            return oip.ModelReadyResponse(ready=False)
        return oip.ModelReadyResponse(ready=not loaded.trouble)
