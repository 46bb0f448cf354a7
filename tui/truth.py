"""A true answer as a person writes it on a command line. Pure.

Knows: the form NAME=VALUES and NAME:DATATYPE=VALUES, values with commas between them. Rules: whole numbers become
INT64, other numbers FP64, all else texts, unless the datatype is said. Leaves to others: sending it.
"""

import re

import numpy as np

from appliance.audit.payload import Tensor
from appliance.tensors import DataType
from runtime.client.tensors import raw_from_array

_FORM = re.compile(r"(?P<name>[^=:]+)(:(?P<datatype>[A-Z0-9]+))?=(?P<values>.*)", re.DOTALL)


def truth_from(text: str) -> Tensor:
    """The tensor that `text` says, of one axis. Raises ValueError, saying the form, for what is none."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("write NAME=VALUE, such as label=3 or scores:FP32=0.2,0.8")
    values = found["values"].split(",")
    told = found["datatype"]
    if told is not None and told not in DataType.__members__.values():
        raise ValueError(f"{told} is no datatype; use one of {', '.join(DataType)}")
    try:
        array = _array(values, None if told is None else DataType(told))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"'{found['values']}' is no {told}: {error}") from error
    raw = raw_from_array(found["name"], array)
    return Tensor(
        name=found["name"],
        datatype=DataType(raw.datatype),
        shape=raw.shape,
        data=bytes(raw.data),
    )


def _array(values: list[str], datatype: DataType | None) -> np.ndarray:
    if datatype is DataType.BYTES:
        return np.array([value.encode() for value in values], np.object_)
    if datatype is DataType.BOOL:
        words = {"true": True, "1": True, "false": False, "0": False}
        try:
            return np.array([words[value.strip().lower()] for value in values])
        except KeyError as error:
            raise ValueError(f"{error} is neither true nor false") from error
    if datatype is not None:
        return np.array(
            [int(value) if datatype.numpy.kind in "iu" else float(value) for value in values],
            datatype.numpy,
        )
    for kind, dtype in ((int, np.int64), (float, np.float64)):
        try:
            return np.array([kind(value) for value in values], dtype)
        except (ValueError, OverflowError):
            continue
    return np.array([value.encode() for value in values], np.object_)
