"""What passes between the runtime and the process that owns a GPU.

Knows: the form of every message, how they are framed, how an error crosses. Rules: a request gets exactly one reply; a
message is its length in 8 bytes and msgpack; a run is 4 bytes, the program's number, and its reply one byte or
a refusal, on a socket of the lane's own: so no thread hands a reply to another. Leaves to others: who asks (`owner`),
who answers (`child`).
"""

import socket
import struct
from typing import TypeAlias

import msgspec

from appliance.errors import (
    ApplianceError,
    EngineError,
    EngineLoad,
    GpuError,
    GpuLost,
    GpuMemory,
    GpuUnusable,
)
from runtime.gpu.program import Program

Shape: TypeAlias = tuple[int, ...]

MESSAGE_BYTES_MAX = 1 << 31  # constants of a program are the largest part
REFUSAL_BYTES_MAX = 1 << 15  # of a run; one datagram
RAN = b"\0"
OVER = (GpuLost, GpuUnusable)  # what a run raises on a device that can do nothing more
RUN = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")
_DESCRIPTORS_MAX = 2
_CROSSING = (EngineError, EngineLoad, GpuError, GpuLost, GpuMemory, GpuUnusable)


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One of either side."""


class Begin(Message, frozen=True, kw_only=True):
    """The first: which device by what, how full its memory may be, how many streams, whether to capture graphs.

    `devices` and `executions` are "room:function"; `nice` is the priority that the process shall have.
    """

    device: str
    devices: str
    executions: str
    library: str
    memory_share: float
    streams: int
    graphs: bool
    nice: int


class Load(Message, frozen=True, kw_only=True):
    """Load the engine file at `path` and call it `engine`."""

    engine: int
    path: str


class Unload(Message, frozen=True, kw_only=True):
    """Close an engine and its lanes; one that is unknown is fine."""

    engine: int


class OpenLane(Message, frozen=True, kw_only=True):
    """A lane of `engine`; with it come its socket, none for a lane in this process, and its slot's memory."""

    engine: int
    lane: int


class CloseLane(Message, frozen=True, kw_only=True):
    """Close a lane; one that is unknown is fine."""

    lane: int


class AskShapes(Message, frozen=True, kw_only=True):
    """The shapes of an engine's outputs, for those of its inputs."""

    engine: int
    inputs: dict[str, Shape]


class Install(Message, frozen=True, kw_only=True):
    """Keep a program as `number` for `lane`, whose slot has `slot_bytes` now."""

    lane: int
    number: int
    program: Program
    slot_bytes: int


class Forget(Message, frozen=True, kw_only=True):
    """Drop a program; one that is unknown is fine."""

    lane: int
    number: int


class Share(Message, frozen=True, kw_only=True):
    """Open device memory of another process, `size` bytes of it, and call it `shared`."""

    shared: int
    handle: bytes
    size: int


class Unshare(Message, frozen=True, kw_only=True):
    """Close it; one that is unknown is fine."""

    shared: int


class ReadShared(Message, frozen=True, kw_only=True):
    """Its bytes from `offset` on."""

    shared: int
    offset: int
    size: int


class WriteShared(Message, frozen=True, kw_only=True):
    """Set its bytes from `offset` on."""

    shared: int
    offset: int
    data: bytes


class Survey(Message, frozen=True, kw_only=True):
    """Say how the device is."""


class End(Message, frozen=True, kw_only=True):
    """Give everything back and end."""


Request: TypeAlias = (
    Begin
    | Load
    | Unload
    | OpenLane
    | CloseLane
    | AskShapes
    | Install
    | Forget
    | Share
    | Unshare
    | ReadShared
    | WriteShared
    | Survey
    | End
)


class Answer(Message, frozen=True, kw_only=True):
    """To a request; engines that were `evicted` meanwhile are not there any more, also where it was refused."""

    evicted: tuple[int, ...] = ()


class Done(Answer, frozen=True, kw_only=True):
    """It was done."""


class Loaded(Answer, frozen=True, kw_only=True):
    """An engine is there; `header` is its file's, msgpack."""

    header: bytes


class Shapes(Answer, frozen=True, kw_only=True):
    """Shapes of outputs by name."""

    outputs: dict[str, Shape]


class Held(Answer, frozen=True, kw_only=True):
    """Bytes of shared memory."""

    data: bytes


class Surveyed(Answer, frozen=True, kw_only=True):
    """A device: its memory in bytes, what runs as graphs, and why other programs do not."""

    name: str = ""
    capability: tuple[int, int] = (0, 0)
    free_bytes: int = 0
    total_bytes: int = 0
    graphs: int = 0
    ungraphed: tuple[str, ...] = ()


class Refused(Answer, frozen=True, kw_only=True):
    """An error of ours, by its code."""

    code: str
    message: str
    remedy: str


Reply: TypeAlias = Done | Loaded | Shapes | Held | Surveyed | Refused

_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def send(connection: socket.socket, message: Message, descriptors: tuple[int, ...] = ()) -> None:
    """Send one message, and file descriptors with it. Raises OSError."""
    data = msgspec.msgpack.encode(message)
    length = _LENGTH.pack(len(data))
    if descriptors:
        socket.send_fds(connection, [length], list(descriptors))
    else:
        connection.sendall(length)
    connection.sendall(data)


def receive_request(connection: socket.socket) -> tuple[Request, list[int]]:
    """The next request and the descriptors that came with it. Raises EOFError, OSError, DecodeError."""
    length, descriptors, _, _ = socket.recv_fds(connection, _LENGTH.size, _DESCRIPTORS_MAX)
    length += _received(connection, _LENGTH.size - len(length)) if length else b""
    if not length:
        raise EOFError
    return _requests.decode(_received(connection, _measured(length))), descriptors


def receive_reply(connection: socket.socket) -> Reply:
    """The next reply. Raises EOFError, OSError, DecodeError."""
    return _replies.decode(_received(connection, _measured(_received(connection, _LENGTH.size))))


def refused(error: Exception) -> Refused:
    """An error as it crosses. One that is not ours becomes an EngineError that names it."""
    if isinstance(error, ApplianceError):
        return Refused(code=error.code, message=str(error), remedy=error.remedy)
    return Refused(
        code=EngineError.code,
        message=f"the GPU's owner failed: {type(error).__name__}: {error}",
        remedy="see the journal",
    )


def refusal_bytes(error: Exception) -> bytes:
    """An error of a run, as one datagram."""
    told = refused(error)
    short = msgspec.structs.replace(told, message=told.message[:4000], remedy=told.remedy[:1000])
    return msgspec.msgpack.encode(short)


def raised(refusal: Refused) -> ApplianceError:
    """The error that crossed, of its own class."""
    kinds = {kind.code: kind for kind in _CROSSING}
    return kinds.get(refusal.code, EngineError)(refusal.message, remedy=refusal.remedy)


def raised_from(data: bytes) -> ApplianceError:
    """The error of a run."""
    reply = _replies.decode(data)
    assert isinstance(reply, Refused)
    return raised(reply)


def _measured(length: bytes) -> int:
    size: int = _LENGTH.unpack(length)[0]
    if size > MESSAGE_BYTES_MAX:
        raise OSError(f"a message of {size} bytes")
    return size


def _received(connection: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    data = bytearray(size)
    view = memoryview(data)
    while view.nbytes:
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return bytes(data)
