"""TLS: who the server is, who the client is."""

import datetime as dt
import ipaddress

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.errors import ConfigError, Unreachable
from runtime.client import Retry, Tls

X = {"x": np.ones(1, np.float32)}
ONCE = Retry(attempts_max=1)


def signed(directory, name, issuer=None):
    """Writes NAME.pem and NAME.key, signed by `issuer` or by itself; returns (name, key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signer, signer_key = issuer or (subject, key)
    now = dt.datetime.now(dt.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(here, critical=False)
        .sign(signer_key, hashes.SHA256())
    )
    (directory / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return subject, key


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Certificates and keys: root signed server and client; stranger signed itself."""
    directory = tmp_path_factory.mktemp("tls")
    root = signed(directory, "root")
    for name in ("server", "client"):
        signed(directory, name, root)
    signed(directory, "stranger")
    return directory


@pytest.fixture
def secured(serve, files):
    """A scripted server that asks clients for a certificate; its address."""
    secret = grpc.ssl_server_credentials(
        [((files / "server.key").read_bytes(), (files / "server.pem").read_bytes())],
        root_certificates=(files / "root.pem").read_bytes(),
        require_client_auth=True,
    )
    script = serve("127.0.0.1:0", secret)
    return script, f"127.0.0.1:{script.port}"


def test_both_sides_show_who_they_are(connect, secured, files):
    script, address = secured
    tls = Tls(root=files / "root.pem", chain=files / "client.pem", key=files / "client.key")
    reply = connect(address, tls=tls, token="secret").infer("m", X)
    assert reply.outputs["x"] == 1
    assert script.metadata[0]["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("root", "own"), [("stranger", "client"), ("root", "stranger"), ("root", None)]
)
def test_a_stranger_on_either_side_ends_the_call(connect, secured, files, root, own):
    _, address = secured
    shown = {"chain": files / f"{own}.pem", "key": files / f"{own}.key"} if own else {}
    client = connect(address, tls=Tls(root=files / f"{root}.pem", **shown), retry=ONCE)
    with pytest.raises(Unreachable, match="does not answer") as caught:
        client.infer("m", X)
    assert "TLS" in caught.value.remedy


def test_a_file_that_cannot_be_read_is_named(connect, files):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        connect("127.0.0.1:1", tls=Tls(root=files / "none.pem"))
