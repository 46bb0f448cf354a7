"""Shared memory of the system, and of CUDA devices, which this release does not have.

Knows: the messages of both extensions. Rules: only a caller on this box may register, list or forget regions;
each change is journalled with who made it. Leaves to others: what may be registered, and using it
(`runtime.regions`).
"""

import asyncio
from typing import Any

from tritonclient.grpc import service_pb2 as oip

from appliance import journal
from appliance.errors import NotGranted, RequestError, UnknownRegion
from runtime.regions import Regions, is_local


class Sharing:
    """SystemSharedMemoryStatus, -Register, -Unregister and CudaSharedMemoryStatus, -Register, -Unregister."""

    def __init__(self, *, regions: Regions) -> None:
        self._regions = regions

    async def SystemSharedMemoryStatus(self, request: Any, context: Any) -> Any:
        """The registered region of a name, or all."""
        self._check_local(context)
        reply = oip.SystemSharedMemoryStatusResponse()
        for region in self._regions.status(request.name):
            entry = reply.regions[region.name]
            entry.name, entry.key = region.name, region.key
            entry.offset, entry.byte_size = region.offset, region.byte_size
        return reply

    async def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:
        """Let requests name a part of a client's shared memory."""
        self._check_local(context)
        await asyncio.to_thread(
            self._regions.register, request.name, request.key, request.offset, request.byte_size
        )
        journal.event(
            "region.registered",
            region=request.name,
            key=request.key,
            bytes=request.byte_size,
            peer=context.peer(),
        )
        return oip.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(self, request: Any, context: Any) -> Any:
        """Forget the region of a name, or all; what is in use stays open until its requests end."""
        self._check_local(context)
        self._regions.unregister(request.name)
        journal.event("region.unregistered", region=request.name, peer=context.peer())
        return oip.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(self, request: Any, context: Any) -> Any:
        """No region: this release has none."""
        if request.name:
            raise UnknownRegion(
                f"Unable to find cuda shared memory region: '{request.name}'",
                remedy="use system shared memory",
            )
        return oip.CudaSharedMemoryStatusResponse()

    async def CudaSharedMemoryRegister(self, request: Any, context: Any) -> Any:
        """Refused, as by a Triton without GPUs."""
        raise RequestError(
            f"failed to register CUDA shared memory region: '{request.name}', GPUs not supported",
            remedy="use system shared memory",
        )

    async def CudaSharedMemoryUnregister(self, request: Any, context: Any) -> Any:
        """Nothing to forget, which is no error: stock clients begin with it."""
        return oip.CudaSharedMemoryUnregisterResponse()

    def _check_local(self, context: Any) -> None:
        if self._regions.allowed and not is_local(context.peer()):
            raise NotGranted(
                "Client shared memory is disabled",
                remedy="ask from this box, by its loopback address",
            )
