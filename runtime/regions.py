"""Shared memory of clients on this box: POSIX objects that they register and keep tensors in.

Knows: the registered regions and what may become one. Rules: only an object whose key has the configured
prefix, that is a plain file of an allowed user and no link; every use is checked against its bounds and
copied through the descriptor, never mapped: a client that shrinks its object meets an error and cannot
end this process, and one that rewrites it cannot change what was already read. A region that is
unregistered stays open for whoever holds a piece of it. What cannot be opened is told in one sentence
whatever the reason, so that nobody learns what else exists. Leaves to others: tensors (`runtime.codec`) and
which callers are asked for (`is_local`).

The texts are those of Triton (its shared memory manager), which clients match on.
"""

import ipaddress
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from urllib.parse import unquote

from appliance.config import SharedMemoryConfig
from appliance.errors import (
    NotGranted,
    RegionTaken,
    RegionUnusable,
    RequestError,
    RequestLimit,
    UnknownRegion,
)

DIRECTORY = Path("/dev/shm")  # noqa: S108 - where shm_open(3) of Linux keeps its objects
NAME_CHARACTERS_MAX = 256
KEY_BYTES_MAX = 255
# Never a client's, whatever the configured prefix: this runtime's own, and the C library's semaphores.
RESERVED = ("holdfast-runtime-", "sem.")
_REMEDY = "see docs/protocol.md, shared memory"


class _Object:
    """An open shared memory object; closed when nobody holds it any more."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """`byte_size` bytes from `offset` on of the object `key`, registered as `name`."""

    name: str
    key: str
    offset: int
    byte_size: int
    opened: _Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """`byte_size` bytes of a region that was checked to have them; usable from any thread."""

    region: Region
    offset: int
    byte_size: int

    def read(self) -> memoryview:
        """A copy of the piece as it is now; RegionUnusable when its object has shrunk meanwhile."""
        at, left = self.region.offset + self.offset, self.byte_size
        parts: list[bytes] = []
        while left:
            part = self._read_some(left, at)
            if not part:
                raise _invalid(self.region)
            parts.append(part)
            at, left = at + len(part), left - len(part)
        return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))

    def write(self, data: bytes | memoryview) -> None:
        """Write `data`, at most `byte_size` bytes, to the piece's beginning; RegionUnusable as `read`."""
        view = memoryview(data).cast("B")
        assert view.nbytes <= self.byte_size, "the codec checks what fits"
        at = self.region.offset + self.offset
        try:
            # A write behind the end would make the object grow on our account.
            if os.fstat(self.region.opened.descriptor).st_size < at + view.nbytes:
                raise _invalid(self.region)
            while view.nbytes:
                written = os.pwrite(self.region.opened.descriptor, view, at)
                at, view = at + written, view[written:]
        except OSError as error:
            raise _invalid(self.region) from error

    def _read_some(self, size: int, at: int) -> bytes:
        try:
            return os.pread(self.region.opened.descriptor, size, at)
        except OSError as error:
            raise _invalid(self.region) from error


class Regions:
    """Every registered region. Every method may be called from any thread."""

    def __init__(self, config: SharedMemoryConfig, *, directory: Path = DIRECTORY) -> None:
        self._config = config
        self._directory = directory
        self._owners = {os.geteuid(), *config.owners}
        self._regions: dict[str, Region] = {}
        self._lock = Lock()

    @property
    def allowed(self) -> bool:
        """Whether clients may register shared memory at all."""
        return self._config.allowed

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Let requests name `byte_size` bytes from `offset` on of the object `key` as `name`.

        Raises NotGranted, RequestError on a name, key or size that cannot be, RegionTaken, RequestLimit
        over `regions_max` or `bytes_max`, RegionUnusable when the object may not or cannot be opened.
        """
        self._check_allowed()
        if not name or len(name) > NAME_CHARACTERS_MAX:
            raise RequestError(
                f"a shared memory region needs a name of 1 to {NAME_CHARACTERS_MAX} characters",
                remedy=_REMEDY,
            )
        file = self._file_name(name, key)
        with self._lock:
            self._check_room(name, byte_size)
        opened = self._open(file, key)
        size = os.fstat(opened.descriptor).st_size
        if offset < 0 or byte_size < 1 or offset + byte_size > size:
            raise RequestError(
                f"failed to register shared memory region '{name}': invalid args",
                remedy="register at least one byte, and no more than the object has",
            )
        region = Region(name=name, key=key, offset=offset, byte_size=byte_size, opened=opened)
        with self._lock:
            self._check_room(name, byte_size)  # again: others registered while this one was opened
            self._regions[name] = region

    def unregister(self, name: str) -> None:
        """Forget the region `name`, or all when it is ""; what is not registered is no error."""
        with self._lock:
            if name:
                self._regions.pop(name, None)
            else:
                self._regions.clear()

    def status(self, name: str) -> list[Region]:
        """The region `name`, or all in order of name when it is ""; UnknownRegion."""
        with self._lock:
            if not name:
                return [self._regions[each] for each in sorted(self._regions)]
            if name in self._regions:
                return [self._regions[name]]
        raise UnknownRegion(
            f"Unable to find system shared memory region: '{name}'", remedy="register it first"
        )

    def find(self, region: str, offset: int, byte_size: int) -> Piece:
        """Those bytes of a region, held open for as long as the piece is.

        Raises NotGranted, UnknownRegion, or RequestError when the region does not have them.
        """
        self._check_allowed()
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

    def read(self, region: str, offset: int, byte_size: int) -> memoryview:
        """A copy of those bytes of a region; raises as `find` and `Piece.read`."""
        return self.find(region, offset, byte_size).read()

    def write(self, region: str, offset: int, byte_size: int, data: bytes | memoryview) -> None:
        """Write `data`, at most `byte_size` bytes, there; raises as `find` and `Piece.write`."""
        self.find(region, offset, byte_size).write(data)

    def _check_allowed(self) -> None:
        if not self._config.allowed:
            raise NotGranted(
                "Client shared memory is disabled", remedy="set [shared_memory] allowed = true"
            )

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

    def _open(self, file: str, key: str) -> _Object:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            opened = _Object(os.open(self._directory / file, flags))
        except OSError as error:
            raise _unopened(key) from error
        found = os.fstat(opened.descriptor)
        plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        if not plain or found.st_uid not in self._owners:
            raise _unopened(key)
        return opened


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
