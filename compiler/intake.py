"""A bundle taken in: verified, copied into staging, digested.

Knows: in which order a stranger's file is trusted. Rules: the signature before the first byte is parsed;
what is used afterwards is the copy, never the file as it was received; the digest is of the very bytes
that were verified. Leaves to others: what is built from the copy (`build`).
"""

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from appliance.bundle import Header, extract, open_bundle, verified_manifest
from appliance.errors import BundleContent
from appliance.manifest import (
    BOM_FILE,
    CALIBRATION_FILE,
    GOLDEN_FILE,
    HELD_OUT_FILE,
    MODEL_FILE,
    PROFILE_FILE,
    SOURCE_SIGNATURE_FILE,
    Manifest,
)
from appliance.modelkeys import ModelPublicKey

BUNDLE_FILES = {MODEL_FILE, GOLDEN_FILE, HELD_OUT_FILE, PROFILE_FILE}


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenIn:
    """What a bundle says, who signed it (key id, and when if they say) and the SHA-256 of its file."""

    manifest: Manifest
    signer: str
    sha256: str
    signed_at: str | None = None


class DigestingReader(io.RawIOBase):
    """Reads on from `file` and digests every byte that passes."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer`, whose type has no name before Python 3.12; 0 at the end."""
        data = self._file.read(len(memoryview(buffer)))
        memoryview(buffer)[: len(data)] = data
        self.digest.update(data)
        return len(data)


def take_in(
    path: Path,
    trusted: Mapping[bytes, ModelPublicKey],
    directory: Path,
    admit: Callable[[Header, Manifest], None] | None = None,
) -> TakenIn:
    """Verify the bundle at `path` and copy its files into the empty `directory`.

    `admit` may refuse what is verified before a file of it is copied. Raises BundleError and its kinds,
    StateError when the disk refuses.
    """
    with open_bundle(path) as file:
        digesting = DigestingReader(file)
        reader = io.BufferedReader(digesting)
        header, manifest = verified_manifest(reader, trusted)
        if admit is not None:
            admit(header, manifest)
        _check_names(header, manifest)
        extract(reader, manifest, directory)
        return TakenIn(
            manifest=manifest,
            signer=header.key_id,
            sha256=digesting.digest.hexdigest(),
            signed_at=header.signed_at,
        )


def _check_names(header: Header, manifest: Manifest) -> None:
    names = {item.name for item in manifest.files}
    wanted = BUNDLE_FILES | ({CALIBRATION_FILE} if manifest.calibration is not None else set())
    if header.format > 1:
        wanted = wanted | {BOM_FILE}
    if manifest.source_signer is not None:
        wanted = wanted | {SOURCE_SIGNATURE_FILE}
    if names != wanted:
        raise BundleContent(
            f"the bundle holds {sorted(names)}, not {sorted(wanted)}",
            remedy="pack it again with this release",
        )
