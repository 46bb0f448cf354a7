"""One payload and its form at rest. Pure.

Knows: what is kept of a request, the salted digest that its record has, the packed form of its tensors. Rules:
packing and unpacking are each other's inverse; unpacking refuses mutilated bytes and never makes more of
them than they were. Leaves to others: where they lie (`payloads.writer`), the plain digest (`audit.payload`).
"""

import hashlib
import zlib
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from appliance.audit.payload import Tensor, digest
from appliance.errors import PayloadBroken

SALT_BYTES = 32
SIZE_MAX = 1 << 32  # bytes of one payload's tensors; a request has at most 2 GiB
# What does not shrink by so much, such as a JPEG file, is kept as it is: reading it is then quicker.
_SHRUNK = 0.95
_LEVEL = 1  # a request's inputs shrink hardly more at the levels that take three times as long
_REMEDY = "keep the files of the payloads as evidence; the audit log itself is not affected"

Why: TypeAlias = Literal["all", "sample", "unsure", "failure"]
Coding: TypeAlias = Literal["plain", "zlib"]


class Requested(msgspec.Struct, frozen=True, array_like=True):
    """One output that the request asked for, as it is (0) or as its `classes` largest values."""

    name: str
    classes: int = 0


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of one request, as its client sees them, and what they answer to.

    `sha256` is the salted digest that the request's record has; `wall_ns` is UTC; `version` is what answered,
    or was to answer; `outputs` are those asked for; `why` says what they were kept for.
    """

    sha256: str
    salt: bytes
    request_id: str
    model: str
    version: int
    wall_ns: int
    why: Why
    outputs: tuple[Requested, ...]
    inputs: tuple[Tensor, ...]

    def check(self) -> None:
        """Raise PayloadBroken when the inputs are not those that `sha256` was made from."""
        plain = digest((t.name, t.datatype, t.shape, t.data) for t in self.inputs)
        if salted_digest(self.salt, plain) != self.sha256:
            raise PayloadBroken(
                f"the payload of request '{self.request_id}' does not fit its record",
                remedy=_REMEDY,
            )


class Packed(NamedTuple):
    """Tensors at rest: how they are coded, their size without it, and the bytes."""

    coding: Coding
    size: int
    data: bytes


def salted_digest(salt: bytes, input_sha256: str) -> str:
    """SHA-256, 64 hex digits, over the salt and the 32 bytes of the plain digest (`audit.payload.digest`).

    Without the salt, which is erased with the payload, no input can be tried out against it.
    """
    return hashlib.sha256(salt + bytes.fromhex(input_sha256)).hexdigest()


def pack(inputs: tuple[Tensor, ...]) -> Packed:
    """The form at rest: MessagePack of the tensors, with zlib (RFC 1950) where that shortens it."""
    plain = _encoder.encode(inputs)
    shrunk = zlib.compress(plain, _LEVEL)
    if len(shrunk) < len(plain) * _SHRUNK:
        return Packed("zlib", len(plain), shrunk)
    return Packed("plain", len(plain), plain)


def unpack(packed: Packed) -> tuple[Tensor, ...]:
    """The tensors that were packed. Raises PayloadBroken on other bytes."""
    data = packed.data
    if not 0 <= packed.size <= SIZE_MAX:
        raise PayloadBroken("a payload has an impossible size", remedy=_REMEDY)
    try:
        if packed.coding == "zlib":
            unpacking = zlib.decompressobj()
            # One more than there should be: too long is told from right without unpacking all.
            data = unpacking.decompress(data, packed.size + 1)
            if not unpacking.eof:
                raise PayloadBroken("a payload is cut short or too long", remedy=_REMEDY)
        if len(data) != packed.size:
            raise PayloadBroken("a payload has another size than noted", remedy=_REMEDY)
        return _decoder.decode(data)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PayloadBroken(f"a payload cannot be read: {error}", remedy=_REMEDY) from error


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[Tensor, ...])
