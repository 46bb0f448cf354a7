"""Wire <-> arrays, for the Open Inference Protocol.

Knows: the field rules of ModelInferRequest and ModelInferResponse. Rules: a request is decoded by what it
says of itself and refused when it contradicts itself; the texts are those of Triton, which clients match
on; replies always carry raw contents. Leaves to others: whether the tensors fit a model
(`runtime.dataplane`).
"""

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from tritonclient.grpc import service_pb2 as oip

from appliance.audit.payload import Tensor
from appliance.errors import RequestError
from appliance.tensors import Array, DataType, Interface, TensorSpec

REQUEST_ID_CHARACTERS_MAX = 256
DIMENSIONS_MAX = 32
_LENGTH = struct.Struct("<I")
_REMEDY = "see the protocol's description of this field"
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
# Parameters whose meaning is not served here: answering without them would be a wrong answer.
_REFUSED = {
    "shared_memory_region": "Client shared memory is disabled",
    "classification": "the classification extension is not served; use the model's own outputs",
    "sequence_id": "sequences are not served; leave the sequence parameters out",
}


class Head(NamedTuple):
    """What a request says of one input: its datatype and its shape with the batch axis."""

    datatype: DataType
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Who asks what: everything of a request but its tensors.

    `request_id` names it in the audit log: the client's own id, or one made here when it sent none;
    `sent_id` is what the client sent and gets back. `timeout_us` 0 means none; `bytes` is the size of
    the whole request.
    """

    model: str
    version: str
    request_id: str
    sent_id: str
    peer: str
    outputs: tuple[str, ...]
    timeout_us: int
    bytes: int


def call_from(request: Any, *, peer: str, new_id: Callable[[], str]) -> Call:
    """Read everything but the tensors of a ModelInferRequest; never fails."""
    timeout = request.parameters.get("timeout")
    return Call(
        model=request.model_name,
        version=request.model_version,
        request_id=request.id or new_id(),
        sent_id=request.id,
        peer=peer,
        outputs=tuple(output.name for output in request.outputs),
        timeout_us=max(_whole(timeout), 0) if timeout is not None else 0,
        bytes=request.ByteSize(),
    )


class WireTensors:
    """The input tensors of a ModelInferRequest, read in two steps.

    `heads` costs nothing whatever the sender claims; `arrays` is for tensors whose heads were found
    to fit the model.
    """

    def __init__(self, request: Any) -> None:
        self._request = request

    def heads(self) -> dict[str, Head]:
        """Datatype and shape of every input, by name, in the order sent; RequestError."""
        if len(self._request.id) > REQUEST_ID_CHARACTERS_MAX:
            raise _refusal(f"the request id is longer than {REQUEST_ID_CHARACTERS_MAX} characters")
        _check_parameters(self._request)
        heads: dict[str, Head] = {}
        for tensor in self._request.inputs:
            if tensor.name in heads:
                raise _refusal(f"input '{tensor.name}' already exists in request")
            heads[tensor.name] = _head(tensor, self._request.model_name)
        return heads

    def arrays(self, heads: Mapping[str, Head]) -> dict[str, Array]:
        """The inputs that `heads` found, in wire shape; raw ones are read-only views. RequestError."""
        model = self._request.model_name
        use_raw = len(self._request.raw_input_contents) > 0
        raws = iter(self._request.raw_input_contents) if use_raw else None
        return {
            tensor.name: _array(tensor, heads[tensor.name], raws, model)
            for tensor in self._request.inputs
        }


def encode(call: Call, *, version: int, outputs: Iterable[Tensor]) -> Any:
    """The ModelInferResponse that carries `outputs`."""
    reply = oip.ModelInferResponse(
        model_name=call.model, model_version=str(version), id=call.sent_id
    )
    for tensor in outputs:
        reply.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        reply.raw_output_contents.append(tensor.data)
    return reply


def chosen_outputs(call: Call, interface: Interface) -> list[TensorSpec]:
    """Specs of the outputs asked for, in that order; all when none were named.

    Raises RequestError on a name that the model does not have, or twice the same.
    """
    if not call.outputs:
        return list(interface.outputs)
    if len(set(call.outputs)) != len(call.outputs):
        raise _refusal(f"an output already exists in request for model '{call.model}'")
    by_name = {spec.name: spec for spec in interface.outputs}
    for name in call.outputs:
        if name not in by_name:
            raise _refusal(f"unexpected inference output '{name}' for model '{call.model}'")
    return [by_name[name] for name in call.outputs]


def raw_tensors(specs: Iterable[TensorSpec], outputs: Mapping[str, Array]) -> tuple[Tensor, ...]:
    """The outputs that `specs` name, in raw form and in that order."""
    return tuple(
        Tensor(
            name=spec.name,
            datatype=spec.datatype,
            shape=outputs[spec.name].shape,
            data=raw_bytes(outputs[spec.name], spec.datatype),
        )
        for spec in specs
    )


def raw_bytes(array: Array, datatype: DataType) -> bytes:
    """An array in the protocol's raw form: row-major, little-endian; BYTES are length-prefixed."""
    if datatype is not DataType.BYTES:
        return array.astype(datatype.numpy, copy=False).tobytes()
    return b"".join(_LENGTH.pack(len(item)) + item for item in array.ravel())


def _check_parameters(request: Any) -> None:
    for message in (request, *request.inputs, *request.outputs):
        for name, why in _REFUSED.items():
            if name in message.parameters:
                raise _refusal(f"{why} (parameter '{name}')")


def _head(tensor: Any, model: str) -> Head:
    if len(tensor.shape) > DIMENSIONS_MAX or any(length < 0 for length in tensor.shape):
        raise _refusal(
            f"input '{tensor.name}' for model '{model}' has a negative shape "
            f"or more than {DIMENSIONS_MAX} dimensions"
        )
    return Head(_datatype(tensor, model), tuple(tensor.shape))


def _array(tensor: Any, head: Head, raws: Iterator[bytes] | None, model: str) -> Array:
    if raws is None:
        flat = _from_contents(tensor, head, model)
    else:
        flat = _from_raw(_raw_of(tensor, raws, model), tensor.name, head, model)
    try:
        return flat.reshape(head.shape)
    except ValueError as error:  # a zero beside lengths that are too large for any array
        raise _refusal(
            f"input '{tensor.name}' for model '{model}' has an impossible shape"
        ) from error


def _raw_of(tensor: Any, raws: Iterator[bytes], model: str) -> bytes:
    if tensor.HasField("contents"):
        raise _refusal(
            "contents field must not be specified when using raw_input_contents "
            f"for '{tensor.name}' for model '{model}'"
        )
    raw = next(raws, None)
    if raw is None:
        raise _refusal(
            f"unable to find data for input tensor '{tensor.name}' for model '{model}' in request."
        )
    return raw


def _datatype(tensor: Any, model: str) -> DataType:
    try:
        return DataType(tensor.datatype)
    except ValueError as error:
        raise _refusal(
            f"inference input '{tensor.name}' for model '{model}' "
            f"has unknown data-type '{tensor.datatype}'"
        ) from error


def _from_raw(raw: bytes, name: str, head: Head, model: str) -> Array:
    count = math.prod(head.shape)
    if head.datatype is DataType.BYTES:
        return _strings(raw, name, count, model)
    expected = count * head.datatype.numpy.itemsize
    if len(raw) != expected:
        raise _refusal(
            f"input byte size mismatch for input '{name}' for model '{model}'. "
            f"Expected {expected}, got {len(raw)}"
        )
    return np.frombuffer(raw, head.datatype.numpy)


def _strings(raw: bytes, name: str, count: int, model: str) -> Array:
    """Parse BYTES: each element is a little-endian uint32 length and that many bytes."""
    items: list[bytes] = []
    at = 0
    while at < len(raw) and len(items) <= count:
        if at + _LENGTH.size > len(raw):
            raise _refusal(
                f"incomplete string length indicator for inference input '{name}' for model '{model}'"
            )
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if at + length > len(raw):
            raise _refusal(
                f"incomplete string data for inference input '{name}' for model '{model}'"
            )
        items.append(raw[at : at + length])
        at += length
    return _object_array(items, name, count, model)


def _from_contents(tensor: Any, head: Head, model: str) -> Array:
    field = _CONTENTS.get(head.datatype)
    filled = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
    count = math.prod(head.shape)
    if field is None or (filled and filled != [field]) or (count and not filled):
        raise _refusal(
            f"unexpected explicit tensor data for input tensor '{tensor.name}' for model "
            f"'{model}' of type '{head.datatype}'"
        )
    values = getattr(tensor.contents, field)
    if head.datatype is DataType.BYTES:
        return _object_array(list(values), tensor.name, count, model)
    if len(values) != count:
        raise _refusal(
            f"unexpected number of explicit elements for input '{tensor.name}' for model "
            f"'{model}'. Expected {count}, got {len(values)}"
        )
    try:
        return np.array(values, dtype=head.datatype.numpy)
    except OverflowError as error:
        raise _refusal(
            f"a value of input '{tensor.name}' for model '{model}' does not fit {head.datatype}"
        ) from error


def _object_array(items: list[bytes], name: str, count: int, model: str) -> Array:
    if len(items) != count:
        raise _refusal(
            f"unexpected number of string elements {len(items)} for inference input '{name}' "
            f"for model '{model}', expecting {count}"
        )
    array = np.empty(count, dtype=np.object_)
    array[:] = items
    return array


def _whole(parameter: Any) -> int:
    """The value of an InferParameter that clients send as int64 or uint64; 0 for another kind."""
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind in ("int64_param", "uint64_param") else 0


def _refusal(message: str) -> RequestError:
    return RequestError(message, remedy=_REMEDY)
