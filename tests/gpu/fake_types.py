"""Types and memory as `fake_tensorrt` sees them.

Knows: how ONNX, TensorRT, numpy and the inspector name a type. Rules: a type that is not here is an error. Leaves to others: all else.
"""

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

if TYPE_CHECKING:
    from tests.gpu.fake_objects import World

TYPES = {
    onnx.TensorProto.FLOAT: "FLOAT",
    onnx.TensorProto.FLOAT16: "HALF",
    onnx.TensorProto.BFLOAT16: "BF16",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.BOOL: "BOOL",
    onnx.TensorProto.UINT8: "UINT8",
}
NUMPY = {
    "FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32, "INT64": np.int64,
    "BOOL": np.bool_, "UINT8": np.uint8,
}  # fmt: skip


# How the inspector words the type of a tensor, by DataType: shortly, and as it did up to 10.3.
FORMATS = {
    "FLOAT": ("Float", "Row major linear FP32"),
    "HALF": ("Half", "Row major linear FP16 format"),
    "BF16": ("BFloat16", "Row major linear BF16 format"),
    "INT8": ("Int8", "Thirty-two wide channel vectorized row major Int8 format"),
    "INT32": ("Int32", "Row major linear INT32 format"),
    "INT64": ("Int64", "Row major linear INT64 format"),
    "BOOL": ("Bool", "Row major linear BOOL"),
    "UINT8": ("UInt8", "Row major linear UINT8 format"),
}


def dimensions(told: onnx.ValueInfoProto) -> tuple[int, ...]:
    """A tensor's shape, -1 for what is not fixed."""
    sizes = told.type.tensor_type.shape.dim
    return tuple(size.dim_value if size.HasField("dim_value") else -1 for size in sizes)


def data_type(world: "World", element: int) -> Any:
    """DataType of an ONNX element type."""
    return world.member("DataType", TYPES[element])


def host_memory(pointer: int, size: int) -> memoryview:
    """Bytes of this process."""
    return memoryview((ctypes.c_char * size).from_address(pointer)).cast("B")


def at_once(stream: int, function: Callable[[], None]) -> None:
    """No stream: now."""
    function()
