"""Input tensors: from the wire's bytes, typed contents or shared memory to arrays.

Knows: the field rules of inputs and the texts of Triton, which clients match on. Rules: what a head claims
costs nothing until its data is there; raw contents are viewed where they lie, at whatever offset, and
never copied. Shared memory comes as a copy, made where it is read: what is recorded is what was answered,
whatever the client writes meanwhile. Leaves to others: whether the tensors fit a model (`runtime.dataplane`).
"""

import math
import struct
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from appliance.errors import RequestError
from appliance.tensors import Array, DataType
from runtime.codec.call import DIMENSIONS_MAX, Head, Placement, Regions, invalid
from runtime.codec.parameters import placement
from runtime.codec.walking import Raw

_LENGTH = struct.Struct("<I")
_VARIES = -1
_CONTENTS = {
    DataType.BOOL: "bool_contents",
    DataType.INT8: "int_contents",
    DataType.INT16: "int_contents",
    DataType.INT32: "int_contents",
    DataType.INT64: "int64_contents",
    DataType.UINT8: "uint_contents",
    DataType.UINT16: "uint_contents",
    DataType.UINT32: "uint_contents",
    DataType.UINT64: "uint64_contents",
    DataType.FP32: "fp32_contents",
    DataType.FP64: "fp64_contents",
    DataType.BYTES: "bytes_contents",
}
# What Triton tells of a field that does not belong to the datatype.
_TOLD = {field: datatype for datatype, field in reversed(_CONTENTS.items())} | {
    "int_contents": DataType.INT32,
    "uint_contents": DataType.UINT32,
}


class Input(NamedTuple):
    """One input as a request describes it; `bytes` is the size of its raw form, -1 where that varies.

    `contents` are its typed contents, None without; `placement` is where it is in shared memory.
    """

    name: str
    head: Head
    dtype: np.dtype[Any]
    bytes: int
    contents: Any = None
    placement: Placement | None = None


def inputs_of(request: Any) -> tuple[Input, ...]:
    """The inputs of a ModelInferRequest in the order sent; RequestError."""
    inputs: dict[str, Input] = {}
    for tensor in request.inputs:
        name = tensor.name
        if name in inputs:
            raise invalid(f"input '{name}' already exists in request")
        head = _head(tensor, request.model_name)
        typed = tensor.contents if tensor.HasField("contents") else None
        placed = placement(tensor) if tensor.parameters else None
        if placed and typed is not None:
            raise invalid(
                "unexpected 'content' provided when using shared memory for input tensor "
                f"'{name}' for model '{request.model_name}'"
            )
        dtype = head.datatype.numpy
        strings = head.datatype is DataType.BYTES
        size = _VARIES if strings else math.prod(head.shape) * dtype.itemsize
        inputs[name] = Input(name, head, dtype, size, typed, placed)
    return tuple(inputs.values())


def arrays_of(
    inputs: Iterable[Input], raws: list[Raw], *, model: str, regions: Regions | None
) -> Mapping[str, Array]:
    """The data of `inputs` by name, each of its head's shape; RequestError, or what `regions` raises.

    Raw entries belong to the inputs outside shared memory, in order; surplus ones are ignored, as by Triton.
    """
    arrays = {}
    left = iter(raws)
    for item in inputs:
        name, head, dtype, size, typed, placed = item
        if placed is not None:
            raw: Raw | None = _shared(item, regions, model)
        elif typed is None:
            raw = next(left, None)
        elif raws:
            raise invalid(
                "contents field must not be specified when using raw_input_contents "
                f"for '{name}' for model '{model}'"
            )
        else:
            arrays[name] = _shaped(_from_contents(item, model), item, model)
            continue
        if raw is None:
            if raws or 0 not in head.shape:
                raise invalid(
                    f"unable to find data for input tensor '{name}' for model '{model}' in request."
                )
            raw = (b"", 0, 0)
        buffer, start, stop = raw
        if stop - start != size:  # strings, or not what the head claims
            arrays[name] = _shaped(_strings(item, raw, model), item, model)
            continue
        try:
            arrays[name] = np.ndarray(head.shape, dtype, buffer, start)
        except ValueError as error:
            raise _impossible(item, model) from error
    return arrays


def _head(tensor: Any, model: str) -> Head:
    if len(tensor.shape) > DIMENSIONS_MAX or any(length < 0 for length in tensor.shape):
        raise invalid(
            f"input '{tensor.name}' for model '{model}' has a negative shape "
            f"or more than {DIMENSIONS_MAX} dimensions"
        )
    try:
        return Head(DataType(tensor.datatype), tuple(tensor.shape))
    except ValueError as error:
        raise invalid(
            f"inference input '{tensor.name}' for model '{model}' "
            f"has unknown data-type '{tensor.datatype}'"
        ) from error


def _shared(item: Input, regions: Regions | None, model: str) -> Raw:
    assert item.placement is not None
    assert regions is not None, "refused with the heads"
    _check_size(item, item.placement.byte_size, model)
    data = regions.find(*item.placement).read()
    return data, 0, len(data)


def _check_size(item: Input, size: int, model: str) -> None:
    if item.bytes not in (size, _VARIES):
        raise invalid(
            f"input byte size mismatch for input '{item.name}' for model '{model}'. "
            f"Expected {item.bytes}, got {size}"
        )


def _strings(item: Input, raw: Raw, model: str) -> Array:
    """Parse BYTES: each element is a little-endian uint32 length and that many bytes."""
    buffer, at, stop = raw
    _check_size(item, stop - at, model)
    count = math.prod(item.head.shape)
    items: list[bytes] = []
    while at < stop and len(items) <= count:
        if at + _LENGTH.size > stop:
            raise invalid(
                "incomplete string length indicator for inference input "
                f"'{item.name}' for model '{model}'"
            )
        (length,) = _LENGTH.unpack_from(buffer, at)
        at += _LENGTH.size
        if at + length > stop:
            raise invalid(
                f"incomplete string data for inference input '{item.name}' for model '{model}'"
            )
        items.append(bytes(buffer[at : at + length]))
        at += length
    return _objects(items, item, model)


def _from_contents(item: Input, model: str) -> Array:
    datatype = item.head.datatype
    field = _CONTENTS.get(datatype)
    filled = [descriptor.name for descriptor, _ in item.contents.ListFields()]
    unexpected = (
        f"unexpected explicit tensor data for input tensor '{item.name}' for model '{model}'"
    )
    if filled and filled[0] != field:
        raise invalid(f"{unexpected} of type '{datatype}', expected datatype '{_TOLD[filled[0]]}'")
    if len(filled) > 1:
        raise invalid(f"{unexpected}, binary data was already supplied.")
    values = getattr(item.contents, field) if field else ()
    if datatype is DataType.BYTES:
        return _objects(values, item, model)
    _check_size(item, len(values) * item.dtype.itemsize, model)
    try:
        return np.array(values, dtype=item.dtype)
    except OverflowError as error:
        raise invalid(
            f"a value of input '{item.name}' for model '{model}' does not fit {datatype}"
        ) from error


def _objects(items: Any, item: Input, model: str) -> Array:
    count = math.prod(item.head.shape)
    if len(items) != count:
        raise invalid(
            f"unexpected number of string elements {len(items)} for inference input '{item.name}' "
            f"for model '{model}', expecting {count}"
        )
    array = np.empty(count, dtype=np.object_)
    array[:] = items
    return array


def _shaped(flat: Array, item: Input, model: str) -> Array:
    try:
        return flat.reshape(item.head.shape)
    except ValueError as error:  # a zero beside lengths that are too large for any array
        raise _impossible(item, model) from error


def _impossible(item: Input, model: str) -> RequestError:
    return invalid(f"input '{item.name}' for model '{model}' has an impossible shape")
