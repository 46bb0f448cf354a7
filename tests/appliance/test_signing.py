"""Ed25519 keys: files, signatures, and what is no key."""

import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import KeyFileError
from appliance.signing import PublicKey, SigningKey, typed_message

KEY = SigningKey.generate()


def test_a_key_survives_its_files_and_the_private_half_is_the_owners_alone(tmp_path):
    KEY.save(tmp_path / "a.pem")
    assert stat.S_IMODE((tmp_path / "a.pem").stat().st_mode) == 0o600
    public = PublicKey.load(tmp_path / "a.pub")
    assert public.raw == KEY.public.raw
    assert public.verify(b"m", SigningKey.load(tmp_path / "a.pem").sign(b"m"))
    assert PublicKey.from_raw(public.raw).key_id == public.key_id


def test_the_box_key_is_made_once(tmp_path):
    path = tmp_path / "keys" / "box.pem"
    first = SigningKey.load_or_generate(path)
    assert SigningKey.load_or_generate(path).public.raw == first.public.raw
    assert PublicKey.load(path.with_suffix(".pub")).raw == first.public.raw


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_signature_fits_one_message_and_one_key(message, other):
    signature = KEY.sign(message)
    assert KEY.public.verify(message, signature)
    assert KEY.public.verify(other, signature) == (message == other)
    assert not SigningKey.generate().public.verify(message, signature)


@given(st.integers(0, 511))
def test_a_changed_bit_of_a_signature_is_seen(bit):
    signature = bytearray(KEY.sign(b"message"))
    signature[bit // 8] ^= 1 << bit % 8
    assert not KEY.public.verify(b"message", bytes(signature))


def test_what_is_signed_names_its_type():
    # The example of the DSSE protocol, https://github.com/secure-systems-lab/dsse.
    assert typed_message("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@pytest.mark.parametrize("load", [SigningKey.load, PublicKey.load])
@pytest.mark.parametrize("content", [None, b"", b"not a key", "x25519"])
def test_what_is_no_ed25519_key_is_refused(tmp_path, load, content):
    path = tmp_path / "key"
    if content == "x25519":
        content = _x25519(private=load == SigningKey.load)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyFileError) as refused:
        load(path)
    assert refused.value.code == "key.unusable"
    assert "keygen" in refused.value.remedy


def test_a_public_key_is_no_private_key(tmp_path):
    KEY.save(tmp_path / "a.pem")
    with pytest.raises(KeyFileError):
        SigningKey.load(tmp_path / "a.pub")
    with pytest.raises(KeyFileError):
        PublicKey.load(tmp_path / "a.pem")


def _x25519(*, private: bool) -> bytes:
    """A key of a neighbouring kind, which must not pass for a signing key."""
    key = X25519PrivateKey.generate()
    if private:
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
