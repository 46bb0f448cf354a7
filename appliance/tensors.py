"""Tensor specs and interfaces: what goes into a model and what comes out.

Knows: the Open Inference Protocol's datatypes and their numpy twins, shapes without the batch axis,
whether there is a batch axis. Rules: -1 in a shape means any length, or any within its range; a batched
interface puts one more axis in front of every tensor. Leaves to others: the wire (`runtime.codec`) and the graph (`compiler`).
"""

from collections.abc import Callable
from enum import StrEnum
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.errors import RequestError, RequestLimit

Array = NDArray[Any]
TensorName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Length = Annotated[int, msgspec.Meta(ge=-1)]
LENGTH_MAX = 1 << 31  # of an axis with a range


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

    __hash__ = str.__hash__  # Enum's own is slow, and datatypes are looked up for every request

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


class AxisRange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The lengths that an open axis takes: `min`, `min` + `step` and so on to `max`; `opt` is common."""

    min: Annotated[int, msgspec.Meta(ge=0, le=LENGTH_MAX)]
    opt: Annotated[int, msgspec.Meta(ge=0, le=LENGTH_MAX)]
    max: Annotated[int, msgspec.Meta(ge=0, le=LENGTH_MAX)]
    step: Annotated[int, msgspec.Meta(ge=1, le=LENGTH_MAX)] = 1

    def __post_init__(self) -> None:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"min {self.min}, opt {self.opt}, max {self.max} are not in order")
        if self.opt not in self or self.max not in self:
            raise ValueError(
                f"opt and max are not min {self.min} and a multiple of step {self.step}"
            )

    def __contains__(self, length: int) -> bool:
        return self.min <= length <= self.max and (length - self.min) % self.step == 0

    def __str__(self) -> str:
        """As in "16 to 512" or "32 to 512 by 32"."""
        return f"{self.min} to {self.max}" + (f" by {self.step}" if self.step > 1 else "")

    def odd(self) -> int:
        """A length that nobody planned for: odd if one fits, near the middle."""
        middle = self.min + (self.max - self.min) // (2 * self.step) * self.step
        return next(
            (
                length
                for length in (middle, middle + self.step, middle - self.step)
                if length % 2 and length in self
            ),
            middle,
        )


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One named tensor: its datatype and its shape without the batch axis (-1 = any length).

    `ranges` is empty, or names for each axis the lengths that it takes where it is open: None for any.
    """

    name: TensorName
    datatype: DataType
    shape: tuple[Length, ...]
    ranges: tuple[AxisRange | None, ...] = ()

    def __post_init__(self) -> None:
        if self.ranges and len(self.ranges) != len(self.shape):
            raise ValueError(f"'{self.name}' has {len(self.shape)} axes, not as many ranges")
        if any(given and axis != -1 for axis, given in zip(self.shape, self.ranges, strict=False)):
            raise ValueError(f"'{self.name}' has a range on an axis of fixed length")

    def fits(self, shape: tuple[int, ...]) -> bool:
        """True when an unbatched `shape` agrees with this spec; -1 in it is a length not known yet."""
        if shape == self.shape and not self.ranges:
            return True
        return (
            len(shape) == len(self.shape)
            and all(want in (-1, got) for want, got in zip(self.shape, shape, strict=True))
            and all(
                given is None or got == -1 or got in given
                for given, got in zip(self.ranges, shape, strict=False)
            )
        )

    def lengths(self) -> str:
        """The shape as it is told: an open axis by its range, or as "any"."""
        ranges = self.ranges or (None,) * len(self.shape)
        told = [
            str(axis) if axis != -1 else str(given or "any")
            for axis, given in zip(self.shape, ranges, strict=True)
        ]
        return f"[{', '.join(told)}]"


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
            rows_told = " behind the rows" if self.batch_max else ""
            ranges = f" ({spec.lengths()}{rows_told})" if spec.ranges else ""
            raise RequestError(
                f"unexpected shape for input '{spec.name}' for model '{model}'. "
                f"Expected {_bracketed(self.wire_shape(spec))}, got {_bracketed(shape)}{ranges}",
                remedy=f"send lengths within {spec.lengths()}{rows_told}"
                if spec.ranges
                else "send the shape that the model's metadata names",
            )
        if self.batch_max and rows > self.batch_max:
            raise RequestLimit(
                f"inference request batch-size must be <= {self.batch_max} for '{model}'",
                remedy="split the request",
            )
        return rows


def shapes_to_try(interface: Interface) -> tuple[dict[str, tuple[int, ...]], ...]:
    """Shapes of all inputs, by name and without rows, at the ends of the ranges and between.

    First every range at its `opt`, then all at `min`, at `max` and at an odd length; axes of one range go
    together, since equal names have equal ranges. An axis without a range stays -1. Empty where no input
    has a range.
    """
    if not any(spec.ranges for spec in interface.inputs):
        return ()
    tried = []
    choices = (attrgetter("opt"), attrgetter("min"), attrgetter("max"), AxisRange.odd)
    for choice in choices:
        shapes = {spec.name: _at(spec, choice) for spec in interface.inputs}
        if shapes not in tried:
            tried.append(shapes)
    return tuple(tried)


def blank(shape: tuple[int, ...], datatype: DataType) -> Array:
    """An array of zeros, or of empty texts; an axis of any length (-1) is 1 long."""
    lengths = tuple(1 if axis == -1 else axis for axis in shape)
    return np.full(lengths, b"" if datatype is DataType.BYTES else 0, datatype.numpy)


def _at(spec: TensorSpec, choice: Callable[[AxisRange], int]) -> tuple[int, ...]:
    ranges = spec.ranges or (None,) * len(spec.shape)
    return tuple(
        axis if given is None else choice(given)
        for axis, given in zip(spec.shape, ranges, strict=True)
    )


def _bracketed(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
