"""TLS and who the client's certificate names, over both lanes."""

import datetime as dt
import ipaddress
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance.access import Role
from appliance.config import ServerConfig, TlsConfig
from appliance.errors import ListenError
from runtime.access.principal import Principal, certificate_name
from runtime.transport import Streaming, listen

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
LINE_7 = x509.UniformResourceIdentifier("spiffe://plant/client/line-7")
LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


class Authority:
    """A certificate authority of the test's own; writes PEM files."""

    def __init__(self, directory, name):
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.certificate = self._write(f"{name}.pem", own.public_bytes(serialization.Encoding.PEM))

    def issue(self, name, *alternatives):
        """Paths of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.SubjectAlternativeName(alternatives)] if alternatives else []
        certificate = self._sign(subject, key, *names)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        public = certificate.public_bytes(serialization.Encoding.PEM)
        return self._write(f"{name}.crt", public), self._write(f"{name}.key", private)

    def _sign(self, subject, key, *extensions):
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=NOW - DAY,
            not_valid_after=NOW + DAY,
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name, data):
        path = self._directory / name
        path.write_bytes(data)
        return str(path)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "authority")


@pytest.fixture
def tls(authority):
    certificate, key = authority.issue("box", LOOPBACK)
    return TlsConfig(certificate=certificate, key=key)


def who(message, exchange):
    exchange.reply(exchange.principal.name.encode())


def named(arrival):
    """Lets in whoever has a name."""
    return Principal(certificate_name(arrival.shown()), Role.CLIENT)


def secure(wire, authority, client=None):
    """A channel that trusts `authority` and presents the pair of paths in `client`."""
    certificate, key = [Path(path).read_bytes() for path in client] if client else (None, None)
    roots = Path(authority.certificate).read_bytes()
    credentials = grpc.ssl_channel_credentials(roots, key, certificate)
    return grpc.aio.secure_channel(wire.address, credentials)


async def test_tls_answers_those_who_trust_it_and_nobody_in_plain_text(serve, tls, authority):
    wire = await serve({"/test.Wire/Who": who}, tls=tls)
    async with secure(wire, authority) as channel:
        assert await channel.unary_unary("/test.Wire/Who")(b"") == b""
        assert await channel.unary_unary("/test.Wire/Echo")(b"x" * 100_000) == b"x" * 100_000
    error = await wire.fails(wire.ask("Echo"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("alternatives", "identity"),
    [
        ((), b"cn:line-7"),
        ((x509.DNSName("spiffe://plant/operator/line-7"),), b"cn:line-7"),
        ((x509.DNSName("line-7.plant"), LINE_7), b"spiffe://plant/client/line-7"),
    ],
)
async def test_a_client_certificate_names_its_caller(serve, tls, authority, alternatives, identity):
    tls = TlsConfig(certificate=tls.certificate, key=tls.key, client_ca=authority.certificate)
    streams = []

    class Quiet:
        def gone(self):
            pass

    def opened(stream):
        streams.append(stream.principal.name.encode())
        stream.finish()
        return Quiet()

    methods = {"/test.Wire/Who": who, "/test.Wire/Open": Streaming(opened)}
    wire = await serve(methods, admit=named, tls=tls)
    async with secure(wire, authority, authority.issue("line-7", *alternatives)) as channel:
        assert await channel.unary_unary("/test.Wire/Who")(b"") == identity
        assert await channel.stream_stream("/test.Wire/Open")().code() is grpc.StatusCode.OK
    assert streams == [identity]


async def test_only_certificates_of_the_named_authority_are_answered(
    serve, tls, authority, tmp_path
):
    wire = await serve(
        tls=TlsConfig(certificate=tls.certificate, key=tls.key, client_ca=authority.certificate)
    )
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "other").issue("stranger")
    for client in (None, stranger):
        async with secure(wire, authority, client) as channel:
            error = await wire.fails(channel.unary_unary("/test.Wire/Echo")(b""))
            assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_tls_files_that_cannot_be_used_are_named(tls, authority, tmp_path, lane):
    other, _ = authority.issue("other")
    garbage = tmp_path / "garbage"
    garbage.write_text("no certificate")
    for wrong in (
        TlsConfig(certificate=str(tmp_path / "missing"), key=tls.key),
        TlsConfig(certificate=tls.certificate, key=""),
        TlsConfig(certificate=other, key=tls.key),
        TlsConfig(certificate=tls.certificate, key=tls.key, client_ca=str(garbage)),
    ):
        with pytest.raises(ListenError, match="TLS files"):
            listen(ServerConfig(address="127.0.0.1:0", transport=lane, tls=wrong))
