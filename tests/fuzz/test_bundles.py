"""Bundles: the header, the signature file, the statement within it, the manifest behind it."""

import base64
import hashlib
import io
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.attestation import PAYLOAD_TYPE, open_attestation, read_unverified
from appliance.bundle import (
    MANIFEST_FILE,
    check_files,
    read_header,
    unverified_manifest,
    verified_manifest,
)
from appliance.errors import BundleError
from appliance.manifest import Manifest
from appliance.modelkeys import P256SigningKey, load_public
from appliance.signing import typed_message
from appliance.tables import from_json
from tests.fuzz.mutating import fuzzed, json_mutants, mutants, refused_or_taken, saved

GOLDEN = Path(__file__).parents[1] / "golden"
BUNDLES = [(GOLDEN / "bundle" / number / "golden.holdfast").read_bytes() for number in "12"]
TRUSTED = {
    key.raw: key
    for key in (load_public(GOLDEN / "bundle" / number / "engineer.pub") for number in "12")
}
TOOL = (GOLDEN / "modelsigning" / "tree" / "model.sig").read_bytes()
KEY = P256SigningKey.generate()  # of a signer who is trusted and lies


def _parts(bundle: bytes) -> tuple[bytes, bytes, bytes]:
    """The signature, the manifest, the files, of format 2."""
    manifest, signature = struct.unpack_from("<4xII", bundle, 8)
    start = 20 + signature
    return bundle[20:start], bundle[start : start + manifest], bundle[start + manifest :]


SIGNATURE, MANIFEST, FILES = _parts(BUNDLES[1])
STATEMENT = base64.b64decode(json.loads(SIGNATURE)["dsseEnvelope"]["payload"])
# What the header says and nothing behind it: most mutants should fall into what is parsed.
HEADS = [bundle[: len(bundle) - len(FILES)] for bundle in BUNDLES]


def _signed(payload: bytes) -> bytes:
    """A signature file over any payload, by the trusted key that lies."""
    said = json.loads(SIGNATURE)
    said["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    signature = KEY.sign(typed_message(PAYLOAD_TYPE, payload))
    said["dsseEnvelope"]["signatures"] = [{"sig": base64.b64encode(signature).decode()}]
    said["verificationMaterial"]["publicKey"] = {}
    return json.dumps(said).encode()


def _shown(data: bytes) -> None:
    """As `inspect` shows a bundle that nobody vouches for."""
    file = io.BytesIO(data)
    unverified_manifest(file)
    check_files(file, unverified_manifest(io.BytesIO(data))[1])


def _taken(data: bytes) -> None:
    """As `build` takes one in."""
    file = io.BytesIO(data)
    _, manifest = verified_manifest(file, TRUSTED)
    check_files(file, manifest)


def _header(data: bytes) -> None:
    read_header(io.BytesIO(data))


def _manifest(data: bytes) -> None:
    from_json(data, Manifest, BundleError, where="manifest")


def _attested(data: bytes) -> None:
    read_unverified(data)
    open_attestation(data, [KEY.public])


def _every(data: bytes) -> None:
    for act in (_shown, _header, _manifest, _attested):
        refused_or_taken(act, data)
    if refused_or_taken(_taken, data) is None:
        assert data in BUNDLES, "a changed bundle was taken"


@fuzzed
@given(mutants(BUNDLES) | mutants(HEADS))
def test_any_changed_bundle_is_refused(data: bytes) -> None:
    _every(data)


@fuzzed
@given(mutants([SIGNATURE, TOOL]) | json_mutants([SIGNATURE, TOOL]))
def test_any_signature_file_is_opened_or_refused(data: bytes) -> None:
    refused_or_taken(_attested, data)


@fuzzed
@given(mutants([STATEMENT]) | json_mutants([STATEMENT]))
def test_any_statement_of_a_trusted_signer_is_read_or_refused(payload: bytes) -> None:
    refused_or_taken(_attested, _signed(payload))


@fuzzed
@given(mutants([MANIFEST]) | json_mutants([MANIFEST]))
def test_any_manifest_of_a_trusted_signer_is_read_or_refused(body: bytes) -> None:
    """The statement names the manifest as it is, and the files as the honest one has them."""
    statement = json.loads(STATEMENT)
    for resource in statement["predicate"]["resources"]:
        if resource["name"] == MANIFEST_FILE:
            resource["digest"] = hashlib.sha256(body).hexdigest()
    root = hashlib.sha256()
    for resource in statement["predicate"]["resources"]:
        root.update(bytes.fromhex(resource["digest"]))
    statement["subject"][0]["digest"] = {"sha256": root.hexdigest()}
    signature = _signed(json.dumps(statement).encode())
    head = b"HOLDFAST" + struct.pack("<III", 2, len(body), len(signature))

    def _lying(data: bytes) -> None:
        file = io.BytesIO(data)
        _, manifest = verified_manifest(file, {KEY.public.raw: KEY.public})
        check_files(file, manifest)

    refused_or_taken(_lying, head + signature + body + FILES)
    refused_or_taken(_manifest, body)


@fuzzed
@given(st.binary(max_size=200))
def test_any_bytes_are_no_bundle(data: bytes) -> None:
    _every(data)


@pytest.mark.parametrize("path", saved("bundles"), ids=lambda path: path.name)
def test_saved_cases(path: Path) -> None:
    _every(path.read_bytes())
    refused_or_taken(_attested, _signed(path.read_bytes()))
