"""A source model that somebody signed before it came here to be packed.

Knows: how a `model.sig` of OpenSSF model signing is held against files on disk. Rules: every file that it
names must be there and be what was signed, and the model must be one of them; weights in other files count
only where they are named. Leaves to others: the signature's form (`appliance.attestation`), what the box
makes of it (`admission`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from appliance.attestation import ENVELOPE_BYTES_MAX, Attested, open_attestation
from appliance.errors import BundleError, BundleUntrusted, ConfigError, SourceError
from appliance.files import is_safe_name, open_regular, sha256_file
from appliance.modelkeys import load_public

_WHOLE = "."  # how model-signing names a model that is a single file
_SIGN = "sign the model as it is now, and give the public key of who signed it"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedSource:
    """A source whose signature holds: what was signed (SHA-256 by name), by whom, the signature file."""

    files: Mapping[str, str]
    signer: str
    signature: bytes


def source_given(model: Path, signature: Path | None, key: Path | None) -> SignedSource | None:
    """See `signed_source`; None when neither is given, ConfigError when only one is."""
    if signature is None and key is None:
        return None
    if signature is None or key is None:
        raise ConfigError(
            "a signed source needs its signature and the key of who signed it",
            remedy="give --source-signature and --source-key together",
        )
    return signed_source(model, signature, key)


def signed_source(model: Path, signature: Path, key: Path) -> SignedSource:
    """Hold `model`, and all else that `signature` names beside it, against it.

    Raises SourceError, KeyFileError, or BundleError and its kinds for the signature itself.
    """
    data = _read(signature)
    public = load_public(key)
    try:
        _, said = open_attestation(data, [public])
    except BundleUntrusted as error:
        raise BundleUntrusted(f"{signature} was not made by the key {key}", remedy=_SIGN) from error
    except BundleError as error:
        raise type(error)(f"{signature}: {error}", remedy=_SIGN) from error
    root, own = _root(model, said)
    for name, digest in said.files.items():
        path = model if name == own else root / name
        if name != own and not is_safe_name(name):
            raise SourceError(f"{signature} names '{name}'", remedy=_SIGN)
        try:
            same = sha256_file(path) == digest
        except OSError as error:
            raise SourceError(
                f"{signature} names {path}: {error.strerror or error}", remedy=_SIGN
            ) from error
        if not same:
            raise SourceError(f"{path} was changed after it was signed", remedy=_SIGN)
    return SignedSource(files=said.files, signer=public.key_id, signature=data)


def covered_by(signed: Mapping[str, str], sha256: str, files: Mapping[str, str]) -> bool:
    """Whether `signed` names all of a source: one file of digest `sha256`, or `files`.

    `files` are those of `Manifest.source_files`, whose digest `sha256` then is (`compiler.opening.source`).
    """
    if not files:
        return sha256 in signed.values()
    if files_digest(files) != sha256:
        return False
    for own, digest in signed.items():
        beside = PurePosixPath(own).parent
        others = {str(beside / name): value for name, value in files.items() if name}
        if digest == files.get("") and others.items() <= signed.items():
            return True
    return False


def files_digest(files: Mapping[str, str]) -> str:
    """The SHA-256 of a source that is several files, the model's own digest under ""."""
    lines = [f"{digest}  {name}\n" for name, digest in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _root(model: Path, said: Attested) -> tuple[Path, str]:
    """The directory that was signed and the model's name in it. Raises SourceError."""
    if set(said.files) == {_WHOLE}:
        return model.parent, _WHOLE
    parts = model.absolute().parts
    for name in said.files:
        own = PurePosixPath(name).parts
        if own and own == parts[-len(own) :]:
            return Path(*parts[: -len(own)]), name
    raise SourceError(f"the signature does not name {model.name}", remedy=_SIGN)


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(ENVELOPE_BYTES_MAX + 1)
    except OSError as error:
        raise SourceError(
            f"cannot read {path}: {error.strerror}", remedy="check the path"
        ) from error
