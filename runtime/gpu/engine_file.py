"""The file of an engine of kind "tensorrt": the plan, the recipe's kernels, and what both were made for.

Knows: the layout. Rules: everything is checked before anything of it is used: the header against its digest, each part's
place against the file's size, each part against its digest when it is read; a part begins at a multiple of 4096 bytes,
so that a plan can be mapped and handed to TensorRT without a copy; a layout that was written once is read for ever.
Leaves to others: what a plan is (`execution`), what the kernels do (`runtime.kernels.cuda`), whether the stamp fits this
box (`runtime.engines.stamp`).

Layout, integers little-endian:

    0    8   magic b"HOLDPLAN"
    8    4   format, 1
    12   4   header length H, at most HEADER_BYTES_MAX
    16   32  SHA-256 of the header
    48   H   header, MessagePack of `Header`
    ...      the parts, each at the offset that the header says, zeros between them; nothing after the last
"""

import hashlib
import mmap
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from appliance.errors import EngineLoad
from appliance.files import write_file

MAGIC = b"HOLDPLAN"
FORMAT = 1
HEADER_BYTES_MAX = 16 << 20  # the inspector's account of a large engine is a few MiB
ALIGNMENT = 4096
_FIXED = struct.Struct("<8sII32s")
Buffer: TypeAlias = bytes | bytearray | memoryview  # of bytes
Capability: TypeAlias = tuple[int, int]  # a GPU's compute capability, such as (9, 0)
Ranges: TypeAlias = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where bytes lie in the file, and their digest in hexadecimal."""

    offset: int
    size: int
    sha256: str


class ModulePart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The kernels compiled once: machine code for a capability, or PTX for it and all later ones."""

    format: Literal["cubin", "ptx"]
    capability: Capability
    part: Part


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file says of itself.

    `plan`: TensorRT's bytes. `inputs` and `outputs`: datatypes of its tensors by name, in the protocol's words.
    `kernels`: names of the kernels in each module, `edition` of what compiled them
    (`runtime.kernels.cuda.toolchain.edition`), both empty without kernels. `profiles`: lowest, best and highest shape of
    each input, per optimisation profile. `version_compatible`: the plan carries a runtime of its own.
    `structure`: digest of the graph without its weights, which a refit must share, "" where none is possible.
    `build`: the settings that it was built with. `inspection`: what TensorRT's inspector told of the plan's layers.
    `parts`: further bytes by name.
    """

    plan: Part
    stamp: dict[str, str]
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    modules: tuple[ModulePart, ...] = ()
    kernels: tuple[str, ...] = ()
    edition: str = ""
    profiles: tuple[Ranges, ...] = ()
    version_compatible: bool = False
    refittable: bool = False
    structure: str = ""
    build: dict[str, str] = {}
    inspection: dict[str, Any] = {}
    parts: dict[str, Part] = {}


class Compiled(NamedTuple):
    """Kernels to be written: see ModulePart."""

    format: Literal["cubin", "ptx"]
    capability: Capability
    image: bytes


def write_engine_file(
    path: Path,
    *,
    plan: Buffer,
    modules: Sequence[Compiled] = (),
    parts: Mapping[str, Buffer] | None = None,
    **told: Any,
) -> Header:
    """Write the file, durable when this returns; `told` are the other fields of `Header`.

    Raises StateError when the disk refuses, ValueError for a header above HEADER_BYTES_MAX.
    """
    named = dict(parts or {})
    contents = [plan, *(module.image for module in modules), *named.values()]
    header = _header(0, contents, modules, named, told)
    while True:  # offsets lengthen the header, which moves the offsets: at most a few rounds
        encoded = msgspec.msgpack.encode(header)
        begin = _aligned(_FIXED.size + len(encoded))
        if header.plan.offset == begin:
            break
        header = _header(begin, contents, modules, named, told)
    if len(encoded) > HEADER_BYTES_MAX:
        raise ValueError(f"a header of {len(encoded)} bytes; {HEADER_BYTES_MAX} is the most")
    fixed = _FIXED.pack(MAGIC, FORMAT, len(encoded), hashlib.sha256(encoded).digest())
    write_file(path, *_padded([fixed + encoded, *contents]))
    return header


def _header(
    begin: int,
    contents: Sequence[Buffer],
    modules: Sequence[Compiled],
    named: Mapping[str, Buffer],
    told: Mapping[str, Any],
) -> Header:
    """The header of parts that begin at `begin`."""
    places = []
    for content in contents:
        digest = hashlib.sha256(content).hexdigest()
        places.append(Part(offset=begin, size=len(content), sha256=digest))
        begin = _aligned(begin + len(content))
    plan, *rest = places
    compiled = tuple(
        ModulePart(format=module.format, capability=module.capability, part=part)
        for module, part in zip(modules, rest, strict=False)
    )
    further = dict(zip(named, rest[len(modules) :], strict=True))
    return Header(plan=plan, modules=compiled, parts=further, **told)


def _padded(pieces: Iterable[Buffer]) -> Iterable[Buffer]:
    """The pieces, each but the last filled up with zeros to the next multiple of ALIGNMENT."""
    gap = 0
    for piece in pieces:
        if gap:
            yield bytes(gap)
        yield piece
        gap = -len(piece) % ALIGNMENT


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


class EngineFile:
    """An engine file that is open: `header`, and the parts as views into the mapped file.

    A view is valid until `close`, which waits for nobody: who still uses one keeps the file open.
    """

    def __init__(self, path: Path) -> None:
        """Map the file at `path` and check its header. Raises EngineLoad."""
        self._path = path
        try:
            with path.open("rb") as file:
                self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: an empty file
            raise _damaged(path, f"it cannot be read ({error})") from error
        self._view = memoryview(self._mapped)
        try:
            self.header = self._checked()
        except EngineLoad:
            self.close()
            raise

    def plan(self) -> memoryview:
        """TensorRT's bytes. Raises EngineLoad when they were changed."""
        return self._part("the plan", self.header.plan)

    def part(self, name: str) -> memoryview:
        """A further part. Raises EngineLoad when it was changed, KeyError when there is none of that name."""
        return self._part(f"part '{name}'", self.header.parts[name])

    def module(self, capability: Capability) -> bytes:
        """The kernels for a GPU of this capability. Raises EngineLoad when there are none, or they were changed."""
        chosen = module_for(self.header.modules, capability)
        if chosen is None:
            known = ", ".join(
                f"{one.format} {_dotted(one.capability)}" for one in self.header.modules
            )
            raise EngineLoad(
                f"{self._path.name} has no kernels for a GPU of compute capability {_dotted(capability)}, "
                f"only {known or 'none'}",
                remedy="build the bundle again on this box",
            )
        return bytes(self._part("a module", chosen.part))

    def close(self) -> None:
        """Unmap the file."""
        try:
            self._view.release()
            self._mapped.close()
        except BufferError:
            pass  # somebody holds a part: the map goes with the last view

    def _checked(self) -> Header:
        """The header. Raises EngineLoad when anything of the file is not as it was written."""
        size = len(self._view)
        if size < _FIXED.size:
            raise _damaged(self._path, "it is cut short")
        magic, version, length, digest = _FIXED.unpack_from(self._view)
        if magic != MAGIC or version != FORMAT:
            raise _damaged(self._path, "it is no engine file of a layout that this release reads")
        if length > min(HEADER_BYTES_MAX, size - _FIXED.size):
            raise _damaged(self._path, "its header is cut short or too long")
        encoded = self._view[_FIXED.size : _FIXED.size + length]
        if hashlib.sha256(encoded).digest() != digest:
            raise _damaged(self._path, "its header was changed")
        try:
            header = msgspec.msgpack.decode(encoded, type=Header)
        except msgspec.DecodeError as error:
            raise _damaged(self._path, f"its header is not understood ({error})") from error
        places = [header.plan, *(one.part for one in header.modules), *header.parts.values()]
        low = _FIXED.size + length
        for place in places:
            if place.offset < low or place.size < 0 or place.offset + place.size > size:
                raise _damaged(self._path, "a part lies outside of it")
        if max(place.offset + place.size for place in places) != size:
            raise _damaged(self._path, "something follows its last part")
        return header

    def _part(self, what: str, place: Part) -> memoryview:
        view = self._view[place.offset : place.offset + place.size]
        if hashlib.sha256(view).hexdigest() != place.sha256:
            raise _damaged(self._path, f"{what} was changed")
        return view


def module_for(modules: Sequence[ModulePart], capability: Capability) -> ModulePart | None:
    """The best of `modules` for a GPU, None when none runs there.

    Machine code runs on its own major capability at the same minor or a later one, PTX on its own capability
    and all later ones (CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility").
    """
    code = [
        one
        for one in modules
        if one.format == "cubin"
        and one.capability[0] == capability[0]
        and one.capability[1] <= capability[1]
    ]
    portable = [one for one in modules if one.format == "ptx" and one.capability <= capability]
    return max(code or portable, key=lambda one: one.capability, default=None)


def _dotted(capability: Capability) -> str:
    return f"{capability[0]}.{capability[1]}"


def _damaged(path: Path, why: str) -> EngineLoad:
    return EngineLoad(
        f"{path.name} is not used: {why}", remedy="build the bundle again on this box"
    )
