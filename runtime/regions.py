"""Shared memory of clients on this box: objects and GPU memory that they register and keep tensors in.

Knows: the registered regions and what may become one. Rules: only an object whose key has the configured
prefix, that is a plain file of an allowed user and no link; memory of a GPU only where that is allowed by itself; both
kinds share names and limits; every use is checked against its bounds. A region that is unregistered stays open for
whoever holds a piece of it. What cannot be opened is told in one sentence whatever the reason, so that nobody learns
what else exists. Leaves to others: the memory itself (`shared_memory`), tensors (`runtime.codec`) and which
callers are asked for (`is_local`).

The texts are those of Triton (its shared memory manager), which clients match on.
"""

import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import TypeAlias
from urllib.parse import unquote

from appliance.config import SharedMemoryConfig
from appliance.errors import (
    GpuError,
    GpuLost,
    GpuUnusable,
    NotGranted,
    RegionTaken,
    RegionUnusable,
    RequestError,
    RequestLimit,
    UnknownRegion,
)
from runtime.shared_memory import (
    HANDLE_BYTES,
    GpuMemory,
    Memory,
    Shared,
    SystemMemory,
    close_unused,
)

DIRECTORY = Path("/dev/shm")  # noqa: S108 - where shm_open(3) of Linux keeps its objects
NAME_CHARACTERS_MAX = 256
KEY_BYTES_MAX = 255
# Never a client's, whatever the configured prefix: this runtime's own, and the C library's semaphores.
RESERVED = ("holdfast-runtime-", "sem.")
_REMEDY = "see docs/protocol.md, shared memory"

# Opens memory of a client on the GPU of a number, by its handle, of so many bytes (`runtime.gpu.current`).
Share: TypeAlias = Callable[[int, bytes, int], Shared]


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """`byte_size` bytes from `offset` on of `memory`, registered as `name`.

    `key` is the object's, "" for memory of a GPU; `device` the GPU's number as the client gave it, None for an object.
    """

    name: str
    key: str
    offset: int
    byte_size: int
    memory: Memory
    device: int | None = None

    @property
    def kind(self) -> str:
        """As Triton calls it."""
        return "system" if self.device is None else "CUDA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """`byte_size` bytes of a region that was checked to have them; usable from any thread."""

    region: Region
    offset: int
    byte_size: int

    def read(self) -> memoryview:
        """A copy of the piece as it is now; RegionUnusable when its object has shrunk meanwhile, or GpuError."""
        try:
            return self.region.memory.read(self.region.offset + self.offset, self.byte_size)
        except OSError as error:
            raise _invalid(self.region) from error

    def write(self, data: bytes | memoryview) -> None:
        """Write `data`, at most `byte_size` bytes, to the piece's beginning; raises as `read`."""
        view = memoryview(data).cast("B")
        assert view.nbytes <= self.byte_size, "the codec checks what fits"
        try:
            self.region.memory.write(self.region.offset + self.offset, view)
        except OSError as error:
            raise _invalid(self.region) from error


class Regions:
    """Every registered region. Every method may be called from any thread."""

    def __init__(
        self, config: SharedMemoryConfig, *, directory: Path = DIRECTORY, share: Share | None = None
    ) -> None:
        """Without `share` there is no GPU."""
        self._config = config
        self._directory = directory
        self._share = share if config.cuda_allowed else None
        self._unused: SimpleQueue[Shared] = SimpleQueue()
        self._owners = {os.geteuid(), *config.owners}
        self._regions: dict[str, Region] = {}
        self._lock = Lock()

    @property
    def allowed(self) -> bool:
        """Whether clients may register shared memory at all."""
        return self._config.allowed or self.cuda_allowed

    @property
    def cuda_allowed(self) -> bool:
        """Whether clients may register memory of a GPU."""
        return self._share is not None

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Let requests name `byte_size` bytes from `offset` on of the object `key` as `name`.

        Raises NotGranted, RequestError on a name, key or size that cannot be, RegionTaken, RequestLimit
        over `regions_max` or `bytes_max`, RegionUnusable when the object may not or cannot be opened.
        """
        if not self._config.allowed:
            raise _disabled()
        _check_name(name)
        file = self._file_name(name, key)
        with self._lock:
            self._check_room(name, byte_size)
        try:
            memory = SystemMemory(self._directory / file, self._owners)
        except OSError as error:
            raise _unopened(key) from error
        if offset < 0 or byte_size < 1 or offset + byte_size > memory.size:
            raise _invalid_arguments(name)
        self._add(Region(name=name, key=key, offset=offset, byte_size=byte_size, memory=memory))

    def register_cuda(self, name: str, handle: bytes, device: int, byte_size: int) -> None:
        """Let requests name the first `byte_size` bytes of memory on GPU `device`, by its cudaIpcMemHandle_t.

        Raises as `register`, and GpuUnusable or GpuLost.
        """
        share = self._share
        if share is None:
            raise RequestError(
                f"failed to register CUDA shared memory region: '{name}', GPUs not supported",
                remedy="use system shared memory, or set [shared_memory] cuda_allowed = true",
            )
        _check_name(name)
        with self._lock:
            self._check_room(name, byte_size)
        if len(handle) != HANDLE_BYTES or byte_size < 1 or device < 0:
            raise _invalid_arguments(name)
        try:
            shared = share(device, handle, byte_size)
        except (GpuLost, GpuUnusable):
            raise
        except GpuError as error:
            raise _invalid_arguments(name) from error
        memory = GpuMemory(shared, byte_size, self._unused)
        self._add(
            Region(name=name, key="", offset=0, byte_size=byte_size, memory=memory, device=device)
        )

    def unregister(self, name: str, kind: str = "system") -> None:
        """Forget the region `name` of a kind, or all of it when it is ""; what is not registered is no error."""
        self._forget(name, kind)
        if kind == "CUDA":  # the system's are forgotten on the event loop, which waits for no GPU
            close_unused(self._unused)

    def status(self, name: str, kind: str = "system") -> list[Region]:
        """The region `name` of a kind, or all of it in order of name when it is ""; UnknownRegion."""
        with self._lock:
            if not name:
                named = sorted(self._regions.items())
                return [region for _, region in named if region.kind == kind]
            found = self._regions.get(name)
        if found is None:
            told = f"Unable to find {kind.lower()} shared memory region: '{name}'"
        elif found.kind != kind:
            told = (
                f"The region named '{name}' is registered as {found.kind} shared memory, "
                f"not {kind} shared memory"
            )
        else:
            return [found]
        raise UnknownRegion(told, remedy="register it first")

    def find(self, region: str, offset: int, byte_size: int) -> Piece:
        """Those bytes of a region, held open for as long as the piece is.

        Raises NotGranted, UnknownRegion, or RequestError when the region does not have them.
        """
        if not self.allowed:
            raise _disabled()
        with self._lock:
            found = self._regions.get(region)
        if found is None:
            raise UnknownRegion(
                f"Unable to find shared memory region: '{region}'", remedy="register it first"
            )
        if offset < 0 or byte_size < 0 or offset >= found.byte_size:
            raise RequestError(
                f"Invalid offset for shared memory region: '{region}'", remedy=_REMEDY
            )
        if offset + byte_size > found.byte_size:
            raise RequestError(
                f"Invalid offset + byte size for shared memory region: '{region}'", remedy=_REMEDY
            )
        return Piece(region=found, offset=offset, byte_size=byte_size)

    def _forget(self, name: str, kind: str) -> None:
        with self._lock:
            self._regions = {
                key: region
                for key, region in self._regions.items()
                if region.kind != kind or name not in ("", key)
            }

    def _add(self, region: Region) -> None:
        close_unused(self._unused)
        with self._lock:
            # Again: others registered while this one was opened.
            self._check_room(region.name, region.byte_size)
            self._regions[region.name] = region

    def _check_room(self, name: str, byte_size: int) -> None:
        if name in self._regions:
            raise RegionTaken(
                f"shared memory region '{name}' already in manager", remedy="unregister it first"
            )
        if len(self._regions) >= self._config.regions_max:
            raise RequestLimit(
                f"{len(self._regions)} shared memory regions are registered, and no more may be",
                remedy="unregister some, or raise [shared_memory] regions_max",
            )
        if byte_size + sum(each.byte_size for each in self._regions.values()) > (
            self._config.bytes_max
        ):
            raise RequestLimit(
                f"shared memory regions may have {self._config.bytes_max} bytes together",
                remedy="unregister some, or raise [shared_memory] bytes_max",
            )

    def _file_name(self, name: str, key: str) -> str:
        """The object's file; shm_open(3) takes a key with or without its slash, and no second one."""
        file, prefix = key.removeprefix("/"), self._config.key_prefix.removeprefix("/")
        told = f"cannot register shared memory region '{name}' with key '{key}'"
        for reserved in RESERVED:
            if file.startswith(reserved):
                raise RequestError(
                    f"{told} as the key contains the reserved prefix '{reserved}'", remedy=_REMEDY
                )
        whole = "/" not in file and "\0" not in file and file not in {"", ".", ".."}
        if not whole or len(file.encode()) > KEY_BYTES_MAX or not file.startswith(prefix):
            raise RequestError(told, remedy=f"begin the key with '{self._config.key_prefix}'")
        return file


def is_local(peer: str) -> bool:
    """Whether a gRPC peer such as "ipv4:127.0.0.1:40212" or "unix:" is on this box.

    Only the loopback addresses are known to be; a client that asks by the box's own LAN address is not.
    """
    kind, _, rest = unquote(peer).partition(":")
    if kind.startswith("unix"):
        return True
    host = rest.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _check_name(name: str) -> None:
    if not name or len(name) > NAME_CHARACTERS_MAX:
        raise RequestError(
            f"a shared memory region needs a name of 1 to {NAME_CHARACTERS_MAX} characters",
            remedy=_REMEDY,
        )


def _disabled() -> NotGranted:
    return NotGranted(
        "Client shared memory is disabled", remedy="set [shared_memory] allowed = true"
    )


def _invalid_arguments(name: str) -> RequestError:
    return RequestError(
        f"failed to register shared memory region '{name}': invalid args",
        remedy="register at least one byte, and no more than the object has",
    )


def _unopened(key: str) -> RegionUnusable:
    return RegionUnusable(
        f"Unable to open shared memory region: '{key}'",
        remedy="create it as a user that [shared_memory] owners names, or as the runtime's own",
    )


def _invalid(region: Region) -> RegionUnusable:
    return RegionUnusable(
        f"Invalid shared memory region: '{region.name}'",
        remedy="its object shrank or has no room: create it again and register it again",
    )
