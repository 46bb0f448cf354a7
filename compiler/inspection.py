"""A bundle looked at without trusting it: what it says and whether its signature holds here.

Knows: the states of a signature. Rules: nothing is copied or built; a changed file does not fit,
whatever the signature over the manifest says. Leaves to others: showing it (`wording`).
"""

import io
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from appliance.bundle import (
    Header,
    check_files,
    open_bundle,
    unverified_manifest,
    verified_manifest,
)
from appliance.errors import BundleContent, BundleError
from appliance.files import chunks
from appliance.manifest import Manifest
from appliance.modelkeys import public_key
from appliance.trust import TrustStore
from compiler.intake import DigestingReader


class SignatureState(StrEnum):
    """Whether a bundle would be built here."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"
    UNSIGNED = "unsigned"
    REVOKED = "revoked"
    DOES_NOT_FIT = "does not fit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A bundle's SHA-256, signature state, signer (key id, None when unsigned) and manifest.

    `signed_at` is what the signer says. Whether the signer's time has run out is not told: build does.
    """

    sha256: str
    signature: SignatureState
    signer: str | None
    signed_at: str | None
    manifest: Manifest


def inspect_bundle(path: Path, trust: Path) -> Inspection:
    """Look at the bundle at `path`, with the keys in directory `trust`.

    Raises BundleError when it is no bundle or cut short.
    """
    with open_bundle(path) as file:
        digesting = DigestingReader(file)
        reader = io.BufferedReader(digesting)
        header, manifest = unverified_manifest(reader)
        state = _signed_by(header, TrustStore.read(trust), manifest)
        try:
            check_files(reader, manifest)
        except BundleContent:
            state = SignatureState.DOES_NOT_FIT
        for _ in chunks(reader):
            pass  # the digest is of the whole file, whatever was wrong with it
        if header.signed:
            file.seek(0)
            if not _fits(file, header):
                state = SignatureState.DOES_NOT_FIT
    return Inspection(
        sha256=digesting.digest.hexdigest(),
        signature=state,
        signer=header.key_id if header.key else None,
        signed_at=header.signed_at,
        manifest=manifest,
    )


def _fits(file: BinaryIO, header: Header) -> bool:
    """Whether the signature is that of the key that the bundle itself names, whoever holds it."""
    try:
        key = public_key(header.key)
        verified_manifest(file, {key.raw: key})
    except (BundleError, ValueError):
        return False
    return True


def _signed_by(header: Header, trust: TrustStore, manifest: Manifest) -> SignatureState:
    if not header.signed:
        return SignatureState.UNSIGNED
    key = trust.keys().get(header.key)
    if key is None:
        return SignatureState.UNTRUSTED
    signer = trust.signer(key)
    if signer.revoked is not None:
        return SignatureState.REVOKED
    return SignatureState.TRUSTED if signer.may_sign(manifest.model) else SignatureState.UNTRUSTED
