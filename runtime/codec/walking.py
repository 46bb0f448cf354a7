"""The hand parser: cuts a ModelInferRequest at its top-level fields, and no deeper.

Knows: the wire format of protocol buffers (protobuf.dev/programming-guides/encoding) as far as to find
the id, the raw contents and everything else. Rules: what it gives is exactly what protobuf
would; at anything that a stock encoder does not write it says "not mine". It never raises, and its cost
grows with the number of fields, not with the size of a tensor. Leaves to others: what the fields
mean.
"""

from typing import TypeAlias

# Where a raw entry lies: in these bytes, from, to.
Raw: TypeAlias = tuple[bytes | memoryview, int, int]
# One request: the bytes of all fields but id and raw contents, the id, the raw entries.
Parts: TypeAlias = tuple[bytes, str, list[Raw]]

FIELDS_MAX = 1 << 14  # of one request: each takes far more memory here than on the wire

_ID = 3 << 3 | 2
_RAW = 7 << 3 | 2
# Name, version, parameters, inputs, outputs; one byte of tag and a length each.
_HEADER = frozenset(field << 3 | 2 for field in (1, 2, 4, 5, 6))
_VARINT, _FIXED64, _LENGTH, _START, _END, _FIXED32 = range(6)
_VARINT_BYTES_MAX = 10
_LENGTH_BYTES_MAX = 5  # a message is smaller than 2 GiB
_MORE = 0x80


def walk(message: bytes) -> Parts | None:
    """Cut `message` into its parts; None for "not mine", which says nothing about its validity.

    Taken are: known fields in any order, one id at most, tags and lengths in their shortest form, at
    most FIELDS_MAX fields.
    """
    end = len(message)
    at = kept = 0
    header: list[bytes] = []
    raws: list[Raw] = []
    sent_id: bytes | None = None
    try:
        for _ in range(FIELDS_MAX):
            if at == end:
                break
            tag = message[at]
            stop = start = at + 2
            length = message[at + 1]
            if length < _MORE:
                stop += length
            else:
                start, stop = _long(message, at + 1)
            if tag not in _HEADER:
                header.append(message[kept:at])
                kept = stop
                if tag == _RAW:
                    raws.append((message, start, stop))
                elif tag == _ID and sent_id is None:
                    sent_id = message[start:stop]
                else:
                    return None
            at = stop  # behind the end, the next look finds nothing there
        if at != end:
            return None
        header.append(message[kept:])
        return b"".join(header), sent_id.decode() if sent_id else "", raws
    except (IndexError, UnicodeDecodeError):
        return None


def crowded(message: bytes) -> bool:
    """True when `message` has more than FIELDS_MAX top-level fields, whatever they are.

    A field of two bytes becomes an object of many: this is asked before such a request is parsed. Broken
    messages are False here and fail there.
    """
    at = fields = 0
    end = len(message)
    while at < end:
        fields += 1
        if fields > FIELDS_MAX:
            return True
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _LENGTH:
            length, at = _varint(message, at)
            at += length
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind not in (_START, _END):  # a group's fields are counted as if they stood alone
            return False
    return False


def _long(message: bytes, at: int) -> tuple[int, int]:
    """Where the field with its length of two bytes or more at `at` starts and stops; IndexError if odd."""
    length = shift = 0
    for position in range(at, at + _LENGTH_BYTES_MAX):
        byte = message[position]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < _MORE:
            if not byte:  # an empty last byte: longer than need be
                raise IndexError
            return position + 1, position + 1 + length
    raise IndexError


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The varint at `at` and the position behind it; the end of the message when it is broken."""
    value = 0
    for index, byte in enumerate(message[at : at + _VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << 7 * index
        if byte < _MORE:
            return value, at + index + 1
    return 0, len(message)
