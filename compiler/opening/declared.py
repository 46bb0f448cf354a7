"""What a tensor declares against what it holds.

Knows: how many bytes or entries each ONNX datatype takes in each field that may hold it (onnx.proto3,
TensorProto). Rules: dimensions are believed only when the data is there, so that nothing is ever made
room for by a claim. Leaves to others: data in other files, which is folded in before (`external`).
"""

import math

import onnx
from onnx import TensorProto

from appliance.errors import SourceFormat, SourceUnsupported
from compiler.opening.walking import all_bodies, tensors_of

_BITS: dict[int, int] = {
    **dict.fromkeys((TensorProto.UINT2, TensorProto.INT2), 2),
    **dict.fromkeys((TensorProto.UINT4, TensorProto.INT4, TensorProto.FLOAT4E2M1), 4),
    **dict.fromkeys((TensorProto.UINT8, TensorProto.INT8, TensorProto.BOOL), 8),
    **dict.fromkeys((TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FNUZ), 8),
    **dict.fromkeys((TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E5M2FNUZ), 8),
    **dict.fromkeys((TensorProto.FLOAT8E8M0,), 8),
    **dict.fromkeys((TensorProto.UINT16, TensorProto.INT16), 16),
    **dict.fromkeys((TensorProto.FLOAT16, TensorProto.BFLOAT16), 16),
    **dict.fromkeys((TensorProto.UINT32, TensorProto.INT32, TensorProto.FLOAT), 32),
    **dict.fromkeys((TensorProto.UINT64, TensorProto.INT64, TensorProto.DOUBLE), 64),
    **dict.fromkeys((TensorProto.COMPLEX64,), 64),
    **dict.fromkeys((TensorProto.COMPLEX128,), 128),
}
_FIELDS: dict[
    int, str
] = {  # where values are kept that are not in raw_data; every other type is in int32_data
    TensorProto.FLOAT: "float_data",
    TensorProto.COMPLEX64: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.COMPLEX128: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.STRING: "string_data",
}
_NAMES: dict[int, str] = {number: name for name, number in TensorProto.DataType.items()}
_ALL_FIELDS = ("raw_data", "int32_data", *sorted(set(_FIELDS.values())))
_PAIRS = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)  # a real and an imaginary entry a value


def check_declared(model: onnx.ModelProto, depth_max: int) -> None:
    """Check every tensor kept in the model, wherever it is.

    Raises SourceFormat when one holds another amount of data than its dimensions say, SourceUnsupported
    for a datatype that is not known here.
    """
    for body in all_bodies(model, depth_max):
        for tensor in tensors_of(body):
            _check(tensor)


def declared_bytes(tensor: onnx.TensorProto) -> int:
    """How many bytes of raw data the tensor's dimensions and datatype call for.

    Raises SourceFormat for a negative dimension, SourceUnsupported for a datatype without raw form.
    """
    return (_elements(tensor) * _bits(tensor) + 7) // 8


def datatype_name(number: int) -> str:
    """ONNX's name of a datatype, the number itself where it has none."""
    return _NAMES.get(number, str(number))


def _check(tensor: onnx.TensorProto) -> None:
    if tensor.HasField("segment"):
        raise SourceUnsupported(
            f"tensor '{tensor.name}' is kept in segments", remedy="save it as one tensor"
        )
    filled = [field for field in _ALL_FIELDS if len(getattr(tensor, field))]
    elements = _elements(tensor)
    if not elements and not filled:
        return
    if len(filled) != 1:
        raise _misfit(tensor, f"holds data in {len(filled)} fields")
    held = len(getattr(tensor, filled[0]))
    if filled[0] == "raw_data":
        wanted, unit = declared_bytes(tensor), "bytes"
    else:
        wanted, unit = _entries(tensor, elements), "values"
        if filled[0] != _FIELDS.get(tensor.data_type, "int32_data"):
            raise _misfit(tensor, f"holds its data in {filled[0]}")
    if held != wanted:
        raise _misfit(tensor, f"holds {held} {unit} instead of {wanted}")


def _entries(tensor: onnx.TensorProto, elements: int) -> int:
    """How many entries of a typed field hold `elements` values."""
    if tensor.data_type == TensorProto.STRING:
        return elements
    if tensor.data_type in _PAIRS:
        return 2 * elements
    per_entry = max(1, 8 // _bits(tensor))  # narrow values are packed into bytes
    return -(-elements // per_entry)


def _elements(tensor: onnx.TensorProto) -> int:
    if min(tensor.dims, default=0) < 0:
        raise _misfit(tensor, "has a negative dimension")
    return math.prod(tensor.dims)


def _bits(tensor: onnx.TensorProto) -> int:
    bits = _BITS.get(tensor.data_type)
    if bits is None:
        raise SourceUnsupported(
            f"tensor '{tensor.name}' keeps {datatype_name(tensor.data_type)} as raw data",
            remedy="save it with numbers of 8, 16, 32 or 64 bits",
        )
    return bits


def _misfit(tensor: onnx.TensorProto, why: str) -> SourceFormat:
    return SourceFormat(
        f"tensor '{tensor.name}' declares {list(tensor.dims)[:8]} and {why}",
        remedy="export the model again; the file is damaged or was tampered with",
    )
