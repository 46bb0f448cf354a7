"""From a message on the wire to a request.

Knows: that requests to one model mostly differ in nothing but id and data. Rules: the hand parser cuts
the message; protobuf reads the header, once for all requests that share it; whatever the hand parser
leaves goes through protobuf whole, with the same result. A refusal waits for `heads`, so that it can be
recorded with who asked. Leaves to others: whether a request fits a model (`runtime.dataplane`).
"""

import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as oip

from appliance.errors import RequestError
from appliance.tensors import Array
from runtime.codec import parameters
from runtime.codec.call import (
    REQUEST_ID_CHARACTERS_MAX,
    Call,
    Head,
    Piece,
    Regions,
    Requested,
    invalid,
)
from runtime.codec.tensors import Input, arrays_of, inputs_of
from runtime.codec.walking import FIELDS_MAX, Raw, crowded, walk
from runtime.regions import is_local

_NOWHERE: Mapping[str, Piece] = MappingProxyType({})
HEADERS_MAX = 1024
HEADER_BYTES_MAX = 1 << 18  # of all headers that are kept, together


class Request:
    """One inference request; made by `decode`.

    `call` is everything but the tensors. `header` is equal for requests that differ in nothing but id and
    raw contents, so that what was found out about one holds for all; None where each must be looked at
    (parameters, typed contents, shared memory, an unusual encoding). `places`, once `heads` was asked, are
    where outputs go that were asked for in shared memory, by name. Used by one thread at a time.
    """

    __slots__ = ("_heads", "_inputs", "_message", "_raws", "_regions", "call", "header", "places")

    def __init__(
        self,
        call: Call,
        header: bytes | None,
        raws: list[Raw],
        shared: "_Header | None",
        *,
        message: Any = None,
        regions: Regions | None = None,
    ) -> None:
        self.call = call
        self.header = header
        self.places = _NOWHERE
        self._raws = raws
        self._inputs = shared.inputs if shared else ()
        self._heads = shared.heads if shared else None
        self._message = message
        self._regions = regions

    def heads(self) -> Mapping[str, Head]:
        """Datatype and shape of every input, by name, in the order sent. Reads no data.

        Raises RequestError, or what `regions` raises when the place of an output is not there.
        """
        if len(self.call.sent_id) > REQUEST_ID_CHARACTERS_MAX:
            raise invalid(f"the request id is longer than {REQUEST_ID_CHARACTERS_MAX} characters")
        if self._heads is None:
            parameters.check(self._message)
            self._inputs = inputs_of(self._message)
            self.places = self._find_places()
            self._heads = {item.name: item.head for item in self._inputs}
        return self._heads

    def arrays(self, heads: Mapping[str, Head]) -> Mapping[str, Array]:
        """The data of the inputs that `heads` found, in wire shape, to be read only.

        Raw contents are views into the message at any offset, so an array may be unaligned; what comes
        from shared memory is a copy. Raises RequestError, or what `regions` raises.
        """
        assert heads is self._heads
        return arrays_of(self._inputs, self._raws, model=self.call.model, regions=self._regions)

    def _find_places(self) -> Mapping[str, Piece]:
        """Where outputs go in shared memory; refuses whoever may not use it, before any work is done."""
        placed = {output.name: output.placement for output in self.call.outputs if output.placement}
        if not placed and not any(item.placement for item in self._inputs):
            return _NOWHERE
        if self._regions is None:
            raise invalid("Client shared memory is disabled")
        if not is_local(self.call.peer):
            raise invalid("shared memory is for clients on this box, by its loopback address")
        return {name: self._regions.find(*place) for name, place in placed.items()}


def decode(
    message: bytes, *, peer: str, new_id: Callable[[], str], regions: Regions | None = None
) -> Request:
    """The request in `message`; `regions` None turns shared memory off.

    Raises RequestError when the bytes are no ModelInferRequest (grpc_service.proto of Triton) or have
    more than FIELDS_MAX fields; everything else is refused by the request itself.
    """
    parts = walk(message)
    if parts is None:
        return _whole(message, peer, new_id, regions)
    header, sent_id, raws = parts
    known = _KEPT.get(header)
    if known is not None:
        call = Call(
            model=known.model,
            version=known.version,
            request_id=sent_id or new_id(),
            sent_id=sent_id,
            peer=peer,
            outputs=known.outputs,
            timeout_us=0,
            bytes=len(message),
        )
        return Request(call, header, raws, known)
    parsed = _parsed(header)
    call = call_of(parsed, sent_id, len(message), peer=peer, new_id=new_id)
    shared = _header(parsed, call)
    if shared is None:
        return Request(call, None, raws, None, message=parsed, regions=regions)
    _KEPT.put(header, shared)
    return Request(call, header, raws, shared)


def call_of(request: Any, sent_id: str, size: int, *, peer: str, new_id: Callable[[], str]) -> Call:
    """Everything but the tensors of a ModelInferRequest of `size` bytes; never fails."""
    asked = parameters.asked(request)
    return Call(
        model=request.model_name,
        version=request.model_version,
        request_id=sent_id or new_id(),
        sent_id=sent_id,
        peer=peer,
        outputs=parameters.requested(request),
        timeout_us=asked.timeout_us,
        bytes=size,
        priority=asked.priority,
        sequence=asked.sequence,
    )


class _Header(NamedTuple):
    """What requests with the same header share."""

    model: str
    version: str
    outputs: tuple[Requested, ...]
    inputs: tuple[Input, ...]
    heads: Mapping[str, Head]


class _Headers:
    """The headers seen lately, by their bytes. Full, it starts anew: few clients make many headers."""

    def __init__(self) -> None:
        self._by_bytes: dict[bytes, _Header] = {}
        self._bytes = 0
        self._writing = threading.Lock()
        self.get = self._by_bytes.get

    def put(self, header: bytes, shared: _Header) -> None:
        """Keep one, unless it is larger than all may be together."""
        if len(header) > HEADER_BYTES_MAX:
            return
        with self._writing:
            full = len(self._by_bytes) >= HEADERS_MAX
            if full or self._bytes + len(header) > HEADER_BYTES_MAX:
                self._by_bytes.clear()
                self._bytes = 0
            self._by_bytes[header] = shared
            self._bytes += len(header)


_KEPT = _Headers()


def _whole(
    message: bytes, peer: str, new_id: Callable[[], str], regions: Regions | None
) -> Request:
    """A request by protobuf alone."""
    if len(message) > 2 * FIELDS_MAX and crowded(message):  # a field has two bytes at least
        raise invalid(f"the request has more than {FIELDS_MAX} fields")
    parsed = _parsed(message)
    call = call_of(parsed, parsed.id, len(message), peer=peer, new_id=new_id)
    raws = [(raw, 0, len(raw)) for raw in parsed.raw_input_contents]
    return Request(call, None, raws, None, message=parsed, regions=regions)


def _parsed(message: bytes) -> Any:
    try:
        return oip.ModelInferRequest.FromString(message)
    except DecodeError as error:
        raise invalid("the message is no ModelInferRequest") from error


def _header(request: Any, call: Call) -> _Header | None:
    """What requests with this header share, None when each must be looked at."""
    plain = not request.parameters and not any(output.parameters for output in request.outputs)
    if not plain or any(item.parameters or item.HasField("contents") for item in request.inputs):
        return None
    try:
        inputs = inputs_of(request)
    except RequestError:
        return None  # and `heads` says why
    heads = {item.name: item.head for item in inputs}
    return _Header(call.model, call.version, call.outputs, inputs, heads)
