"""Keys that sign models: Ed25519, and P-256 as the tools of the field use it.

Knows: both kinds' files (PEM), raw forms, ids and hints. Rules: both kinds show the same face, so that
nobody else asks which it is; the same bytes and key give the same signature, of either kind. Leaves to
others: what is signed (`appliance.attestation`) and who is trusted for what (`appliance.trust`).
"""

import hashlib
from pathlib import Path
from typing import Protocol, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance.errors import KeyFileError
from appliance.files import write_file
from appliance.signing import KEY_BYTES, PublicKey, SigningKey, read_key_file

_SPKI = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
# RFC 6979: the nonce follows from key and message, so that packing twice gives the same file.
_ECDSA = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


class ModelPublicKey(Protocol):
    """Either kind; `raw` is 32 bytes of Ed25519 or 65 of P-256, `key_id` their SHA-256 in hex."""

    raw: bytes
    key_id: str

    def verify(self, message: bytes, signature: bytes, /) -> bool:
        """True when `signature` is this key's over `message`."""

    def save(self, path: Path, /) -> None:
        """Write the key as PEM; StateError when the file system refuses."""


class ModelSigningKey(Protocol):
    """Either kind's private half."""

    @property
    def public(self) -> ModelPublicKey:
        """The other half."""

    def sign(self, message: bytes, /) -> bytes:
        """The signature over `message`."""

    def save(self, path: Path, /) -> None:
        """Write the key for its owner alone, and its public half beside it as .pub."""


class P256PublicKey:
    """A P-256 public key; `raw` is its uncompressed point, 65 bytes."""

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key = key
        self.raw = key.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.key_id = hashlib.sha256(self.raw).hexdigest()

    @classmethod
    def from_raw(cls, raw: bytes) -> Self:
        """Make the key from its 65 bytes; ValueError when they are no point of the curve."""
        return cls(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw))

    def verify(self, message: bytes, signature: bytes) -> bool:
        """True when `signature` (DER, as DSSE carries ECDSA) is this key's over `message`."""
        try:
            self._key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True

    def save(self, path: Path) -> None:
        """Write the key as PEM; StateError when the file system refuses."""
        write_file(path, self._key.public_bytes(*_SPKI))


class P256SigningKey:
    """A P-256 private key."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public = P256PublicKey(key.public_key())

    @classmethod
    def generate(cls) -> Self:
        """Make a new key from the system's randomness."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    def sign(self, message: bytes) -> bytes:
        """The ECDSA signature over `message` with SHA-256, DER; the same for the same message."""
        return self._key.sign(message, _ECDSA)

    def save(self, path: Path) -> None:
        """Write the key as PEM for its owner alone, and its public half beside it as .pub."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_file(path, pem, mode=0o600)
        self.public.save(path.with_suffix(".pub"))


def public_key(raw: bytes) -> ModelPublicKey:
    """The key that `raw` is; ValueError when it is none."""
    return PublicKey.from_raw(raw) if len(raw) == KEY_BYTES else P256PublicKey.from_raw(raw)


def kind_of(key: ModelPublicKey) -> str:
    """What a person calls the kind of `key`: "ed25519" or "p256"."""
    return "ed25519" if len(key.raw) == KEY_BYTES else "p256"


def pem_of(key: ModelPublicKey) -> bytes:
    """The key in SubjectPublicKeyInfo PEM, as `save` writes it."""
    if len(key.raw) == KEY_BYTES:
        return Ed25519PublicKey.from_public_bytes(key.raw).public_bytes(*_SPKI)
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.raw)
    return point.public_bytes(*_SPKI)


def hint_of(key: ModelPublicKey) -> str:
    """How a signature file names its key: SHA-256 of the PEM in hex, as model-signing 1.1 does it."""
    return hashlib.sha256(pem_of(key)).hexdigest()


def load_public(path: Path) -> ModelPublicKey:
    """Read a PEM public key of either kind; KeyFileError when it is missing or of another."""
    try:
        key = serialization.load_pem_public_key(read_key_file(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _not_a_key(path) from error
    if isinstance(key, Ed25519PublicKey):
        return PublicKey(key)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return P256PublicKey(key)
    raise _not_a_key(path)


def load_signing(path: Path) -> ModelSigningKey:
    """Read an unencrypted PEM private key of either kind; KeyFileError when missing or of another."""
    try:
        key = serialization.load_pem_private_key(read_key_file(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _not_a_key(path) from error
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return P256SigningKey(key)
    return SigningKey.load(path)


def _not_a_key(path: Path) -> KeyFileError:
    return KeyFileError(
        f"{path} is not an unencrypted Ed25519 or P-256 key in PEM form of the kind needed here",
        remedy="make one with `holdfast-compile keygen`",
    )
