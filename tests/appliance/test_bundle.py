"""The signed file that travels: every region of it is under the signature or a digest."""

import base64
import hashlib
import io
import os

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance import attestation, bundle, errors
from appliance.manifest import FileEntry
from appliance.modelkeys import P256SigningKey, hint_of
from appliance.signing import SigningKey, typed_message

KEY = SigningKey.generate()
POINT = P256SigningKey.generate()
STRANGER = SigningKey.generate()
TRUSTED = {key.public.raw: key.public for key in (KEY, POINT)}
FIRST_BYTES, HEAD_BYTES = 112, 20


@pytest.fixture(params=[KEY, POINT], ids=["ed25519", "p256"])
def key(request):
    """Bundles are signed by either kind."""
    return request.param


@pytest.fixture
def packed(tmp_path, manifest, contents, key) -> bytes:
    """A signed bundle's bytes."""
    path = tmp_path / "x.holdfast"
    bundle.write_bundle(path, manifest, contents, key)
    return path.read_bytes()


@pytest.fixture
def first(manifest, contents) -> bytes:
    """The same content in format 1, as release 0.1 wrote it."""
    body = bundle.canonical_json(manifest)
    signature = KEY.sign(typed_message(bundle.MANIFEST_TYPE, body))
    numbers = (1).to_bytes(4, "little") + len(body).to_bytes(4, "little")
    return b"HOLDFAST" + numbers + KEY.public.raw + signature + body + b"".join(contents.values())


def parts_of(packed: bytes) -> tuple[int, int]:
    """Where the manifest begins and ends."""
    signature = int.from_bytes(packed[16:20], "little")
    begins = HEAD_BYTES + signature
    return begins, begins + int.from_bytes(packed[12:16], "little")


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


def test_a_bundle_of_format_1_still_opens(tmp_path, first, manifest):
    assert open_all(first, tmp_path / "out") == manifest


def test_equal_content_gives_equal_bytes(tmp_path, packed, manifest, contents, key):
    digest = bundle.write_bundle(tmp_path / "again", manifest, contents, key)
    assert (tmp_path / "again").read_bytes() == packed
    assert digest == hashlib.sha256(packed).hexdigest()


def test_the_layout_is_as_documented(packed, manifest, key):
    assert packed[:8] == b"HOLDFAST"
    assert int.from_bytes(packed[8:12], "little") == 2
    begins, ends = parts_of(packed)
    told = msgspec.json.decode(packed[HEAD_BYTES:begins])
    envelope = told["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    message = b"DSSEv1 28 application/vnd.in-toto+json %d %b" % (len(payload), payload)
    assert key.public.verify(message, base64.b64decode(envelope["signatures"][0]["sig"]))
    statement = msgspec.json.decode(payload)
    digests = {item["name"]: item["digest"] for item in statement["predicate"]["resources"]}
    body = packed[begins:ends]
    assert digests["manifest.json"] == hashlib.sha256(body).hexdigest()
    assert set(digests) == {"manifest.json", *(item.name for item in manifest.files)}
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
    assert hint_of(STRANGER.public)[:16] in str(refused.value)


def test_a_bundle_of_format_1_by_a_stranger_is_refused(tmp_path, first):
    changed = first[:16] + STRANGER.public.raw + first[48:]
    with pytest.raises(errors.BundleUntrusted) as refused:
        open_all(changed, tmp_path / "out")
    assert STRANGER.public.key_id[:16] in str(refused.value)


def test_a_manifest_is_not_parsed_before_its_signature_is_verified(tmp_path, packed, monkeypatch):
    monkeypatch.setattr(bundle, "from_json", lambda *_a, **_k: pytest.fail("parsed"))
    changed = bytearray(packed)
    changed[parts_of(packed)[0] + 1] ^= 1
    with pytest.raises(errors.BundleSignature):
        open_all(bytes(changed), tmp_path / "out")


def test_a_statement_is_not_parsed_before_its_signature_is_verified(tmp_path, packed, monkeypatch):
    monkeypatch.setattr(attestation, "_read", lambda *_a: pytest.fail("parsed"))
    told = msgspec.json.decode(packed[HEAD_BYTES : parts_of(packed)[0]])
    payload = base64.b64decode(told["dsseEnvelope"]["payload"]).replace(b"tiny", b"tony")
    told["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    changed = msgspec.json.encode(told)
    data = packed[:16] + len(changed).to_bytes(4, "little") + changed
    with pytest.raises(errors.BundleSignature):
        open_all(data + packed[parts_of(packed)[0] :], tmp_path / "out")


@pytest.mark.parametrize(
    ("form", "at", "refusal"),
    [
        ("packed", 0, errors.BundleError),  # magic
        ("packed", 8, errors.BundleError),  # format
        ("packed", 15, errors.BundleError),  # manifest length, now beyond its limit
        ("packed", 19, errors.BundleError),  # signature length, now beyond its limit
        ("packed", 20, errors.BundleError),  # the signature file, which is no JSON now
        ("packed", "manifest", errors.BundleSignature),
        ("packed", -60, errors.BundleContent),  # the model
        ("packed", -1, errors.BundleContent),  # the last file
        ("first", 15, errors.BundleError),  # manifest length
        ("first", 20, errors.BundleUntrusted),  # the signer's key
        ("first", 60, errors.BundleSignature),
        ("first", FIRST_BYTES + 5, errors.BundleSignature),  # manifest
        ("first", -1, errors.BundleContent),
    ],
)
def test_a_changed_byte_is_found_in_every_region(tmp_path, packed, first, *, form, at, refusal):
    data = packed if form == "packed" else first
    changed = bytearray(data)
    changed[parts_of(data)[0] + 5 if at == "manifest" else at] ^= 0x80
    with pytest.raises(refusal) as refused:
        open_all(bytes(changed), tmp_path / "out")
    assert type(refused.value) is refusal
    assert refused.value.remedy


def test_a_signature_is_spelled_in_one_way_only(packed):
    for at in range(HEAD_BYTES, parts_of(packed)[0]):
        for bit in (1, 8, 32):
            changed = packed[:at] + bytes([packed[at] ^ bit]) + packed[at + 1 :]
            with pytest.raises(errors.BundleError):
                bundle.verified_manifest(io.BytesIO(changed), TRUSTED)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("verificationMaterial", "publicKey", {"hint": None}),  # the only trusted key is taken then
        ("dsseEnvelope", "signatures", "keyid"),
    ],
)
def test_a_field_that_nobody_signed_is_as_it_was_written(packed, key, part, field, value):
    start = parts_of(packed)[0]
    told = msgspec.json.decode(packed[HEAD_BYTES:start])
    if value == "keyid":
        value = [told[part][field][0] | {"keyid": "x"}]
    told[part][field] = value
    changed = bundle.canonical_json(told)
    data = packed[:16] + len(changed).to_bytes(4, "little") + changed + packed[start:]
    with pytest.raises(errors.BundleError) as refused:
        bundle.verified_manifest(io.BytesIO(data), {key.public.raw: key.public})
    assert "written anew" in str(refused.value)


@pytest.mark.parametrize("form", ["packed", "first"])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_mutilated_bundle_is_taken(tmp_path_factory, packed, first, form, data):
    """A flipped byte anywhere, a cut anywhere, bytes added anywhere."""
    packed = packed if form == "packed" else first
    at = data.draw(st.integers(0, len(packed) - 1))
    change = data.draw(st.integers(1, 255))
    kind = data.draw(st.sampled_from(["flip", "cut", "add"]))
    mutilated = {
        "flip": packed[:at] + bytes([packed[at] ^ change]) + packed[at + 1 :],
        "cut": packed[:at],
        "add": packed[: at + 1] + bytes([change]) + packed[at + 1 :],
    }[kind]
    directory = tmp_path_factory.mktemp("out")
    with pytest.raises(errors.BundleError):
        open_all(mutilated, directory)


@pytest.mark.parametrize("size", [0, 7, 8, 15, 19, 50, 1000])
def test_a_bundle_cut_short_says_so(packed, first, size):
    with pytest.raises(errors.BundleError) as refused:
        bundle.verified_manifest(io.BytesIO(first[: min(size, 120)]), TRUSTED)
    assert "cut short" in str(refused.value)
    with pytest.raises(errors.BundleError) as refused:
        bundle.verified_manifest(io.BytesIO(packed[:size]), TRUSTED)
    assert "cut short" in str(refused.value)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a/../../evil", "", ".", "model.sig", "manifest.json"]
)
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


def test_what_a_signature_says_must_be_what_the_manifest_says(tmp_path, manifest, contents):
    named = {item.name: item.sha256 for item in manifest.files[1:]}
    data = joined(manifest, contents, named, {"signer": KEY.public.raw.hex()})
    with pytest.raises(errors.BundleContent):
        open_all(data, tmp_path / "out")


@pytest.mark.parametrize("additions", [{}, {"signer": POINT.public.raw.hex()}])
def test_who_signed_a_source_that_looks_like_a_bundle_signed_no_bundle(
    tmp_path, manifest, contents, additions
):
    named = {item.name: item.sha256 for item in manifest.files}
    with pytest.raises(errors.BundleSignature) as refused:
        open_all(joined(manifest, contents, named, additions), tmp_path / "out")
    assert "not over a bundle" in str(refused.value)
    said = {"signer": KEY.public.raw.hex()}
    assert open_all(joined(manifest, contents, named, said), tmp_path / "out")


def test_a_signed_bundle_does_not_pass_as_format_1(tmp_path, manifest, contents):
    """Relabelled, its statement is no manifest and its signature is of another type."""
    body = bundle.canonical_json(manifest)
    signed = KEY.sign(typed_message(attestation.PAYLOAD_TYPE, body))
    head = b"HOLDFAST" + (1).to_bytes(4, "little") + len(body).to_bytes(4, "little")
    with pytest.raises(errors.BundleSignature):
        open_all(head + KEY.public.raw + signed + body, tmp_path / "out")


def joined(manifest, contents, named, additions) -> bytes:
    """A bundle of format 2 whose statement names `named` beside the manifest, and says `additions`."""
    body = bundle.canonical_json(manifest)
    named = named | {"manifest.json": hashlib.sha256(body).hexdigest()}
    signature = attestation.attest("tiny", named, additions, KEY)
    lengths = len(body).to_bytes(4, "little") + len(signature).to_bytes(4, "little")
    head = b"HOLDFAST" + (2).to_bytes(4, "little") + lengths
    return head + signature + body + b"".join(contents.values())


def test_a_header_tells_what_is_claimed_and_what_is_verified(tmp_path, manifest, contents):
    path = tmp_path / "x"
    bundle.write_bundle(path, manifest, contents, POINT, signed_at="2026-11-21T08:00:00Z")
    with path.open("rb") as file:
        header, _ = bundle.unverified_manifest(file)
        assert (header.key, header.signed_at) == (POINT.public.raw, "2026-11-21T08:00:00Z")
        file.seek(0)
        assert bundle.read_header(file).key == b""
        file.seek(0)
        assert bundle.manifest_body(file) == bundle.canonical_json(manifest)
        file.seek(0)
        header, _ = bundle.verified_manifest(file, TRUSTED)
        assert header.key_id == POINT.public.key_id
