"""Arrays as tensors of the Open Inference Protocol, and back. Pure.

Knows: which numpy dtype travels as which datatype, and raw contents: row-major, little-endian, each
element of BYTES behind its length as uint32 (Triton's binary tensor data extension). Rules: an array is
viewed, not copied, wherever its bytes are those of the wire; what contradicts itself is refused. Leaves
to others: the messages around the tensors (`runtime.client.messages`).
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from appliance.errors import ApplianceError, RequestError
from appliance.tensors import Array, DataType, datatype_of

BF16 = "BF16"  # numpy has no dtype for it
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class BFloat16:
    """An input that is to travel as BF16: `values` is any float array, sent as FP32 rounded to even.

    An array of ml_dtypes' bfloat16 needs no such wrapping. BF16 outputs come back as FP32, exactly.
    """

    values: Array


class Raw(NamedTuple):
    """One tensor as it travels; `data` is contiguous bytes."""

    datatype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


def raw_from_array(name: str, value: Array | BFloat16) -> Raw:
    """The raw form of input `name`; texts are an array of objects (bytes or str), or of dtype U or S.

    Raises RequestError on a dtype or an object that the protocol has no datatype for.
    """
    if isinstance(value, BFloat16):
        return _raw(BF16, _bf16_from_float(value.values))
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":
        return _raw(BF16, array.view(np.uint16))
    if array.dtype.kind in "OSU":
        return Raw(DataType.BYTES, array.shape, _raw_texts(name, array))
    datatype = datatype_of(array.dtype.newbyteorder("="))
    if datatype is None:
        raise RequestError(
            f"input '{name}' is an array of {array.dtype}, which the protocol has no datatype for",
            remedy="send booleans, integers, floats of 16 to 64 bits, or texts",
        )
    return _raw(datatype, array)


def array_from_raw(name: str, datatype: str, shape: Sequence[int], data: bytes) -> Array:
    """The array that `data` holds, in wire shape: a read-only view, or objects of `bytes` for BYTES.

    BF16 becomes FP32. Raises ApplianceError when the output contradicts itself.
    """
    try:
        if datatype == DataType.BYTES:
            return _objects(_texts(data), shape)
        bits = np.frombuffer(data, _dtype(datatype).newbyteorder("<")).reshape(shape)
        return _float_from_bf16(bits) if datatype == BF16 else bits
    except ValueError as error:  # a name, a length or a shape
        raise _garbled(name, datatype, shape, str(error)) from error


def array_from_values(
    name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]
) -> Array:
    """The array of an output whose server sent typed contents; as `array_from_raw`."""
    try:
        if datatype == DataType.BYTES:
            return _objects(list(values), shape)
        return np.array(values, _dtype(datatype)).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise _garbled(name, datatype, shape, str(error)) from error


def _dtype(datatype: str) -> np.dtype[Any]:
    return np.dtype(np.uint16) if datatype == BF16 else DataType(datatype).numpy


def _raw(datatype: str, array: Array) -> Raw:
    ordered = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    return Raw(datatype, array.shape, ordered.reshape(-1).view(np.uint8).data)


def _bf16_from_float(values: Array) -> Array:
    """Upper halves of FP32, rounded to nearest, ties to even; NaN stays NaN."""
    single = np.ascontiguousarray(values, np.float32).reshape(np.shape(values))
    bits = single.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(single), (bits >> 16) | 0x40, rounded).astype(np.uint16)


def _float_from_bf16(bits: Array) -> Array:
    single: Array = (bits.astype(np.uint32) << 16).view(np.float32)
    return single


def _raw_texts(name: str, array: Array) -> bytes:
    pieces: list[bytes] = []
    for item in array.ravel().tolist():
        if not isinstance(item, bytes | str):
            raise RequestError(
                f"input '{name}' holds a {type(item).__name__} among its objects",
                remedy="send bytes or str, or an array of numbers",
            )
        data = item.encode() if isinstance(item, str) else item
        pieces += (_LENGTH.pack(len(data)), data)
    return b"".join(pieces)


def _texts(data: bytes) -> list[bytes]:
    items: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + _LENGTH.size
        if start > len(data):
            raise ValueError("a text's length is cut short")
        at = start + _LENGTH.unpack_from(data, start - _LENGTH.size)[0]
        if at > len(data):
            raise ValueError("a text is cut short")
        items.append(data[start:at])
    return items


def _objects(items: list[bytes], shape: Sequence[int]) -> Array:
    if len(items) != math.prod(shape):
        raise ValueError(f"{len(items)} texts")
    array = np.empty(len(items), np.object_)
    array[:] = items
    return array.reshape(shape)


def _garbled(name: str, datatype: str, shape: Sequence[int], why: str) -> ApplianceError:
    return ApplianceError(
        f"output '{name}' is no {datatype} of shape {[*shape]}: {why}",
        remedy="tell whoever runs the server: its reply contradicts itself",
    )
