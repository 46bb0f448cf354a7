"""Ed25519 keys and signatures.

Knows: key files (PKCS#8 and SubjectPublicKeyInfo PEM), the DSSE pre-authentication encoding. Rules: a
private key file is readable by its owner alone; what is signed always names its type. Leaves to others:
what is signed and who is trusted where.
"""

import hashlib
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.errors import KeyFileError
from appliance.files import write_file

KEY_BYTES = 32
SIGNATURE_BYTES = 64


class PublicKey:
    """An Ed25519 public key; `raw` is its 32 bytes (RFC 8032), `key_id` their SHA-256 in hex."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.raw = key.public_bytes_raw()
        self.key_id = hashlib.sha256(self.raw).hexdigest()

    @classmethod
    def from_raw(cls, raw: bytes) -> Self:
        """Make the key from its 32 bytes; ValueError on another length."""
        return cls(Ed25519PublicKey.from_public_bytes(raw))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a PEM public key; KeyFileError when it is missing or not Ed25519."""
        try:
            key = serialization.load_pem_public_key(read_key_file(path))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _not_a_key(path) from error
        if not isinstance(key, Ed25519PublicKey):
            raise _not_a_key(path)
        return cls(key)

    def save(self, path: Path) -> None:
        """Write the key as PEM; StateError when the file system refuses."""
        pem = self._key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        write_file(path, pem)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """True when `signature` (64 bytes) is this key's over `message`."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """An Ed25519 private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    @classmethod
    def generate(cls) -> Self:
        """Make a new key from the system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an unencrypted PEM private key; KeyFileError when missing or not Ed25519."""
        return cls.from_pem(read_key_file(path), where=str(path))

    @classmethod
    def from_pem(cls, pem: bytes, *, where: str) -> Self:
        """The unencrypted private key in `pem`; KeyFileError, naming `where`, when it is none."""
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _not_a_key(where) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise _not_a_key(where)
        return cls(key)

    @classmethod
    def load_or_generate(cls, path: Path) -> Self:
        """Read the key at `path`; on first use make it, with its public half beside it as .pub."""
        if path.exists():
            return cls.load(path)
        key = cls.generate()
        key.save(path)
        return key

    def save(self, path: Path) -> None:
        """Write the key as PEM for its owner alone, and its public half beside it as .pub."""
        write_file(path, self.pem(), mode=0o600)
        self.public.save(path.with_suffix(".pub"))

    def pem(self) -> bytes:
        """The key as unencrypted PEM (PKCS#8): a secret."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over `message`."""
        return self._key.sign(message)


def typed_message(kind: str, payload: bytes) -> bytes:
    """The bytes to sign for `payload` of type `kind`: the DSSE v1 pre-authentication encoding."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def read_key_file(path: Path) -> bytes:
    """The bytes of a key file, not looked at yet. Raises KeyFileError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(
            f"cannot read key {path}: {error.strerror or error}",
            remedy="check the path: a box makes its keys at its first start, `holdfast-compile keygen` those of a signer",
        ) from error


def _not_a_key(path: Path | str) -> KeyFileError:
    return KeyFileError(
        f"{path} is not an Ed25519 key in PEM form of the kind needed here",
        remedy="give the right file: an engineer makes a key with `holdfast-compile keygen`, a box's public key is "
        "its keys/box.pub",
    )
