"""An audit record as lines of name and value, for people. Pure.

Knows: how each kind of value in a record reads. Rules: every field is shown, bytes as what they hold;
nothing is interpreted that the record does not say. Leaves to others: finding records
(`appliance.audit.reader`), printing.
"""

import msgspec
import numpy as np

from appliance.audit.kinds import AnyRecord, Inference
from appliance.audit.payload import Tensor
from appliance.deployment import Deployment
from appliance.tensors import DataType
from tui import wording

VALUES_MAX = 12
_LENGTH_BYTES = 4
_NANOSECONDS = "_ns"


def record_lines(record: AnyRecord) -> list[tuple[str, str]]:
    """Every field of `record` with its value in words, in the record's own order."""
    lines: list[tuple[str, str]] = []
    for field in msgspec.structs.fields(record):
        value = getattr(record, field.name)
        if field.name == "outputs":
            lines += [(f"output {tensor.name}", tensor_text(tensor)) for tensor in value]
        elif field.name == "truth":
            lines += [(f"truth {tensor.name}", tensor_text(tensor)) for tensor in value]
        elif field.name == "vector" and isinstance(record, Inference):
            lines.append(("drift vector", _vector_text(value, record.rows)))
        elif field.name.endswith(_NANOSECONDS):
            lines.append((_name(field.name), wording.latency(value / 1e6)))
        elif isinstance(value, Deployment):
            lines.append((_name(field.name), _deployment_text(value)))
        elif isinstance(value, tuple):
            lines.append((_name(field.name), "; ".join(map(_item_text, value)) or wording.NOTHING))
        else:
            lines.append((_name(field.name), str(value) or wording.NOTHING))
    return lines


def tensor_text(tensor: Tensor) -> str:
    """Datatype, shape and the first VALUES_MAX values of `tensor`."""
    values = _values(tensor)
    more = ", ..." if len(values) > VALUES_MAX else ""
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    return f"{tensor.datatype} {shape}: {', '.join(values[:VALUES_MAX])}{more}"


def elements(data: bytes) -> list[bytes]:
    """The elements of a BYTES tensor: each has its length in front (4 bytes, little-endian)."""
    found, at = [], 0
    while at + _LENGTH_BYTES <= len(data):
        length = int.from_bytes(data[at : at + _LENGTH_BYTES], "little")
        at += _LENGTH_BYTES + length
        found.append(data[at - length : at])
    return found


def _values(tensor: Tensor) -> list[str]:
    if tensor.datatype is DataType.BYTES:
        return [element.decode("utf-8", "replace") for element in elements(tensor.data)]
    dtype = tensor.datatype.numpy
    whole = len(tensor.data) // dtype.itemsize * dtype.itemsize
    return [f"{value:.6g}" for value in np.frombuffer(tensor.data[:whole], dtype).tolist()]


def _vector_text(vector: bytes, rows: int) -> str:
    values = len(vector) // 4
    return f"{rows} x {values // rows} values" if rows else f"{values} values"


def _item_text(value: object) -> str:
    return (
        f"{value.model}: {_deployment_text(value)}" if isinstance(value, Deployment) else str(value)
    )


def _deployment_text(deployment: Deployment) -> str:
    roles = [f"active {wording.version(deployment.active)}"]
    if deployment.canary is not None:
        roles.append(f"canary {wording.canary(deployment.canary, deployment.canary_per_mille)}")
    if deployment.shadow is not None:
        roles.append(f"shadow {deployment.shadow}")
    roles.append(f"previous {wording.version(deployment.previous)}")
    roles.append(f"retired {wording.numbers(deployment.retired)}")
    if deployment.tuning is not None:
        roles.append(f"tuning {wording.tuning(deployment.tuning)}")
    return ", ".join(roles)


def _name(field: str) -> str:
    return field.removesuffix(_NANOSECONDS).replace("_", " ")
