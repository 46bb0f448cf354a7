"""Both kinds of key show the same face, and the same bytes and key give the same signature."""

import hashlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance import modelkeys
from appliance.errors import KeyFileError
from appliance.signing import SigningKey


@pytest.fixture(params=["ed25519", "p256"])
def key(request):
    kinds = {"ed25519": SigningKey, "p256": modelkeys.P256SigningKey}
    return kinds[request.param].generate()


def test_a_key_survives_its_files(tmp_path, key):
    key.save(tmp_path / "k.pem")
    assert (tmp_path / "k.pem").stat().st_mode & 0o777 == 0o600
    again = modelkeys.load_signing(tmp_path / "k.pem")
    public = modelkeys.load_public(tmp_path / "k.pub")
    assert again.sign(b"x") == key.sign(b"x")
    assert public.verify(b"x", key.sign(b"x"))
    assert not public.verify(b"y", key.sign(b"x"))
    assert not public.verify(b"x", b"no signature")
    assert (public.raw, public.key_id) == (key.public.raw, hashlib.sha256(public.raw).hexdigest())
    assert modelkeys.public_key(public.raw).verify(b"x", key.sign(b"x"))


def test_the_hint_is_of_the_file(tmp_path, key):
    key.save(tmp_path / "k.pem")
    pem = (tmp_path / "k.pub").read_bytes()
    assert modelkeys.pem_of(key.public) == pem
    assert modelkeys.hint_of(key.public) == hashlib.sha256(pem).hexdigest()
    public = modelkeys.public_key(key.public.raw)
    public.save(tmp_path / "again.pub")
    assert (tmp_path / "again.pub").read_bytes() == pem


def test_kinds_have_names():
    assert modelkeys.kind_of(SigningKey.generate().public) == "ed25519"
    assert modelkeys.kind_of(modelkeys.P256SigningKey.generate().public) == "p256"


@pytest.mark.parametrize("raw", [b"", b"x" * 31, b"x" * 65, b"\x04" + b"\xff" * 64])
def test_what_is_no_key_is_refused(raw):
    with pytest.raises(ValueError):
        modelkeys.public_key(raw)


def test_other_curves_and_other_files_are_refused(tmp_path):
    other = ec.generate_private_key(ec.SECP384R1())
    private = tmp_path / "other.pem"
    private.write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public = tmp_path / "other.pub"
    public.write_bytes(
        other.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    (tmp_path / "text").write_text("no key")
    for path in (public, tmp_path / "text", tmp_path / "missing"):
        with pytest.raises(KeyFileError):
            modelkeys.load_public(path)
    for path in (private, tmp_path / "text", tmp_path / "missing"):
        with pytest.raises(KeyFileError):
            modelkeys.load_signing(path)
