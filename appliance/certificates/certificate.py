"""What a certificate says, and whether it holds now.

Knows: X.509 as `cryptography` reads it. Rules: reading trusts nothing; times are UTC. Leaves to others:
issuing (`authority`), who is denied (`denylist`).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import SubjectAlternativeName

from appliance.errors import CertificateError

# Renewal is due when less than this part of a certificate's life is left.
DUE_SHARE = 1 / 3


class State(StrEnum):
    """How a certificate stands at a moment."""

    EARLY = "not yet valid"
    VALID = "valid"
    DUE = "due for renewal"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate. Made by `Certificate.from_pem` or `read_chain`."""

    x509: "x509.Certificate"

    @classmethod
    def from_pem(cls, pem: bytes, *, where: str) -> "Certificate":
        """The first certificate in `pem`; CertificateError, naming `where`, when there is none."""
        return _chain(pem, where=where)[0]

    @property
    def serial(self) -> str:
        """The serial number in lower-case hex, without leading zeros."""
        return f"{self.x509.serial_number:x}"

    @property
    def subject(self) -> str:
        """The subject in RFC 4514 form."""
        return self.x509.subject.rfc4514_string()

    @property
    def uris(self) -> tuple[str, ...]:
        """The URIs of the subject alternative name, such as a SPIFFE id."""
        return tuple(self._names().get_values_for_type(x509.UniformResourceIdentifier))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The DNS names and addresses that a server with this certificate answers to."""
        names = self._names()
        addresses = names.get_values_for_type(x509.IPAddress)
        return (*names.get_values_for_type(x509.DNSName), *map(str, addresses))

    @property
    def name(self) -> str:
        """What to call its owner: the first URI, else the subject."""
        return next(iter(self.uris), self.subject)

    @property
    def not_before(self) -> datetime:
        """From when on it holds."""
        return self.x509.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """Until when it holds."""
        return self.x509.not_valid_after_utc

    @property
    def due(self) -> datetime:
        """From when on it had better be renewed."""
        return self.not_after - (self.not_after - self.not_before) * DUE_SHARE

    def state(self, now: datetime) -> State:
        """How it stands at `now`, which must name its zone."""
        if now < self.not_before:
            return State.EARLY
        if now >= self.not_after:
            return State.EXPIRED
        return State.DUE if now >= self.due else State.VALID

    def issued_by(self, authority: "Certificate") -> bool:
        """Whether `authority` signed it."""
        try:
            self.x509.verify_directly_issued_by(authority.x509)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True

    def fits(self, key_pem: bytes) -> bool:
        """Whether the unencrypted private key in `key_pem` is this certificate's."""
        try:
            key = serialization.load_pem_private_key(key_pem, password=None)
            return _public(key.public_key()) == _public(self.x509.public_key())
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return False

    def pem(self) -> bytes:
        """The certificate as PEM."""
        return self.x509.public_bytes(serialization.Encoding.PEM)

    def _names(self) -> SubjectAlternativeName:
        try:
            return self.x509.extensions.get_extension_for_class(SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return SubjectAlternativeName([])


def read_chain(path: Path) -> tuple[Certificate, ...]:
    """Every certificate of the PEM file `path`, at least one. Raises CertificateError."""
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise CertificateError(
            f"cannot read the certificate {path}: {error.strerror or error}",
            remedy="check the path and who may read it",
        ) from error
    return _chain(pem, where=str(path))


def utc_now(wall_ns: int) -> datetime:
    """`wall_ns` (nanoseconds since the epoch) as a time in UTC."""
    return datetime.fromtimestamp(wall_ns / 1e9, UTC)


def _chain(pem: bytes, *, where: str) -> tuple[Certificate, ...]:
    try:
        chain = x509.load_pem_x509_certificates(pem)
        for (
            item
        ) in chain:  # parts are parsed when they are asked for: here, so that none fails later
            item.subject.rfc4514_string()
            _ = (item.extensions, item.not_valid_before_utc, item.not_valid_after_utc)
    except (
        ValueError,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise CertificateError(
            f"{where} holds no certificate in PEM form: {error}",
            remedy="give a PEM file that begins with -----BEGIN CERTIFICATE-----",
        ) from error
    return tuple(Certificate(item) for item in chain)


def _public(key: object) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.DER, form)  # type: ignore[attr-defined,no-any-return]
