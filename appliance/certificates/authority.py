"""A site's own certificate authority: one directory, kept wherever the operator keeps it, never on the box.

Knows: its key, its certificate, the ledger of what it issued, the denylist that follows from it. Rules: P-256, which
is what gRPC's TLS takes everywhere; the ledger is written before a certificate leaves; a directory inside the
state directory is refused. Leaves to others: the form of certificates (`forms`), printing.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.certificates import forms
from appliance.certificates.certificate import Certificate, read_chain
from appliance.certificates.names import SERVER, check_site, spiffe_id
from appliance.clock import Clock
from appliance.errors import CertificateError
from appliance.files import make_directory, write_file
from appliance.tables import from_json

KEY, ROOT, LEDGER, DENIED = "authority.key", "authority.pem", "ledger.json", "denied.txt"
DAYS, YEARS = 90, 10
# A box whose clock is a little slow must still take a fresh certificate.
BACKDATED = timedelta(hours=1)


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """One issued certificate as the ledger keeps it; `revoked` is RFC 3339 or "" while it stands."""

    serial: str
    uri: str
    pem: str
    revoked: str = ""
    reason: str = ""

    @property
    def certificate(self) -> Certificate:
        """The certificate itself."""
        return Certificate.from_pem(self.pem.encode(), where="the ledger")


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """All that an authority has issued, oldest first."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    site: str
    issued: tuple[Issued, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """What was made: the certificate, and its private key as PEM (b"" when its owner has it already)."""

    certificate: Certificate
    key_pem: bytes


class Authority:
    """An opened authority; `create` and `open` make it."""

    def __init__(self, directory: Path, key: ec.EllipticCurvePrivateKey, clock: Clock) -> None:
        self._directory, self._key, self._clock = directory, key, clock
        self.root = read_chain(directory / ROOT)[0]
        if not self.root.fits(_pem(key, None)):
            raise CertificateError(
                f"{directory / KEY} is not the key of {directory / ROOT}",
                remedy="restore both from the same copy of the authority's directory",
            )
        self.ledger = read_ledger(directory)

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        site: str,
        years: int = YEARS,
        passphrase: bytes | None = None,
        clock: Clock,
    ) -> "Authority":
        """Make the authority of `site` in `directory`, which must not hold one.

        Raises CertificateError, or StateError when the file system refuses.
        """
        check_site(site)
        make_directory(directory, mode=0o700)
        if (directory / KEY).exists() or (directory / ROOT).exists():
            raise CertificateError(
                f"{directory} holds an authority already",
                remedy="use it, or give another directory",
            )
        key, now = ec.generate_private_key(ec.SECP256R1()), forms.now(clock)
        root = forms.root(site, key, now - BACKDATED, now + timedelta(days=365 * years))
        write_file(directory / KEY, _pem(key, passphrase), mode=0o600)
        write_file(directory / ROOT, root.pem())
        _write_ledger(directory, Ledger(site=site))
        write_file(directory / DENIED, b"")  # so that boxes can be given it before it is needed
        return cls(directory, key, clock)

    @classmethod
    def open(cls, directory: Path, *, passphrase: bytes | None = None, clock: Clock) -> "Authority":
        """Open the authority in `directory`. Raises CertificateError."""
        return cls(directory, _load_key(directory / KEY, passphrase), clock)

    def issue(self, role: str, name: str, hosts: Iterable[str] = (), *, days: int = DAYS) -> Issue:
        """Make a key and a certificate for `name` in `role`; a server answers to `hosts`.

        Raises CertificateError.
        """
        uri, hosts = spiffe_id(self.ledger.site, role, name), tuple(hosts)
        if (role == SERVER) != bool(hosts):
            raise CertificateError(
                "a server needs the names or addresses that clients call, and nobody else has any",
                remedy="give them with --address, once for each",
            )
        key = ec.generate_private_key(ec.SECP256R1())
        return self._issue(uri, hosts, key.public_key(), days, _pem(key, None))

    def renew(self, old: Certificate, *, days: int = DAYS, new_key: bool = False) -> Issue:
        """A fresh certificate in place of `old`: same names, and the same key unless `new_key`.

        Raises CertificateError when `old` is not this authority's, or is revoked.
        """
        known = self._find(old.serial)
        if known is None or known.certificate.x509 != old.x509:
            raise CertificateError(
                f"{old.name} was not issued here", remedy="give a certificate that `list` names"
            )
        if known.revoked:
            raise CertificateError(
                f"certificate {old.serial} was revoked", remedy="issue a new one, if that is meant"
            )
        key = ec.generate_private_key(ec.SECP256R1()) if new_key else None
        public = key.public_key() if key else old.x509.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey), "every key is made here"
        return self._issue(known.uri, old.hosts, public, days, _pem(key, None) if key else b"")

    def revoke(self, which: str, reason: str) -> tuple[Issued, ...]:
        """Revoke the certificate of serial `which`, or every one of that name or URI, and write the denylist.

        Returns those that were revoked now. Raises CertificateError when there is none.
        """
        chosen = [item for item in self.ledger.issued if _means(item, which)]
        if not chosen:
            raise CertificateError(
                f"nothing was issued to '{which}'", remedy="give a serial, name or URI of `list`"
            )
        at = forms.now(self._clock).isoformat(timespec="seconds").replace("+00:00", "Z")
        revoked = {
            item.serial: msgspec.structs.replace(item, revoked=at, reason=reason)
            for item in chosen
            if not item.revoked
        }
        issued = tuple(revoked.get(item.serial, item) for item in self.ledger.issued)
        self._keep(msgspec.structs.replace(self.ledger, issued=issued))
        lines = [_denial(item) for item in issued if item.revoked]
        write_file(self._directory / DENIED, "".join(lines).encode())
        return tuple(revoked.values())

    def _issue(
        self,
        uri: str,
        hosts: tuple[str, ...],
        public: ec.EllipticCurvePublicKey,
        days: int,
        key_pem: bytes,
    ) -> Issue:
        now = forms.now(self._clock)
        until = min(now + timedelta(days=days), self.root.not_after)
        if until <= now:
            raise CertificateError(
                f"the authority itself expired on {self.root.not_after:%Y-%m-%d}",
                remedy="make a new authority with `holdfast ca init`",
            )
        certificate = forms.leaf(
            uri,
            hosts,
            public,
            issuer=self.root,
            issuer_key=self._key,
            life=(now - BACKDATED, until),
            serial=_serial(),
        )
        made = Issued(serial=certificate.serial, uri=uri, pem=certificate.pem().decode())
        self._keep(msgspec.structs.replace(self.ledger, issued=(*self.ledger.issued, made)))
        return Issue(certificate=certificate, key_pem=key_pem)

    def _find(self, serial: str) -> Issued | None:
        return next((item for item in self.ledger.issued if item.serial == serial), None)

    def _keep(self, ledger: Ledger) -> None:
        _write_ledger(self._directory, ledger)
        self.ledger = ledger


def read_ledger(directory: Path) -> Ledger:
    """What the authority in `directory` has issued; needs no key. Raises CertificateError."""
    path = directory / LEDGER
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CertificateError(
            f"cannot read the ledger {path}: {error.strerror or error}",
            remedy="give the directory that `holdfast ca init` made",
        ) from error
    return from_json(data, Ledger, CertificateError, where=str(path))


def latest(ledger: Ledger) -> dict[str, Issued]:
    """The newest certificate of each URI that is not revoked."""
    return {item.uri: item for item in ledger.issued if not item.revoked}


def refuse_inside(directory: Path, state: Path) -> None:
    """CertificateError when `directory` lies in the state directory: a thief of the box would get the site."""
    resolved, inside = directory.resolve(), state.resolve()
    if resolved == inside or inside in resolved.parents:
        raise CertificateError(
            f"{directory} is inside the state directory",
            remedy="keep the authority on another machine or a medium that is taken away",
        )


def _write_ledger(directory: Path, ledger: Ledger) -> None:
    data = msgspec.json.format(msgspec.json.encode(ledger), indent=2)
    write_file(directory / LEDGER, data, b"\n", mode=0o600)


def _load_key(path: Path, passphrase: bytes | None) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=passphrase)
    except OSError as error:
        raise CertificateError(
            f"cannot read the authority's key {path}: {error.strerror or error}",
            remedy="give the directory that `holdfast ca init` made",
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(
            f"the authority's key {path} does not open",
            remedy="give its passphrase with --passphrase-file, and only if it has one",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path} is no P-256 key", remedy="use the key `ca init` made")
    return key


def _pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption(),
    )


def _serial() -> int:
    """159 random bits (RFC 5280, section 4.1.2.2, allows 20 octets)."""
    return secrets.randbits(158) | 1 << 158


def _means(item: Issued, which: str) -> bool:
    serial = which.replace(":", "").lower().lstrip("0")  # as other tools print it
    return which in {item.uri, item.uri.rpartition("/")[2]} or serial == item.serial


def _denial(item: Issued) -> str:
    remark = " ".join(item.reason.split())  # whatever ends a line would begin another entry
    return f"serial {item.serial}  # {item.uri}, {item.revoked}: {remark}\n"
