"""The messages of the inference protocol as the clients read and write them. Pure.

Knows: the calls that the clients make and their fields. Rules: only fields of the Open Inference
Protocol are used, so that any server of it answers; inputs travel raw, outputs are read raw or typed,
as servers differ. Leaves to others: what the bytes of a tensor mean (`runtime.client.tensors`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import service_pb2 as oip

from appliance.errors import ApplianceError, RequestLimit
from appliance.tensors import Array
from runtime.client.connection import MESSAGE_BYTES_MAX
from runtime.client.tensors import (
    BFloat16,
    array_from_raw,
    array_from_values,
    raw_from_array,
)
from runtime.protocol import RECEIPT_KEY, RECEIPT_WANTED, REQUEST_ID_KEY

SERVICE = "/inference.GRPCInferenceService/"
# What answers each call.
REPLIES: dict[str, Any] = {
    "ModelInfer": oip.ModelInferResponse,
    "ModelMetadata": oip.ModelMetadataResponse,
    "ModelReady": oip.ModelReadyResponse,
    "ServerLive": oip.ServerLiveResponse,
    "ServerReady": oip.ServerReadyResponse,
}
STREAM_REPLY: Any = oip.ModelStreamInferResponse
# Trailing metadata of a Holdfast; a later release may send more of it than this one knows.
RECEIPT_PREFIX = "holdfast-"
# Metadata that asks a Holdfast where the record of the answer stands.
ASK_RECEIPT = ((RECEIPT_KEY, RECEIPT_WANTED),)
_RAW_INPUT_TAG = b"\x3a"  # field 7, length-delimited

Inputs = Mapping[str, Array | BFloat16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer: `outputs` by name, `model` and `version` as the server tells them.

    Numbers are read-only views of the reply, BYTES arrays of objects (`bytes`), BF16 comes as FP32.
    `request_id` is the id the request was recorded under, empty where the server tells none. `receipt`
    is what a Holdfast says of the record in its trailing metadata, by key; empty from other servers.
    """

    outputs: dict[str, Array]
    model: str
    version: str
    request_id: str
    receipt: dict[str, str | bytes]


@dataclass(frozen=True, slots=True)
class Sequenced:
    """The sequence that a request belongs to: a number or text of the client's; its first request and its last."""

    id: int | str
    start: bool = False
    end: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDescription:
    """One input or output: the protocol's datatype and the shape with the batch axis, -1 = any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """A model as its server describes it."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]


def infer_request(
    model: str,
    inputs: Inputs,
    *,
    version: str = "",
    outputs: Sequence[str] = (),
    request_id: str = "",
    priority: int = 0,
    sequence: Sequenced | None = None,
) -> bytes:
    """A ModelInferRequest in wire form, every tensor copied once.

    Raises RequestError on what cannot travel, RequestLimit over 2 GiB.
    """
    request = oip.ModelInferRequest(model_name=model, model_version=version, id=request_id)
    if priority:
        request.parameters["priority"].uint64_param = priority
    if sequence is not None:
        _add_sequence(request.parameters, sequence)
    raws = [(name, raw_from_array(name, value)) for name, value in inputs.items()]
    for name, raw in raws:
        request.inputs.add(name=name, datatype=raw.datatype, shape=raw.shape)
    for name in outputs:
        request.outputs.add(name=name)
    # The stub's own field would take a copy of each tensor and then serialise a second one.
    pieces: list[bytes | memoryview] = [request.SerializeToString()]
    for _, raw in raws:
        pieces += (_RAW_INPUT_TAG, _varint(len(raw.data)), raw.data)
    if sum(map(len, pieces)) > MESSAGE_BYTES_MAX:
        raise RequestLimit(
            f"the request is larger than {MESSAGE_BYTES_MAX} bytes", remedy="split the request"
        )
    return b"".join(pieces)


def _add_sequence(parameters: Any, sequence: Sequenced) -> None:
    if isinstance(sequence.id, str):
        parameters["sequence_id"].string_param = sequence.id
    else:
        parameters["sequence_id"].int64_param = sequence.id
    parameters["sequence_start"].bool_param = sequence.start
    parameters["sequence_end"].bool_param = sequence.end


def readiness(model: str, version: str) -> tuple[str, bytes]:
    """The call that asks whether a model, or with "" the server, can answer, and its request."""
    if not model:
        return "ServerReady", b""
    return "ModelReady", oip.ModelReadyRequest(name=model, version=version).SerializeToString()


def metadata_request(model: str, version: str) -> bytes:
    """A ModelMetadataRequest in wire form."""
    request: bytes = oip.ModelMetadataRequest(name=model, version=version).SerializeToString()
    return request


def reply_from(message: Any, trailing: Mapping[str, str | bytes]) -> Reply:
    """Read a ModelInferResponse and its call's trailing metadata.

    Raises ApplianceError when the message contradicts itself.
    """
    receipt = {key: trailing[key] for key in trailing if key.startswith(RECEIPT_PREFIX)}
    return Reply(
        outputs=dict(_arrays(message)),
        model=message.model_name,
        version=message.model_version,
        request_id=message.id or str(receipt.get(REQUEST_ID_KEY, "")),
        receipt=receipt,
    )


def description_from(message: Any) -> ModelDescription:
    """Read a ModelMetadataResponse."""
    return ModelDescription(
        name=message.name,
        versions=tuple(message.versions),
        platform=message.platform,
        inputs=_described(message.inputs),
        outputs=_described(message.outputs),
    )


def _arrays(message: Any) -> Iterable[tuple[str, Array]]:
    raws = message.raw_output_contents
    if raws and len(raws) != len(message.outputs):
        raise ApplianceError(
            f"the reply names {len(message.outputs)} outputs and brings {len(raws)}",
            remedy="tell whoever runs the server: its reply contradicts itself",
        )
    for number, output in enumerate(message.outputs):
        head = (output.name, output.datatype, output.shape)
        if raws:
            yield output.name, array_from_raw(*head, raws[number])
        else:
            filled = output.contents.ListFields()
            yield output.name, array_from_values(*head, filled[0][1] if filled else ())


def _described(tensors: Any) -> tuple[TensorDescription, ...]:
    return tuple(
        TensorDescription(name=item.name, datatype=item.datatype, shape=tuple(item.shape))
        for item in tensors
    )


def _varint(number: int) -> bytes:
    """Base 128, least significant first (https://protobuf.dev/programming-guides/encoding/#varints)."""
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)
