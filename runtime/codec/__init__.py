"""Wire <-> arrays, for the Open Inference Protocol.

Knows: the field rules of ModelInferRequest, ModelInferResponse and ModelStreamInferResponse. Rules: a
request is decoded by what it says of itself and refused when it contradicts itself; the texts are those of
Triton, which clients match on; replies always carry raw contents; no copy of a large tensor is made.
Leaves to others: whether the tensors fit a model (`runtime.dataplane`).
"""

from runtime.codec.call import (
    CLASSES_MAX,
    REQUEST_ID_CHARACTERS_MAX,
    Call,
    Head,
    Piece,
    Placement,
    Regions,
    Requested,
    Sequence,
    Wanted,
)
from runtime.codec.decoding import Request, decode
from runtime.codec.encoding import encode, encode_stream, encode_stream_error
from runtime.codec.outputs import place, raw_bytes, raw_tensors, raw_view, wanted_outputs

__all__ = [
    "CLASSES_MAX",
    "REQUEST_ID_CHARACTERS_MAX",
    "Call",
    "Head",
    "Piece",
    "Placement",
    "Regions",
    "Request",
    "Requested",
    "Sequence",
    "Wanted",
    "decode",
    "encode",
    "encode_stream",
    "encode_stream_error",
    "place",
    "raw_bytes",
    "raw_tensors",
    "raw_view",
    "wanted_outputs",
]
