"""From an answer to a message on the wire.

Knows: ModelInferResponse and ModelStreamInferResponse as bytes (field numbers of Triton's
grpc_service.proto). Rules: byte for byte what protobuf would write, put together from pieces that replies
share; outputs are always raw, one entry each, empty when they went to shared memory. Leaves to others:
which outputs (`runtime.codec.outputs`).
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from appliance.audit.payload import Tensor
from runtime.codec.call import Call
from runtime.protocol import RECORD_KEY, REQUEST_ID_KEY

_KEPT_MAX = 4096
_ONE, _TWO, _THREE, _FOUR, _FIVE, _SIX = (field << 3 | 2 for field in range(1, 7))


def encode(call: Call, *, version: int, outputs: Iterable[Tensor]) -> bytes:
    """The ModelInferResponse that carries `outputs`."""
    return b"".join(_pieces(call, version, outputs, b""))


def encode_stream(
    call: Call,
    *,
    version: int,
    outputs: Iterable[Tensor],
    record: int | None = None,
) -> bytes:
    """The ModelStreamInferResponse that carries `outputs` and says that no more come for this call.

    A stream has no trailing metadata of one request: whoever sent no id finds it as the parameter
    REQUEST_ID_KEY, and whoever asked where the `record` stands as RECORD_KEY.
    """
    placed = b"" if record is None else _text(RECORD_KEY, str(record))
    pieces = _pieces(call, version, outputs, _FINAL + _id_given(call) + placed)
    return b"".join([_start(_TWO, sum(map(len, pieces))), *pieces])


def encode_stream_error(
    message: str, call: Call | None = None, parameters: Mapping[str, str] | None = None
) -> bytes:
    """The ModelStreamInferResponse of a refused request, with its id and `parameters` when there is a `call`."""
    if call is None:
        return _field(_ONE, message.encode())
    told = b"".join(_text(key, value) for key, value in (parameters or {}).items())
    reply = _field(_THREE, call.sent_id.encode()) + told + _id_given(call)
    return _field(_ONE, message.encode()) + _field(_TWO, reply)


def _pieces(call: Call, version: int, outputs: Iterable[Tensor], parameters: bytes) -> list[bytes]:
    """The fields of a ModelInferResponse in order: name and version, id, parameters, outputs, data."""
    pieces = [_named(call.model, version)]
    if call.sent_id:
        pieces.append(_field(_THREE, call.sent_id.encode()))
    pieces.append(parameters)
    data: list[bytes] = []
    for tensor in outputs:
        pieces.append(_described(tensor.name, tensor.datatype, tensor.shape))
        data += (_start(_SIX, len(tensor.data)), tensor.data)
    return pieces + data


@lru_cache(_KEPT_MAX)
def _named(model: str, version: int) -> bytes:
    return _field(_ONE, model.encode()) + _field(_TWO, str(version).encode())


@lru_cache(_KEPT_MAX)
def _described(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    lengths = b"".join(_varint(length) for length in shape)
    tensor = _field(_ONE, name.encode()) + _field(_TWO, datatype.encode())
    return _field(_FIVE, tensor + _field(_THREE, lengths))


@lru_cache(_KEPT_MAX)
def _start(tag: int, length: int) -> bytes:
    """What stands before `length` bytes of a field."""
    return bytes([tag]) + _varint(length)


def _field(tag: int, data: bytes) -> bytes:
    """A field with its data; nothing when that is empty, as proto3 leaves out what is the default."""
    return _start(tag, len(data)) + data if data else b""


def _varint(value: int) -> bytes:
    """`value`, not negative, in groups of seven bits, the lowest first."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _id_given(call: Call) -> bytes:
    """The parameter that tells the id that a request got here; nothing when it came with one."""
    return b"" if call.sent_id else _text(REQUEST_ID_KEY, call.request_id)


def _text(key: str, value: str) -> bytes:
    """A parameter that is a text."""
    choice = bytes([_THREE]) + _varint(len(value.encode())) + value.encode()
    return _field(_FOUR, _field(_ONE, key.encode()) + _field(_TWO, choice))


# The parameter triton_final_response, a bool that is true.
_FINAL = _field(_FOUR, _field(_ONE, b"triton_final_response") + _field(_TWO, bytes([1 << 3, True])))
