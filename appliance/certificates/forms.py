"""The form of the certificates that an authority issues.

Knows: the extensions of a root and of a leaf (RFC 5280; X509-SVID, sections 3 to 5). Rules: a leaf serves one side
of TLS only; the SPIFFE id is its only URI. Leaves to others: keeping them (`authority`).
"""

import ipaddress
import re
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.certificates.certificate import Certificate, utc_now
from appliance.clock import Clock
from appliance.errors import CertificateError

_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
HOST_CHARACTERS_MAX = 253


def now(clock: Clock) -> datetime:
    """The wall time in whole seconds, as certificates tell it."""
    return utc_now(clock.wall_ns()).replace(microsecond=0)


def root(
    site: str, key: ec.EllipticCurvePrivateKey, begins: datetime, ends: datetime
) -> Certificate:
    """The self-signed certificate of the authority of `site`; no authority below it."""
    name = _subject(f"Holdfast authority of {site}", site)
    public = key.public_key()
    builder = (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number(), begins, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return Certificate(builder.sign(key, hashes.SHA256()))


def leaf(
    uri: str,
    hosts: tuple[str, ...],
    public: ec.EllipticCurvePublicKey,
    *,
    issuer: Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    life: tuple[datetime, datetime],
    serial: int,
) -> Certificate:
    """A certificate of `public` for the owner of `uri`: of a server if it has `hosts`, else of a client.

    Raises CertificateError when a host is neither a DNS name nor an address.
    """
    names = [x509.UniformResourceIdentifier(uri), *map(_host, hosts)]
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    site, _, name = uri.removeprefix("spiffe://").partition("/")
    subject = _subject(name.rpartition("/")[2], site)
    key_id = x509.SubjectKeyIdentifier.from_public_key(public)
    builder = (
        x509.CertificateBuilder(issuer.x509.subject, subject, public, serial, *life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(key_id, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    return Certificate(builder.sign(issuer_key, hashes.SHA256()))


def _subject(name: str, site: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, site),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass  # a name, then
    lower = host.lower()
    if len(lower) > HOST_CHARACTERS_MAX or not _HOST.fullmatch(lower):
        raise CertificateError(
            f"'{host}' is neither a host's name nor an address",
            remedy="give it without a port, as clients write it, such as box-1.plant or 10.0.0.7",
        )
    return x509.DNSName(lower)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
