"""Tensor specs and interfaces: what goes into a model and what comes out.

Knows: the Open Inference Protocol's datatypes and their numpy twins, shapes without the batch axis,
whether there is a batch axis. Rules: -1 in a shape means any length; a batched interface puts one more
axis in front of every tensor. Leaves to others: the wire (`runtime.codec`) and the graph (`compiler`).
"""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.errors import RequestError, RequestLimit

Array = NDArray[Any]
TensorName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Length = Annotated[int, msgspec.Meta(ge=-1)]


class DataType(StrEnum):
    """Datatype names of the Open Inference Protocol that this release serves."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype; BYTES is an object array of `bytes`."""
        return _NUMPY[self]


_NUMPY: dict[DataType, np.dtype[Any]] = {
    DataType.BOOL: np.dtype(np.bool_),
    DataType.UINT8: np.dtype(np.uint8),
    DataType.UINT16: np.dtype(np.uint16),
    DataType.UINT32: np.dtype(np.uint32),
    DataType.UINT64: np.dtype(np.uint64),
    DataType.INT8: np.dtype(np.int8),
    DataType.INT16: np.dtype(np.int16),
    DataType.INT32: np.dtype(np.int32),
    DataType.INT64: np.dtype(np.int64),
    DataType.FP16: np.dtype(np.float16),
    DataType.FP32: np.dtype(np.float32),
    DataType.FP64: np.dtype(np.float64),
    DataType.BYTES: np.dtype(np.object_),
}
_DATATYPES = {dtype: datatype for datatype, dtype in _NUMPY.items()}


def datatype_of(dtype: np.dtype[Any]) -> DataType | None:
    """The protocol's name for a numpy dtype, None when it has none."""
    return _DATATYPES.get(dtype)


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One named tensor: its datatype and its shape without the batch axis (-1 = any length)."""

    name: TensorName
    datatype: DataType
    shape: tuple[Length, ...]

    def fits(self, shape: tuple[int, ...]) -> bool:
        """True when an unbatched `shape` agrees with this spec."""
        return len(shape) == len(self.shape) and all(
            want in (-1, got) for want, got in zip(self.shape, shape, strict=True)
        )


class Interface(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Inputs and outputs of a model; `batch_max` rows at once, 0 when there is no batch axis."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch_max: Annotated[int, msgspec.Meta(ge=0)]

    def wire_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        """The shape clients see: with -1 in front when batched."""
        return (-1, *spec.shape) if self.batch_max else spec.shape

    def input(self, name: str) -> TensorSpec | None:
        """The input called `name`, None when there is none."""
        return next((spec for spec in self.inputs if spec.name == name), None)

    def output(self, name: str) -> TensorSpec | None:
        """The output called `name`, None when there is none."""
        return next((spec for spec in self.outputs if spec.name == name), None)

    def check_shape(self, spec: TensorSpec, shape: tuple[int, ...], *, model: str) -> int:
        """Return how many rows an input of wire `shape` holds (1 when unbatched).

        Raises RequestError on a shape that does not fit, RequestLimit over `batch_max` rows; the
        texts are those of Triton, which clients match on.
        """
        rows, unbatched = (shape[0], shape[1:]) if self.batch_max and shape else (1, shape)
        if not spec.fits(unbatched) or (self.batch_max and not shape) or rows < 1:
            raise RequestError(
                f"unexpected shape for input '{spec.name}' for model '{model}'. "
                f"Expected {_bracketed(self.wire_shape(spec))}, got {_bracketed(shape)}",
                remedy="send the shape that the model's metadata names",
            )
        if self.batch_max and rows > self.batch_max:
            raise RequestLimit(
                f"inference request batch-size must be <= {self.batch_max} for '{model}'",
                remedy="split the request",
            )
        return rows


def _bracketed(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
