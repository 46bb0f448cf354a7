"""Tensors as the audit log names them: inline when small, by digest always. Pure.

Knows: the one digest over named tensors, so that an auditor who holds the input can find its record.
Rules: the digest covers names, datatypes, shapes and bytes, and does not depend on the order in which
a client sent them. Leaves to others: the raw bytes themselves (`runtime.codec`).
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from operator import itemgetter
from typing import Annotated

import msgspec

from appliance.tensors import DataType

INLINE_BYTES_MAX = 1024


class Tensor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tensor's content: `data` is its raw form in the Open Inference Protocol, little-endian.

    In JSON `data` is base64 (RFC 4648 section 4).
    """

    name: str
    datatype: DataType
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    data: bytes


def inline(tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """The tensors to keep in a record: all of them, or none when over INLINE_BYTES_MAX together."""
    kept = tuple(tensors)
    return kept if sum(len(tensor.data) for tensor in kept) <= INLINE_BYTES_MAX else ()


def digest(tensors: Iterable[tuple[str, DataType, tuple[int, ...], bytes | memoryview]]) -> str:
    """SHA-256, 64 hex digits, over (name, datatype, shape, raw bytes) tuples in order of name.

    Each tensor adds one line of canonical JSON {"bytes","datatype","name","shape"}, a newline, then its
    raw bytes: the byte count in the line keeps two different lists from hashing alike.
    """
    total = hashlib.sha256()
    for name, datatype, shape, data in sorted(tensors, key=itemgetter(0)):
        view = memoryview(data)
        total.update(_line(name, datatype, shape, view.nbytes))
        total.update(view)
    return total.hexdigest()


@lru_cache(4096)  # requests of one model mostly have the same shapes
def _line(name: str, datatype: DataType, shape: tuple[int, ...], size: int) -> bytes:
    head = {"bytes": size, "datatype": datatype, "name": name, "shape": shape}
    return msgspec.json.encode(head, order="sorted") + b"\n"
