"""BYTES arrays at rest and as engineers write them.

Knows: object arrays of `bytes`, and the three forms that need no pickle: our own, numpy's `U`, numpy's `S`.
Rules: every byte survives, trailing zeros too, and short texts pay nothing for long ones, which numpy's
fixed width does not give. Leaves to others: the file around them (`golden`).

Our form is one-dimensional, of dtype `V1`, which no tensor has; its bytes are little-endian: the number of
axes (uint64), each axis (uint64), the length of each element in row-major order (uint32), the elements.
"""

import math

import numpy as np

from appliance.tensors import Array

AXES_MAX = 64
_RAW = np.dtype("V1")


def texts_at_rest(array: Array) -> Array:
    """An object array of `bytes` in our form, `V1` (bytes,)."""
    items = [bytes(item) for item in array.flat]
    header = np.array([array.ndim, *array.shape], "<u8").tobytes()
    lengths = np.array([len(item) for item in items], "<u4").tobytes()
    return np.frombuffer(b"".join((header, lengths, *items)), _RAW)


def are_texts_at_rest(array: Array) -> bool:
    """True when `array` is in our form, to judge by its dtype."""
    return array.dtype == _RAW


def texts_from_rest(array: Array) -> Array:
    """The object array of `bytes` that `texts_at_rest` was given. Raises ValueError on anything else."""
    data = array.tobytes()
    axes = int(np.frombuffer(data, "<u8", 1)[0])
    if axes > AXES_MAX:
        raise ValueError(f"{axes} axes")
    shape = tuple(np.frombuffer(data, "<u8", axes, 8).tolist())
    count, at = math.prod(shape), 8 * (axes + 1)
    # Checked before anything is made room for: a length takes four bytes.
    if count > (len(data) - at) // 4:
        raise ValueError(f"{shape} elements in {len(data)} bytes")
    lengths = np.frombuffer(data, "<u4", count, at) if count else np.empty(0, "<u4")
    ends = at + 4 * count + np.cumsum(lengths, dtype=np.int64)
    if (int(ends[-1]) if count else at) != len(data):
        raise ValueError("the elements do not fill the array")
    starts = ends - lengths
    return texts([data[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)], shape)


def texts_from_numpy(array: Array) -> Array:
    """A numpy array of dtype `U` or `S` as an object array of `bytes`; `U` becomes UTF-8."""
    if array.dtype.kind == "U":
        return texts([str(item).encode() for item in array.flat], array.shape)
    return texts([bytes(item) for item in array.flat], array.shape)


def texts(items: list[bytes], shape: tuple[int, ...]) -> Array:
    """An object array of `items` in row-major order."""
    flat = np.empty(len(items), np.object_)
    flat[:] = items
    return flat.reshape(shape)
