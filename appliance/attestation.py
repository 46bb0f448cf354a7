"""What a signer says of files, in the field's own form: the OpenSSF model signature.

Knows: the in-toto statement with its model-signing predicate, the DSSE envelope around it and the Sigstore
bundle around that, which is the `model.sig` that the `model-signing` tool reads and writes
(sigstore/model-transparency, format v1.0; in-toto/attestation v1; secure-systems-lab/dsse v1). Rules: of a
signature file only the envelope is decoded before its signature is verified, within a bound and into typed
fields; what it says is opaque until then. Leaves to others: whose key is trusted, and the files themselves.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from appliance.errors import BundleError, BundleSignature, BundleUnsigned, BundleUntrusted
from appliance.modelkeys import ModelPublicKey, ModelSigningKey, hint_of
from appliance.signing import typed_message
from appliance.tables import canonical_json, from_json

SIGNATURE_NAME = "model.sig"
ENVELOPE_BYTES_MAX = 4 << 20
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_AGAIN = "copy the file again or ask who signed it"


class Signature(msgspec.Struct, frozen=True):
    """One signature of an envelope, base64; `keyid` is empty, as the tool writes it."""

    sig: str
    keyid: str = ""


class Envelope(msgspec.Struct, frozen=True, rename="camel"):
    """DSSE: a payload, base64, and the one signature over it and its type that a Sigstore bundle may hold."""

    payload: str
    payload_type: str
    signatures: Annotated[tuple[Signature, ...], msgspec.Meta(max_length=1)]


class KeyName(msgspec.Struct, frozen=True):
    """Which key signed: see `appliance.modelkeys.hint_of`; None in files of the tool's first release."""

    hint: str | None = None


class Material(msgspec.Struct, frozen=True, rename="camel"):
    """What a Sigstore bundle holds to verify by: here a public key's name, and no transparency log."""

    public_key: KeyName
    tlog_entries: tuple[()] = ()


class SignatureFile(msgspec.Struct, frozen=True, rename="camel"):
    """The whole of a `model.sig`."""

    media_type: str
    verification_material: Material
    dsse_envelope: Envelope


class Resource(msgspec.Struct, frozen=True):
    """One file that is signed: its relative name ("." for a model that is a single file) and digest."""

    name: str
    algorithm: str
    digest: str


class Subject(msgspec.Struct, frozen=True):
    """What the statement is about: its name, and a digest over all resources' digests in their order."""

    name: str
    digest: dict[str, str]


class Predicate(msgspec.Struct, frozen=True):
    """What is said; `holdfast` holds our own additions, which the format lets others pass over."""

    serialization: dict[str, Any]
    resources: tuple[Resource, ...]
    holdfast: dict[str, str] = {}


class Statement(msgspec.Struct, frozen=True, rename={"kind": "_type", "about": "predicateType"}):
    """An in-toto statement v1 with the model-signing predicate."""

    subject: tuple[Subject, ...]
    predicate: Predicate
    kind: str = STATEMENT_TYPE
    about: str = PREDICATE_TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """What a statement says: of what, SHA-256 by file name, and our own additions to it."""

    name: str
    files: Mapping[str, str]
    additions: Mapping[str, str]


def attest(
    name: str, files: Mapping[str, str], additions: Mapping[str, str], key: ModelSigningKey
) -> bytes:
    """The signature file over `files` (SHA-256 in hex by relative name); equal input gives equal bytes."""
    resources = tuple(
        Resource(name=path, algorithm="sha256", digest=files[path]) for path in sorted(files)
    )
    said = Statement(
        subject=(Subject(name=name, digest={"sha256": _root(resources)}),),
        predicate=Predicate(
            serialization={
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [SIGNATURE_NAME],
            },
            resources=resources,
            holdfast=dict(additions),
        ),
    )
    payload = canonical_json(said)
    return _spelled(payload, key.sign(typed_message(PAYLOAD_TYPE, payload)), key.public)


def open_attestation(
    data: bytes, keys: Iterable[ModelPublicKey]
) -> tuple[ModelPublicKey, Attested]:
    """Which one of `keys` signed the signature file `data`, and what it says.

    Raises BundleError (no such file), BundleUnsigned, BundleUntrusted (by none of `keys`), BundleSignature.
    """
    file = _decode(data)
    key = _signer(file, list(keys))
    payload, signature = _decoded(file.dsse_envelope.payload), _first(file)
    if not key.verify(typed_message(PAYLOAD_TYPE, payload), signature):
        raise BundleSignature(
            "the signature does not fit: what it is over was changed after signing", remedy=_AGAIN
        )
    return key, _read(payload)


def check_form(data: bytes, key: ModelPublicKey) -> None:
    """Raise BundleError unless the signature file `data`, by `key`, is in the one form that `attest` writes.

    A field that nobody signed, or another spelling of the same bytes, would make another file of a signed one, which no
    list of files knows.
    """
    file = _decode(data)
    if _spelled(_decoded(file.dsse_envelope.payload), _first(file), key) != data:
        raise BundleError("the signature was written anew after signing", remedy=_AGAIN)


def read_unverified(data: bytes) -> Attested | None:
    """What a signature file says without trusting it, to show it; None where it says nothing."""
    try:
        return _read(_decoded(_decode(data).dsse_envelope.payload))
    except BundleError:
        return None


def _spelled(payload: bytes, signature: bytes, key: ModelPublicKey) -> bytes:
    return canonical_json(
        SignatureFile(
            media_type=MEDIA_TYPE,
            verification_material=Material(public_key=KeyName(hint=hint_of(key))),
            dsse_envelope=Envelope(
                payload=base64.b64encode(payload).decode(),
                payload_type=PAYLOAD_TYPE,
                signatures=(Signature(sig=base64.b64encode(signature).decode()),),
            ),
        )
    )


def _decode(data: bytes) -> SignatureFile:
    if len(data) > ENVELOPE_BYTES_MAX:
        raise BundleError("the signature file is too long", remedy=_AGAIN)
    try:
        file = from_json(data, SignatureFile, BundleError, where=SIGNATURE_NAME)
    except BundleError as error:
        raise BundleError(str(error), remedy=_AGAIN) from error
    if file.media_type != MEDIA_TYPE or file.dsse_envelope.payload_type != PAYLOAD_TYPE:
        raise BundleError(
            f"the signature file holds {file.media_type} with {file.dsse_envelope.payload_type}",
            remedy=f"sign it as {MEDIA_TYPE} with {PAYLOAD_TYPE}",
        )
    return file


def _signer(file: SignatureFile, keys: list[ModelPublicKey]) -> ModelPublicKey:
    """The key that the file names; where it names none, the only one that there is."""
    hint = file.verification_material.public_key.hint
    if hint is None and len(keys) == 1:
        return keys[0]
    for key in keys:
        if hint == hint_of(key):
            return key
    raise BundleUntrusted(
        f"it is signed by the key with hint {(hint or 'none')[:16]}, which this box does not trust",
        remedy="if you trust the signer, add the .pub file with `holdfast-compile trust add`",
    )


def _first(file: SignatureFile) -> bytes:
    if not file.dsse_envelope.signatures:
        raise BundleUnsigned("the envelope holds no signature", remedy="pack it with `--key`")
    return _decoded(file.dsse_envelope.signatures[0].sig)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BundleError(
            "the signature file is not base64 where it must be", remedy=_AGAIN
        ) from error


def _read(payload: bytes) -> Attested:
    """A payload's meaning. Raises BundleError when it is not the statement that it must be."""
    said = from_json(payload, Statement, BundleError, where="statement")
    predicate = said.predicate
    if (said.kind, said.about) != (STATEMENT_TYPE, PREDICATE_TYPE) or len(said.subject) != 1:
        raise BundleError(
            f"the statement is {said.about}, not {PREDICATE_TYPE} about one subject",
            remedy="sign it with model-signing 1.0 or newer",
        )
    kinds = {item.algorithm for item in predicate.resources}
    if predicate.serialization.get("method") != "files" or not kinds <= {"sha256"}:
        raise BundleError(
            "the statement is not of whole files by SHA-256",
            remedy="sign with model-signing's own defaults: files, sha256",
        )
    files = {item.name: item.digest for item in predicate.resources}
    try:
        root = _root(predicate.resources)
    except ValueError:
        root = ""
    if len(files) != len(predicate.resources) or said.subject[0].digest.get("sha256") != root:
        raise BundleError("the statement contradicts itself", remedy=_AGAIN)
    return Attested(name=said.subject[0].name, files=files, additions=predicate.holdfast)


def _root(resources: Iterable[Resource]) -> str:
    digest = hashlib.sha256()
    for item in resources:
        digest.update(bytes.fromhex(item.digest))
    return digest.hexdigest()
