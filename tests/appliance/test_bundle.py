"""The signed file that travels: every region of it is under the signature or a digest."""

import hashlib
import io
import os

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance import bundle, errors
from appliance.manifest import FileEntry
from appliance.signing import SigningKey

KEY = SigningKey.generate()
STRANGER = SigningKey.generate()
TRUSTED = {KEY.public.raw: KEY.public}
HEADER_BYTES = 112


@pytest.fixture
def packed(tmp_path, manifest, contents) -> bytes:
    """A signed bundle's bytes."""
    path = tmp_path / "x.holdfast"
    bundle.write_bundle(path, manifest, contents, KEY)
    return path.read_bytes()


def open_all(data: bytes, directory):
    """What a build does first: verify, then take the files out."""
    file = io.BytesIO(data)
    _, manifest = bundle.verified_manifest(file, TRUSTED)
    bundle.extract(file, manifest, directory)
    return manifest


def test_a_bundle_survives_its_file(tmp_path, packed, manifest, contents):
    assert open_all(packed, tmp_path / "out") == manifest
    for name, data in contents.items():
        assert (tmp_path / "out" / name).read_bytes() == data


def test_equal_content_gives_equal_bytes(tmp_path, packed, manifest, contents):
    digest = bundle.write_bundle(tmp_path / "again", manifest, contents, KEY)
    assert (tmp_path / "again").read_bytes() == packed
    assert digest == hashlib.sha256(packed).hexdigest()


def test_the_layout_is_as_documented(packed, manifest):
    assert packed[:8] == b"HOLDFAST"
    assert int.from_bytes(packed[8:12], "little") == 1
    size = int.from_bytes(packed[12:16], "little")
    assert packed[16:48] == KEY.public.raw
    body = packed[HEADER_BYTES : HEADER_BYTES + size]
    message = b"DSSEv1 %d %b %d %b" % (
        len(bundle.MANIFEST_TYPE),
        bundle.MANIFEST_TYPE.encode(),
        size,
        body,
    )
    assert KEY.public.verify(message, packed[48:112])
    assert msgspec.json.decode(body)["model"] == manifest.model


def test_an_unsigned_bundle_is_refused(tmp_path, manifest, contents):
    path = tmp_path / "unsigned"
    bundle.write_bundle(path, manifest, contents, None)
    with pytest.raises(errors.BundleUnsigned) as refused:
        open_all(path.read_bytes(), tmp_path / "out")
    assert refused.value.code == "bundle.unsigned"


def test_a_bundle_signed_by_a_stranger_is_refused(tmp_path, manifest, contents):
    path = tmp_path / "foreign"
    bundle.write_bundle(path, manifest, contents, STRANGER)
    with pytest.raises(errors.BundleUntrusted) as refused:
        open_all(path.read_bytes(), tmp_path / "out")
    assert STRANGER.public.key_id[:16] in str(refused.value)


def test_a_manifest_is_not_parsed_before_its_signature_is_verified(tmp_path, packed, monkeypatch):
    monkeypatch.setattr(bundle, "from_json", lambda *_a, **_k: pytest.fail("parsed"))
    changed = bytearray(packed)
    changed[HEADER_BYTES + 1] ^= 1
    with pytest.raises(errors.BundleSignature):
        open_all(bytes(changed), tmp_path / "out")


@pytest.mark.parametrize(
    ("at", "refusal"),
    [
        (0, errors.BundleError),  # magic
        (8, errors.BundleError),  # format
        (15, errors.BundleError),  # manifest length, now beyond its limit
        (20, errors.BundleUntrusted),  # the signer's key
        (60, errors.BundleSignature),
        (HEADER_BYTES + 5, errors.BundleSignature),  # manifest
        (-60, errors.BundleContent),  # the model
        (-1, errors.BundleContent),  # the last file
    ],
)
def test_a_changed_byte_is_found_in_every_region(tmp_path, packed, at, refusal):
    changed = bytearray(packed)
    changed[at] ^= 0x80
    with pytest.raises(refusal) as refused:
        open_all(bytes(changed), tmp_path / "out")
    assert type(refused.value) is refusal
    assert refused.value.remedy


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_mutilated_bundle_is_taken(tmp_path_factory, packed, data):
    """A flipped byte anywhere, a cut anywhere, bytes added anywhere."""
    at = data.draw(st.integers(0, len(packed) - 1))
    change = data.draw(st.integers(1, 255))
    kind = data.draw(st.sampled_from(["flip", "cut", "add"]))
    mutilated = {
        "flip": packed[:at] + bytes([packed[at] ^ change]) + packed[at + 1 :],
        "cut": packed[:at],
        "add": packed[: at + 1] + bytes([change]) + packed[at + 1 :],
    }[kind]
    with pytest.raises(errors.BundleError):
        open_all(mutilated, tmp_path_factory.mktemp("out"))


@pytest.mark.parametrize("size", [0, 7, 8, 50, HEADER_BYTES, HEADER_BYTES + 9])
def test_a_bundle_cut_short_says_so(packed, size):
    with pytest.raises(errors.BundleError) as refused:
        bundle.verified_manifest(io.BytesIO(packed[:size]), TRUSTED)
    assert "cut short" in str(refused.value)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "", "."])
def test_a_signed_name_outside_the_bundle_is_refused(tmp_path, manifest, contents, name):
    files = (*manifest.files, FileEntry(name=name, bytes=0, sha256=hashlib.sha256().hexdigest()))
    path = tmp_path / "x"
    bundle.write_bundle(
        path, msgspec.structs.replace(manifest, files=files), contents | {name: b""}, KEY
    )
    with pytest.raises(errors.BundleContent):
        open_all(path.read_bytes(), tmp_path / "out")


def test_a_name_given_twice_is_refused(manifest):
    twice = msgspec.structs.replace(manifest, files=manifest.files * 2)
    body = bundle.canonical_json(twice)
    with pytest.raises(errors.BundleContent):
        bundle._parse(body)


def test_a_directory_that_takes_no_files_is_told_as_such(tmp_path, packed):
    (tmp_path / "out").write_bytes(b"in the way")
    with pytest.raises(errors.StateError):
        open_all(packed, tmp_path / "out")


def test_files_can_be_checked_without_taking_them_out(packed):
    for data, fits in ((packed, True), (packed[:-1] + b"?", False), (packed + b"?", False)):
        file = io.BytesIO(data)
        _, manifest = bundle.unverified_manifest(file)
        if fits:
            bundle.check_files(file, manifest)
            continue
        with pytest.raises(errors.BundleContent):
            bundle.check_files(file, manifest)


def test_only_a_regular_file_of_bearable_size_is_opened(tmp_path, monkeypatch, packed):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "x").write_bytes(packed)
    with bundle.open_bundle(tmp_path / "x") as file:
        assert file.read(8) == bundle.MAGIC
    for name in ("pipe", "missing", "."):
        with pytest.raises(errors.BundleError):
            bundle.open_bundle(tmp_path / name)
    monkeypatch.setattr(bundle, "BUNDLE_BYTES_MAX", 100)
    with pytest.raises(errors.BundleError) as refused:
        bundle.open_bundle(tmp_path / "x")
    assert "more than 100" in str(refused.value)


def test_trust_is_a_directory_of_public_keys(tmp_path):
    with pytest.raises(errors.KeyFileError) as refused:
        bundle.require_trust(bundle.trusted_keys(tmp_path / "trust"), tmp_path / "trust")
    assert "trust" in str(refused.value)
    KEY.public.save(tmp_path / "trust" / "engineer.pub")
    trusted = bundle.trusted_keys(tmp_path / "trust")
    assert list(trusted) == [KEY.public.raw]
    bundle.require_trust(trusted, tmp_path / "trust")
