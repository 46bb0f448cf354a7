"""A bundle looked at without trusting it: what it says and whether its signature holds here.

Knows: the four states of a signature. Rules: nothing is copied or built; a changed file does not fit,
whatever the signature over the manifest says. Leaves to others: showing it (`wording`).
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from appliance.bundle import (
    Header,
    check_files,
    open_bundle,
    trusted_keys,
    unverified_manifest,
    verified_manifest,
)
from appliance.errors import BundleContent, BundleSignature
from appliance.files import chunks
from appliance.manifest import Manifest
from appliance.signing import PublicKey
from compiler.intake import DigestingReader


class SignatureState(StrEnum):
    """Whether a bundle would be built here."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"
    UNSIGNED = "unsigned"
    DOES_NOT_FIT = "does not fit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A bundle's SHA-256, signature state, signer (key id, None when unsigned) and manifest."""

    sha256: str
    signature: SignatureState
    signer: str | None
    manifest: Manifest


def inspect_bundle(path: Path, trust: Path) -> Inspection:
    """Look at the bundle at `path`, with the keys in directory `trust`.

    Raises BundleError when it is no bundle or cut short.
    """
    with open_bundle(path) as file:
        digesting = DigestingReader(file)
        reader = io.BufferedReader(digesting)
        header, manifest = unverified_manifest(reader)
        state = _signed_by(header, trusted_keys(trust))
        try:
            check_files(reader, manifest)
        except BundleContent:
            state = SignatureState.DOES_NOT_FIT
        for _ in chunks(reader):
            pass  # the digest is of the whole file, whatever was wrong with it
        try:
            if header.signed:
                file.seek(0)
                verified_manifest(file, {header.key: PublicKey.from_raw(header.key)})
        except BundleSignature:
            state = SignatureState.DOES_NOT_FIT
    return Inspection(
        sha256=digesting.digest.hexdigest(),
        signature=state,
        signer=header.key_id if header.signed else None,
        manifest=manifest,
    )


def _signed_by(header: Header, trusted: Mapping[bytes, PublicKey]) -> SignatureState:
    if not header.signed:
        return SignatureState.UNSIGNED
    return SignatureState.TRUSTED if header.key in trusted else SignatureState.UNTRUSTED
