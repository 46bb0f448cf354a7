"""What a request says of itself: the plain values that pass from the codec to the rooms behind it.

Knows: the words of a call: who asks what, which outputs and in which form, which sequence. Rules: plain data
that never holds a message or a tensor, so that it may outlive both. Leaves to others: reading them
off the wire (`runtime.codec.decoding`).
"""

from typing import NamedTuple, Protocol

import msgspec

from appliance.errors import RequestError
from appliance.tensors import DataType, TensorSpec

REQUEST_ID_CHARACTERS_MAX = 256
DIMENSIONS_MAX = 32
CLASSES_MAX = 1024

_REMEDY = "see the protocol's description of this field"


class Head(NamedTuple):
    """What a request says of one input: its datatype and its shape with the batch axis."""

    datatype: DataType
    shape: tuple[int, ...]


class Placement(NamedTuple):
    """Where in a client's shared memory a tensor lies: a registered region, and bytes in it."""

    region: str
    offset: int
    byte_size: int


class Requested(NamedTuple):
    """One output asked for: as it is, as its `classes` largest values, or into shared memory."""

    name: str
    classes: int = 0
    placement: Placement | None = None


class Wanted(NamedTuple):
    """A requested output that the model has (see `Requested`)."""

    spec: TensorSpec
    classes: int = 0
    placement: Placement | None = None


class Sequence(NamedTuple):
    """The sequence that a request belongs to; `start` and `end` mark its first and last request."""

    id: int | str
    start: bool
    end: bool


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who asks what: everything of a request but its tensors.

    `request_id` names it in the audit log: the client's own id, or one made here when it sent none;
    `sent_id` is what the client sent and gets back. `outputs` is empty for all. `timeout_us` 0 means
    none; `priority` 0 the default, 1 the highest; `bytes` is the size of the whole request.
    """

    model: str
    version: str
    request_id: str
    sent_id: str
    peer: str
    outputs: tuple[Requested, ...]
    timeout_us: int
    bytes: int
    priority: int = 0
    sequence: Sequence | None = None


class Piece(Protocol):
    """Bytes of a client's shared memory that were found to be there; used from any thread."""

    def read(self) -> memoryview:
        """A copy of them as they are now; ApplianceError when they are gone."""

    def write(self, data: bytes | memoryview) -> None:
        """Write `data`, which is not larger, to their beginning; ApplianceError when they are gone."""


class Regions(Protocol):
    """The shared memory that clients registered, as `runtime.regions` keeps it."""

    def find(self, region: str, offset: int, byte_size: int) -> Piece:
        """Those bytes of a region; ApplianceError when there is no such region or it is smaller."""


def invalid(message: str) -> RequestError:
    """The error of a request that contradicts itself or the protocol."""
    return RequestError(message, remedy=_REMEDY)
