"""External data: tensors kept in files beside the model, read by us and folded into it.

Knows: ONNX's external_data entries (onnx.proto3; docs/ExternalData.md). Rules: the paths, offsets and
lengths come from a stranger, so only a plain file below the model's own directory is opened, by names
that lead through no link, and only bytes that are in it and that the tensor declares are read; each file is
read once and digested as it was read. Leaves to others: what a sealed model may hold (`source`): it never
refers to another file.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx
from onnx import TensorProto

from appliance.errors import SourceFormat, SourceLimit, SourceUnsupported
from appliance.files import is_safe_name
from compiler.opening.declared import declared_bytes
from compiler.opening.walking import all_bodies, tensors_of

_KEYS = ("location", "offset", "length", "checksum")
_DIRECTORY = os.O_PATH | os.O_DIRECTORY  # passed through and never listed, which a fence may forbid
_FILE = os.O_RDONLY | os.O_NONBLOCK
_DIGITS_MAX = 19  # what fits 64 bits
_ONE_FILE = "save the model as one file: onnx.save(onnx.load(path), path)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a tensor's bytes are; `length` None: to the end of the file. `checksum`: SHA-1, or empty."""

    location: str
    offset: int
    length: int | None
    checksum: str


def external_tensors(model: onnx.ModelProto, depth_max: int) -> Iterator[onnx.TensorProto]:
    """Every tensor that refers to another file, wherever it hides. Raises SourceLimit."""
    for body in all_bodies(model, depth_max):
        for tensor in tensors_of(body):
            if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
                yield tensor


def fold_external(
    tensors: list[onnx.TensorProto], directory: Path, bytes_max: int
) -> dict[str, str]:
    """Give each of `tensors` its bytes from the files in `directory`, so that none refers to a file.

    Returns the SHA-256 of every file read, by its name. Raises SourceFormat or SourceUnsupported naming
    the tensor and what is wrong with its reference, SourceLimit over `bytes_max` bytes in all.
    """
    places = [_place(tensor) for tensor in tensors]
    wanted = sum(declared_bytes(tensor) for tensor in tensors)
    if wanted > bytes_max:
        raise SourceLimit(
            f"the model's tensors in other files have {wanted} bytes, {bytes_max} are left of the "
            "2 GiB that one ONNX file can hold",
            remedy="save the weights as FLOAT16, or split the model",
        )
    by_location: dict[str, list[tuple[onnx.TensorProto, _Place]]] = {}
    for tensor, place in zip(tensors, places, strict=True):
        by_location.setdefault(place.location, []).append((tensor, place))
    digests = {}
    for location, group in sorted(by_location.items()):
        data = _read(directory, location, group[0][0], bytes_max)
        digests[location] = hashlib.sha256(data).hexdigest()
        for tensor, place in group:
            _fold(tensor, place, data)
    return digests


def _place(tensor: onnx.TensorProto) -> _Place:
    """The checked entries of a tensor's reference."""
    entries: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key not in _KEYS or entry.key in entries:
            what = "twice" if entry.key in entries else "which means nothing"
            raise _refused(tensor, f"has the key '{entry.key[:60]}', {what}")
        entries[entry.key] = entry.value
    if tensor.data_location != TensorProto.EXTERNAL or tensor.raw_data:
        raise _refused(tensor, "holds data and refers to a file as well")
    if tensor.data_type == TensorProto.STRING:
        raise _refused(tensor, "holds strings, which cannot be kept in another file")
    location = entries.get("location", "")
    if not is_safe_name(location) or "\\" in location:
        raise _refused(
            tensor, f"refers to '{location[:60]}', which is not below the model's directory"
        )
    return _Place(
        location=location,
        offset=_whole(tensor, "offset", entries.get("offset", "0")),
        length=_whole(tensor, "length", entries["length"]) if "length" in entries else None,
        checksum=entries.get("checksum", ""),
    )


def _whole(tensor: onnx.TensorProto, key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise _refused(tensor, f"has the {key} '{text[:60]}', which is no number of bytes")
    return int(text)


def _read(directory: Path, location: str, tensor: onnx.TensorProto, bytes_max: int) -> bytes:
    """The whole file, opened name by name so that no link is followed on the way."""
    try:
        with ExitStack() as opened:
            handle = os.open(directory, _DIRECTORY)
            opened.callback(os.close, handle)
            *inner, name = PurePosixPath(location).parts
            for part, kind in (*((part, _DIRECTORY) for part in inner), (name, _FILE)):
                handle = os.open(part, os.O_NOFOLLOW | kind, dir_fd=handle)
                opened.callback(os.close, handle)
            status = os.fstat(handle)
            _check_file(tensor, location, status, bytes_max)
            with os.fdopen(os.dup(handle), "rb") as file:
                data = file.read(status.st_size + 1)
    except OSError as error:
        raise _refused(
            tensor, f"refers to '{location}', which cannot be opened: {error.strerror}"
        ) from error
    if len(data) != status.st_size:
        raise _refused(tensor, f"refers to '{location}', which changed while it was read")
    return data


def _check_file(
    tensor: onnx.TensorProto, location: str, status: os.stat_result, bytes_max: int
) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _refused(tensor, f"refers to '{location}', which is not a regular file")
    if status.st_nlink > 1:
        # A name made beside the model for a file elsewhere, which its reader may see and its maker not.
        raise _refused(
            tensor, f"refers to '{location}', which has {status.st_nlink} names: copy it"
        )
    if status.st_size > bytes_max:
        raise SourceLimit(
            f"{location} has {status.st_size} bytes, {bytes_max} are left of the 2 GiB that one ONNX "
            "file can hold",
            remedy="save the weights as FLOAT16, or split the model",
        )


def _fold(tensor: onnx.TensorProto, place: _Place, data: bytes) -> None:
    wanted = declared_bytes(tensor)
    length = len(data) - place.offset if place.length is None else place.length
    if place.offset + length > len(data) or length < 0:
        raise _refused(
            tensor,
            f"refers to bytes {place.offset} to {place.offset + length} of '{place.location}', "
            f"which has {len(data)}",
        )
    if length != wanted:
        raise _refused(tensor, f"declares {wanted} bytes and refers to {length}")
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest() if place.checksum else ""
    if sha1 != place.checksum:
        raise _refused(tensor, f"refers to '{place.location}', whose checksum is another")
    tensor.raw_data = data[place.offset : place.offset + length]
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def _refused(tensor: onnx.TensorProto, why: str) -> SourceFormat:
    return SourceFormat(f"tensor '{tensor.name[:60]}' {why}", remedy=_ONE_FILE)


def refuse_external(tensors: Iterator[onnx.TensorProto]) -> None:
    """Raise SourceUnsupported when a sealed model refers to another file."""
    for tensor in tensors:
        raise SourceUnsupported(
            f"tensor '{tensor.name[:60]}' is kept in another file",
            remedy="pack the model again; a bundle holds it as one file",
        )
