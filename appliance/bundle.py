"""The signed file that travels.

Knows: the layout of a bundle. Rules: equal content gives equal bytes; the signature is verified before one
byte of the manifest is parsed, and every file against its digest before it is used; a format that was
written once is read for ever. Leaves to others: what the manifest means (`appliance.manifest`), the
signature's own form (`appliance.attestation`), who is trusted (`appliance.trust`).

Layout of format 2, integers little-endian:

    0    8   magic b"HOLDFAST"
    8    4   format, 2
    12   4   manifest length M, at most MANIFEST_BYTES_MAX
    16   4   signature length S, at most ENVELOPE_BYTES_MAX; 0 when unsigned
    20   S   the signature over all that follows, a `model.sig` of OpenSSF model signing
    ...  M   manifest, canonical JSON; the signature names it as manifest.json
    ...      the files one after another, in the manifest's order and sizes; nothing after the last

Format 1, which release 0.1 wrote, has after its manifest length the signer's raw Ed25519 key (32) and the
signature (64) over typed_message(MANIFEST_TYPE, manifest), both zeros when unsigned; then the same.
"""

import hashlib
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from appliance.attestation import (
    ENVELOPE_BYTES_MAX,
    SIGNATURE_NAME,
    attest,
    check_form,
    open_attestation,
    read_unverified,
)
from appliance.errors import (
    BundleContent,
    BundleError,
    BundleSignature,
    BundleUnsigned,
    BundleUntrusted,
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
from appliance.modelkeys import ModelPublicKey, ModelSigningKey
from appliance.signing import KEY_BYTES, SIGNATURE_BYTES, typed_message
from appliance.tables import canonical_json, from_json

MAGIC = b"HOLDFAST"
FORMAT = 2
MANIFEST_TYPE = "application/vnd.holdfast.manifest.v1+json"  # format 1
MANIFEST_FILE = "manifest.json"
MANIFEST_BYTES_MAX = 4 << 20
BUNDLE_BYTES_MAX = 8 << 30
SIGNED_AT, SIGNER = "signed_at", "signer"  # our additions to what is signed
_NUMBERS = struct.Struct("<II")  # format and manifest length, after the magic
_FIRST = struct.Struct(f"{KEY_BYTES}s{SIGNATURE_BYTES}s")  # format 1 after them
_LENGTH = struct.Struct("<I")  # format 2 after them
_ASK_AGAIN = "copy the bundle again or ask the engineer who packed it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The head of a bundle.

    `key` is the signer's raw key, empty when unsigned or not known yet; until the signature is verified,
    it is what the bundle claims. `signature` is raw in format 1, a signature file in format 2, and empty
    when unsigned. `signed_at` is what the signer says, RFC 3339, None where nothing is said.
    """

    format: int
    manifest_bytes: int
    key: bytes = b""
    signature: bytes
    signed_at: str | None = None

    @property
    def signed(self) -> bool:
        """Whether there is a signature at all."""
        return bool(self.signature)

    @property
    def key_id(self) -> str:
        """The signer's key id: SHA-256 of the raw key, 64 hex digits."""
        return hashlib.sha256(self.key).hexdigest()


def entry(name: str, data: bytes) -> FileEntry:
    """The manifest's line for a file called `name` with content `data`."""
    return FileEntry(name=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def write_bundle(
    path: Path,
    manifest: Manifest,
    files: Mapping[str, bytes],
    key: ModelSigningKey | None,
    *,
    signed_at: str | None = None,
) -> str:
    """Write a bundle to `path`, whole or not at all, and return its SHA-256 in hex.

    Without a key the bundle is unsigned and no box will build it. `signed_at` (RFC 3339) is signed with
    the rest. StateError when the disk refuses.
    """
    assert [item.name for item in manifest.files] == list(files), "files are in manifest order"
    body, signature = canonical_json(manifest), b""
    if key is not None:
        additions = {SIGNER: key.public.raw.hex()}
        if signed_at is not None:
            additions[SIGNED_AT] = signed_at
        signature = attest(manifest.model, _digests(manifest, body), additions, key)
    numbers = _NUMBERS.pack(FORMAT, len(body)) + _LENGTH.pack(len(signature))
    parts = [MAGIC, numbers, signature, body, *files.values()]
    write_file(path, *parts)
    return sha256_parts(parts)


def verified_manifest(
    file: BinaryIO, trusted: Mapping[bytes, ModelPublicKey]
) -> tuple[Header, Manifest]:
    """Read header and manifest of an open bundle; `file` then stands at the first file's bytes.

    Raises BundleError (no bundle, cut short), BundleUnsigned, BundleUntrusted, BundleSignature,
    BundleContent; only bytes whose signature a trusted key made are parsed.
    """
    header = read_header(file)
    body = _read_exactly(file, header.manifest_bytes)
    if not header.signed:
        raise BundleUnsigned(
            "the bundle is not signed", remedy="pack it with `--key`, made by keygen"
        )
    if header.format == 1:
        _check_first(header, body, trusted)
        return header, _parse(body)
    return _verified(header, body, trusted)


def unverified_manifest(file: BinaryIO) -> tuple[Header, Manifest]:
    """Read header and manifest without trusting them, to show a bundle to a person."""
    header = read_header(file)
    manifest = _parse(_read_exactly(file, header.manifest_bytes))
    said = read_unverified(header.signature) if header.format > 1 and header.signed else None
    if said is not None:
        key, signed_at = _claimed(said.additions.get(SIGNER, "")), said.additions.get(SIGNED_AT)
        header = replace(header, key=key, signed_at=signed_at)
    return header, manifest


def manifest_body(file: BinaryIO) -> bytes:
    """The manifest of an open bundle as it was signed, byte for byte; `file` stands at the bundle's start."""
    return _read_exactly(file, read_header(file).manifest_bytes)


def read_header(file: BinaryIO) -> Header:
    """Read the head, with nothing of the signature decoded. Raises BundleError when this is no bundle or a newer format."""
    if _read_exactly(file, len(MAGIC)) != MAGIC:
        raise BundleError("the file is not a Holdfast bundle", remedy="give a file made by `pack`")
    number, manifest_bytes = _NUMBERS.unpack(_read_exactly(file, _NUMBERS.size))
    if not 1 <= number <= FORMAT or manifest_bytes > MANIFEST_BYTES_MAX:
        raise BundleError(
            f"bundle format {number} with a manifest of {manifest_bytes} bytes is not readable here",
            remedy="pack it again with this release",
        )
    if number == 1:
        key, signature = _FIRST.unpack(_read_exactly(file, _FIRST.size))
        if not any(key):
            key = signature = b""
        return Header(format=1, manifest_bytes=manifest_bytes, key=key, signature=signature)
    (length,) = _LENGTH.unpack(_read_exactly(file, _LENGTH.size))
    if length > ENVELOPE_BYTES_MAX:
        raise BundleError(f"a signature of {length} bytes is too long", remedy=_ASK_AGAIN)
    signature = _read_exactly(file, length)
    return Header(format=number, manifest_bytes=manifest_bytes, signature=signature)


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


def _check_first(header: Header, body: bytes, trusted: Mapping[bytes, ModelPublicKey]) -> None:
    """Verify format 1."""
    key = trusted.get(header.key)
    if key is None:
        raise BundleUntrusted(
            f"the bundle is signed by key {header.key_id[:16]}, which this box does not trust",
            remedy="if you trust the signer, add the .pub file with `holdfast-compile trust add`",
        )
    if not key.verify(typed_message(MANIFEST_TYPE, body), header.signature):
        raise BundleSignature(
            "the signature does not fit the manifest: it was changed after signing",
            remedy=_ASK_AGAIN,
        )


def _verified(
    header: Header, body: bytes, trusted: Mapping[bytes, ModelPublicKey]
) -> tuple[Header, Manifest]:
    """Verify format 2: the signature, then the manifest by its digest, then what both say of the files."""
    key, said = open_attestation(header.signature, trusted.values())
    check_form(header.signature, key)
    # A source has the same form: who signed one that holds a manifest.json has not signed a bundle.
    if said.additions.get(SIGNER) != key.raw.hex():
        raise BundleSignature(
            "the signature is over a model's files, not over a bundle by this signer",
            remedy="pack it with `--key`",
        )
    if said.files.get(MANIFEST_FILE) != hashlib.sha256(body).hexdigest():
        raise BundleSignature(
            "the manifest does not fit the signature: it was changed after signing",
            remedy=_ASK_AGAIN,
        )
    manifest = _parse(body)
    if said.files != _digests(manifest, body):
        raise BundleContent("signature and manifest name other files", remedy=_ASK_AGAIN)
    header = replace(header, key=key.raw, signed_at=said.additions.get(SIGNED_AT))
    return header, manifest


def _digests(manifest: Manifest, body: bytes) -> dict[str, str]:
    """What is signed: every file's SHA-256, the manifest's among them."""
    files = {item.name: item.sha256 for item in manifest.files}
    return files | {MANIFEST_FILE: hashlib.sha256(body).hexdigest()}


def _claimed(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _parse(body: bytes) -> Manifest:
    try:
        manifest = from_json(body, Manifest, BundleError, where="manifest")
    except BundleError as error:  # its remedy is for who writes a manifest by hand; nobody does
        raise BundleError(str(error), remedy=_ASK_AGAIN) from error
    names = [item.name for item in manifest.files]
    taken = {MANIFEST_FILE, SIGNATURE_NAME}  # where a bundle is unpacked
    fit = all(is_safe_name(name) and name not in taken for name in names)
    if len(set(names)) != len(names) or not fit:
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
