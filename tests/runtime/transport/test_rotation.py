"""Certificates that change while the wire serves, over both lanes."""

import asyncio
import socket
import ssl

import grpc
import pytest

from appliance.certificates import Authority
from appliance.clock import SystemClock
from appliance.config import ServerConfig, TlsConfig
from runtime.certificates import Certificates
from runtime.transport import listen

CLOCK = SystemClock()


def echo(message, exchange):
    exchange.reply(message)


class Box:
    """A transport over certificates that change, and the authority that issues them."""

    def __init__(self, directory, lane):
        self.directory = directory
        self.authority = Authority.create(directory / "ca", site="plant", clock=CLOCK)
        self.serve(self.authority)
        (directory / "clients.pem").write_bytes(self.authority.root.pem())
        tls = TlsConfig(
            certificate=str(directory / "box.pem"),
            key=str(directory / "box.key"),
            client_ca=str(directory / "clients.pem"),
        )
        self.certificates = Certificates(tls, CLOCK)
        config = ServerConfig(address="127.0.0.1:0", transport=lane, tls=tls)
        self.transport = listen(config, self.certificates)
        self.transport.start({"/test.Wire/Echo": echo})

    def serve(self, authority):
        made = authority.issue("server", "box", ["127.0.0.1"])
        (self.directory / "box.pem").write_bytes(made.certificate.pem())
        (self.directory / "box.key").write_bytes(made.key_pem)
        return made.certificate

    def settle(self):
        """Have the files taken up, which must be the same at two looks."""
        self.certificates.look()
        self.certificates.look()

    def channel(self, authority, client=None):
        """A channel of its own connection that trusts `authority` and shows a certificate of `client`."""
        made = client.issue("client", "line-3") if client else None
        credentials = grpc.ssl_channel_credentials(
            authority.root.pem(),
            made.key_pem if made else None,
            made.certificate.pem() if made else None,
        )
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(self.transport.address, credentials, options)

    def shown(self):
        """The certificate that a new connection meets, as PEM."""
        host, port = self.transport.address.split(":")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with socket.create_connection((host, int(port))) as plain:
            with context.wrap_socket(plain) as secure:
                return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True)).encode()


@pytest.fixture
async def box(tmp_path, lane):
    box = Box(tmp_path, lane)
    yield box
    await box.transport.stop(0)


async def test_a_new_certificate_meets_new_connections_and_spares_open_ones(box):
    before = await asyncio.to_thread(box.shown)
    async with box.channel(box.authority, box.authority) as open_one:
        ask = open_one.unary_unary("/test.Wire/Echo")
        assert await ask(b"1") == b"1"
        new = box.serve(box.authority)
        box.settle()
        assert before != new.pem()
        assert await asyncio.to_thread(box.shown) == new.pem()
        assert await ask(b"2") == b"2"
    async with box.channel(box.authority, box.authority) as later:
        assert await later.unary_unary("/test.Wire/Echo")(b"3") == b"3"


async def test_the_authority_of_clients_changes_live(box, tmp_path):
    other = Authority.create(tmp_path / "other", site="plant", clock=CLOCK)

    async def answered(client):
        async with box.channel(box.authority, client) as channel:
            call = channel.unary_unary("/test.Wire/Echo")(b"x")
            code = await call.code()
            assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
            return code is grpc.StatusCode.OK

    assert [await answered(who) for who in (box.authority, other, None)] == [True, False, False]
    (box.directory / "clients.pem").write_bytes(other.root.pem())
    box.settle()
    assert [await answered(who) for who in (box.authority, other, None)] == [False, True, False]
