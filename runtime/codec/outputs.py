"""Outputs: which are wanted, and in which form they leave.

Knows: the raw form of a tensor, the classification extension, shared memory for outputs. Rules: outputs
leave in the order asked for, raw; a large one is not copied but viewed, so nobody may write to an answer's
arrays. Leaves to others: the message around them (`runtime.codec.encoding`).
"""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np

from appliance.audit.payload import Tensor
from appliance.tensors import Array, DataType, Interface, TensorSpec
from runtime.codec.call import CLASSES_MAX, Call, Piece, Requested, Wanted, invalid

VIEWED_BYTES_MIN = 1 << 14  # a smaller copy costs less than holding on to the whole batch
_LENGTH = struct.Struct("<I")
_BYTES = DataType.BYTES  # an enum's member is slow to look up
_UNCLASSED = (DataType.BOOL, DataType.BYTES)


def wanted_outputs(call: Call, interface: Interface) -> tuple[Wanted, ...]:
    """The outputs asked for, in that order; all when none were named.

    Raises RequestError on a name that the model does not have or twice the same, and on classes of an output
    that has none or too many.
    """
    if not call.outputs:
        return tuple(Wanted(spec) for spec in interface.outputs)
    by_name = {spec.name: spec for spec in interface.outputs}
    wanted: dict[str, Wanted] = {}
    for asked in call.outputs:
        if asked.name in wanted:
            raise invalid(f"output '{asked.name}' already exists in request")
        spec = by_name.get(asked.name)
        if spec is None:
            raise invalid(f"unexpected inference output '{asked.name}' for model '{call.model}'")
        if asked.classes:
            _check_classes(asked, spec)
        wanted[asked.name] = Wanted(spec, asked.classes, asked.placement)
    return tuple(wanted.values())


def raw_tensors(
    wanted: Iterable[Wanted], outputs: Mapping[str, Array], labels: Sequence[str] = ()
) -> tuple[Tensor, ...]:
    """The `wanted` among `outputs`, in raw form or as classes, in that order.

    `labels` name a row's values where there are as many. Data of VIEWED_BYTES_MIN and more is a view of
    the array.
    """
    return tuple(
        _classes(item, outputs[item.spec.name], labels)
        if item.classes
        else _raw(item.spec, outputs[item.spec.name])
        for item in wanted
    )


def place(
    wanted: Iterable[Wanted], tensors: tuple[Tensor, ...], places: Mapping[str, Piece]
) -> tuple[Tensor, ...]:
    """Write those that go to shared memory there and return what is left for the message.

    `tensors` are those that `raw_tensors` made of `wanted`, `places` those of the request; a placed one
    stays without its data. Raises RequestError when one is too large for its place, before any is written,
    and what `Piece.write` raises.
    """
    if not places:
        return tensors
    placed = [item.placement for item in wanted]
    for tensor, into in zip(tensors, placed, strict=True):
        if into and len(tensor.data) > into.byte_size:
            raise invalid(
                f"shared memory size specified with the request for output '{tensor.name}' "
                f"({into.byte_size} bytes) should be at least {len(tensor.data)} bytes "
                "to hold the results"
            )
    left = []
    for tensor, into in zip(tensors, placed, strict=True):
        if into:
            places[tensor.name].write(tensor.data)
        left.append(msgspec.structs.replace(tensor, data=b"") if into else tensor)
    return tuple(left)


def raw_bytes(array: Array, datatype: DataType) -> bytes:
    """An array in the protocol's raw form: row-major, little-endian; BYTES are length-prefixed."""
    if datatype is not _BYTES:
        return array.astype(datatype.numpy, copy=False).tobytes()
    return b"".join(_LENGTH.pack(len(item)) + item for item in array.ravel())


def raw_view(array: Array, datatype: DataType) -> bytes | memoryview:
    """As `raw_bytes`, but a large array that is in that form already is viewed, not copied."""
    if (
        array.nbytes >= VIEWED_BYTES_MIN
        and array.dtype == datatype.numpy
        and datatype is not DataType.BYTES
        and array.flags.c_contiguous
    ):
        return array.reshape(-1).view(np.uint8).data
    return raw_bytes(array, datatype)


def _raw(spec: TensorSpec, array: Array) -> Tensor:
    data = cast("bytes", raw_view(array, spec.datatype))
    return Tensor(name=spec.name, datatype=spec.datatype, shape=array.shape, data=data)


def _check_classes(asked: Requested, spec: TensorSpec) -> None:
    if spec.datatype in _UNCLASSED:
        raise invalid(
            f"class result not available for output due to unsupported type '{spec.datatype}'"
        )
    values = math.prod(spec.shape) if -1 not in spec.shape else asked.classes
    if min(asked.classes, values) > CLASSES_MAX:
        raise invalid(
            f"classification of output '{asked.name}' asks for {asked.classes} classes, "
            f"more than {CLASSES_MAX}"
        )


def _classes(item: Wanted, array: Array, labels: Sequence[str]) -> Tensor:
    """The `item.classes` largest values of each row as "value:index" or "value:index:label".

    Rows are along the batch axis if there is one. Largest first; equal values are ordered by index and NaN
    comes last. As Triton writes them: integers as such, floats with six decimals.
    """
    leading = array.shape[: array.ndim - len(item.spec.shape)]
    rows = array.reshape(*leading, -1) if leading else array.reshape(1, -1)
    count = min(item.classes, rows.shape[-1])
    named = labels if len(labels) == rows.shape[-1] else ()
    texts = np.empty((len(rows), count), np.object_)
    for row, values in enumerate(rows):
        best = _largest(values)[:count].tolist()
        texts[row] = [_told(values[index].item(), index, named) for index in best]
    return Tensor(
        name=item.spec.name,
        datatype=DataType.BYTES,
        shape=(*leading, count),
        data=raw_bytes(texts, DataType.BYTES),
    )


def _largest(values: Array) -> Array:
    """Indices of `values`, the largest first."""
    order = len(values) - 1 - np.argsort(values[::-1], kind="stable")[::-1]
    if values.dtype.kind != "f":
        return order
    unknown = np.isnan(values[order])
    return np.concatenate([order[~unknown], order[unknown]])


def _told(value: Any, index: int, labels: Sequence[str]) -> bytes:
    number = f"{value:f}" if isinstance(value, float) else str(value)
    return (f"{number}:{index}:{labels[index]}" if labels else f"{number}:{index}").encode()
