"""The signed file that travels.

Knows: the layout of a bundle. Rules: equal content gives equal bytes; the signature over the manifest
is checked before one byte of it is parsed, and every file against its digest before it is used. Leaves
to others: what the manifest means (`appliance.manifest`).

Layout, integers little-endian:

    0    8   magic b"HOLDFAST"
    8    4   format, 1
    12   4   manifest length M, at most MANIFEST_BYTES_MAX
    16  32   raw Ed25519 public key of the signer, zeros when unsigned
    48  64   signature over typed_message(MANIFEST_TYPE, manifest), zeros when unsigned
    112  M   manifest, canonical JSON
    ...      the files one after another, in the manifest's order and sizes; nothing after the last
"""

import hashlib
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from appliance.errors import (
    BundleContent,
    BundleError,
    BundleSignature,
    BundleUnsigned,
    BundleUntrusted,
    KeyFileError,
)
from appliance.files import (
    CHUNK_BYTES,
    is_safe_name,
    open_regular,
    sha256_parts,
    unwritable,
    write_file,
)
from appliance.manifest import FileEntry, Manifest
from appliance.signing import KEY_BYTES, SIGNATURE_BYTES, PublicKey, SigningKey, typed_message
from appliance.tables import canonical_json, from_json

MAGIC = b"HOLDFAST"
FORMAT = 1
MANIFEST_TYPE = "application/vnd.holdfast.manifest.v1+json"
MANIFEST_BYTES_MAX = 4 << 20
BUNDLE_BYTES_MAX = 8 << 30
_HEADER = struct.Struct(f"<II{KEY_BYTES}s{SIGNATURE_BYTES}s")  # what follows the magic
_ASK_AGAIN = "copy the bundle again or ask the engineer who packed it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The fixed head of a bundle; `key` and `signature` are raw bytes."""

    manifest_bytes: int
    key: bytes
    signature: bytes

    @property
    def signed(self) -> bool:
        """Whether there is a signature at all."""
        return any(self.key)

    @property
    def key_id(self) -> str:
        """The signer's key id: SHA-256 of the raw key, 64 hex digits."""
        return hashlib.sha256(self.key).hexdigest()


def entry(name: str, data: bytes) -> FileEntry:
    """The manifest's line for a file called `name` with content `data`."""
    return FileEntry(name=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def write_bundle(
    path: Path, manifest: Manifest, files: Mapping[str, bytes], key: SigningKey | None
) -> str:
    """Write a bundle to `path`, whole or not at all, and return its SHA-256 in hex.

    Without a key the bundle is unsigned and no box will build it. StateError when the disk refuses.
    """
    assert [item.name for item in manifest.files] == list(files), "files are in manifest order"
    body = canonical_json(manifest)
    raw, signature = bytes(KEY_BYTES), bytes(SIGNATURE_BYTES)
    if key is not None:
        raw, signature = key.public.raw, key.sign(typed_message(MANIFEST_TYPE, body))
    header = MAGIC + _HEADER.pack(FORMAT, len(body), raw, signature)
    parts = [header, body, *files.values()]
    write_file(path, *parts)
    return sha256_parts(parts)


def trusted_keys(directory: Path) -> dict[bytes, PublicKey]:
    """The public keys in `directory` (*.pub) by their raw bytes; empty when it is missing."""
    keys = [PublicKey.load(path) for path in sorted(directory.glob("*.pub"))]
    return {key.raw: key for key in keys}


def require_trust(trusted: Mapping[bytes, PublicKey], directory: Path) -> None:
    """Raise KeyFileError when nobody is trusted yet, naming the directory to put keys in."""
    if not trusted:
        raise KeyFileError(
            f"no trusted key in {directory}", remedy="copy the engineer's .pub file into it"
        )


def verified_manifest(
    file: BinaryIO, trusted: Mapping[bytes, PublicKey]
) -> tuple[Header, Manifest]:
    """Read header and manifest of an open bundle; `file` then stands at the first file's bytes.

    Raises BundleError (no bundle, cut short), BundleUnsigned, BundleUntrusted, BundleSignature; only
    bytes whose signature a trusted key made are parsed.
    """
    header = read_header(file)
    body = _read_exactly(file, header.manifest_bytes)
    if not header.signed:
        raise BundleUnsigned(
            "the bundle is not signed", remedy="pack it with `--key`, made by keygen"
        )
    _check_signature(header, body, trusted)
    return header, _parse(body)


def unverified_manifest(file: BinaryIO) -> tuple[Header, Manifest]:
    """Read header and manifest without trusting them, to show a bundle to a person."""
    header = read_header(file)
    return header, _parse(_read_exactly(file, header.manifest_bytes))


def read_header(file: BinaryIO) -> Header:
    """Read the fixed head. Raises BundleError when this is no bundle or a newer format."""
    if _read_exactly(file, len(MAGIC)) != MAGIC:
        raise BundleError("the file is not a Holdfast bundle", remedy="give a file made by `pack`")
    number, manifest_bytes, key, signature = _HEADER.unpack(_read_exactly(file, _HEADER.size))
    if number != FORMAT or manifest_bytes > MANIFEST_BYTES_MAX:
        raise BundleError(
            f"bundle format {number} with a manifest of {manifest_bytes} bytes is not readable here",
            remedy="pack it again with this release",
        )
    return Header(manifest_bytes=manifest_bytes, key=key, signature=signature)


def extract(file: BinaryIO, manifest: Manifest, directory: Path) -> None:
    """Copy every file of an open bundle into `directory`, checking size and digest on the way.

    Raises BundleContent at the first file that differs, BundleError when cut short, StateError when
    the disk refuses.
    """
    for item in manifest.files:
        path = directory / item.name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as out:
                _copy(file, item, out)
        except OSError as error:
            raise unwritable(path, error) from error
    _check_end(file)


def check_files(file: BinaryIO, manifest: Manifest) -> None:
    """Check every file of an open bundle as `extract` does, keeping nothing."""
    for item in manifest.files:
        _copy(file, item, None)
    _check_end(file)


def open_bundle(path: Path) -> BinaryIO:
    """Open a bundle file for reading. Raises BundleError when it cannot be or is too large."""
    try:
        file = open_regular(path)
        size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise BundleError(
            f"cannot read {path}: {error.strerror or error}", remedy="check the path"
        ) from error
    if size > BUNDLE_BYTES_MAX:
        file.close()
        raise BundleError(
            f"{path} has {size} bytes, more than {BUNDLE_BYTES_MAX}", remedy="pack a smaller model"
        )
    return file


def _check_signature(header: Header, body: bytes, trusted: Mapping[bytes, PublicKey]) -> None:
    key = trusted.get(header.key)
    if key is None:
        raise BundleUntrusted(
            f"the bundle is signed by key {header.key_id[:16]}, which this box does not trust",
            remedy="if you trust the signer, copy the .pub file into the trust directory",
        )
    if not key.verify(typed_message(MANIFEST_TYPE, body), header.signature):
        raise BundleSignature(
            "the signature does not fit the manifest: it was changed after signing",
            remedy=_ASK_AGAIN,
        )


def _parse(body: bytes) -> Manifest:
    try:
        manifest = from_json(body, Manifest, BundleError, where="manifest")
    except BundleError as error:  # its remedy is for who writes a manifest by hand; nobody does
        raise BundleError(str(error), remedy=_ASK_AGAIN) from error
    names = [item.name for item in manifest.files]
    if len(set(names)) != len(names) or not all(is_safe_name(name) for name in names):
        raise BundleContent("the manifest names a file twice or outside it", remedy=_ASK_AGAIN)
    return manifest


def _copy(file: BinaryIO, item: FileEntry, out: BinaryIO | None) -> None:
    """Read one file of the bundle, into `out` if given; BundleContent when its digest differs."""
    digest, left = hashlib.sha256(), item.bytes
    while left:
        chunk = _read_exactly(file, min(left, CHUNK_BYTES))
        digest.update(chunk)
        if out is not None:
            out.write(chunk)
        left -= len(chunk)
    if digest.hexdigest() != item.sha256:
        raise BundleContent(
            f"'{item.name}' does not fit its digest: it was changed after signing",
            remedy=_ASK_AGAIN,
        )


def _check_end(file: BinaryIO) -> None:
    if file.read(1):
        raise BundleContent("bytes follow the last file of the bundle", remedy=_ASK_AGAIN)


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise BundleError("the bundle is cut short", remedy=_ASK_AGAIN)
    return data
