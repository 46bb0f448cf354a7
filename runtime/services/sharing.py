"""Shared memory of the system, and of CUDA devices.

Knows: the messages of both extensions. Rules: only a caller on this box may register, list or forget regions;
each change is journalled with who made it. Leaves to others: what may be registered, and using it
(`runtime.regions`).
"""

import asyncio
from typing import Any

from tritonclient.grpc import service_pb2 as oip

from appliance import journal
from appliance.errors import NotGranted
from runtime.regions import Regions, is_local


class Sharing:
    """SystemSharedMemoryStatus, -Register, -Unregister and CudaSharedMemoryStatus, -Register, -Unregister."""

    def __init__(self, *, regions: Regions) -> None:
        self._regions = regions

    async def SystemSharedMemoryStatus(self, request: Any, context: Any) -> Any:
        """The registered region of a name, or all."""
        self._check_local(context, allowed=self._regions.allowed)
        reply = oip.SystemSharedMemoryStatusResponse()
        for region in self._regions.status(request.name):
            entry = reply.regions[region.name]
            entry.name, entry.key = region.name, region.key
            entry.offset, entry.byte_size = region.offset, region.byte_size
        return reply

    async def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:
        """Let requests name a part of a client's shared memory."""
        self._check_local(context, allowed=self._regions.allowed)
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
        self._check_local(context, allowed=self._regions.allowed)
        self._regions.unregister(request.name)
        journal.event("region.unregistered", region=request.name, peer=context.peer())
        return oip.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(self, request: Any, context: Any) -> Any:
        """The registered region of a GPU's memory of a name, or all."""
        self._check_local(context, allowed=self._regions.cuda_allowed)
        reply = oip.CudaSharedMemoryStatusResponse()
        for region in self._regions.status(request.name, "CUDA"):
            entry = reply.regions[region.name]
            entry.name, entry.byte_size = region.name, region.byte_size
            entry.device_id = region.device
        return reply

    async def CudaSharedMemoryRegister(self, request: Any, context: Any) -> Any:
        """Let requests name a part of a client's memory on a GPU, by its CUDA IPC handle."""
        self._check_local(context, allowed=self._regions.cuda_allowed)
        await asyncio.to_thread(
            self._regions.register_cuda,
            request.name,
            request.raw_handle,
            request.device_id,
            request.byte_size,
        )
        journal.event(
            "region.registered",
            region=request.name,
            device=request.device_id,
            bytes=request.byte_size,
            peer=context.peer(),
        )
        return oip.CudaSharedMemoryRegisterResponse()

    async def CudaSharedMemoryUnregister(self, request: Any, context: Any) -> Any:
        """Forget the region of a name, or all; nothing to forget is no error: stock clients begin with it."""
        allowed = self._regions.cuda_allowed
        self._check_local(context, allowed=allowed)
        if allowed:
            await asyncio.to_thread(self._regions.unregister, request.name, "CUDA")
            journal.event("region.unregistered", region=request.name, peer=context.peer())
        return oip.CudaSharedMemoryUnregisterResponse()

    def _check_local(self, context: Any, *, allowed: bool) -> None:
        if allowed and not is_local(context.peer()):
            raise NotGranted(
                "Client shared memory is disabled",
                remedy="ask from this box, by its loopback address",
            )
