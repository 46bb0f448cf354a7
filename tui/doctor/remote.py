"""The way to a box, walked as a client walks it: name, connection, handshake, first call.

Knows: what each failure of a TLS handshake means. Rules: the first thing in the way ends the walk; the server's
certificate is asked for once more, unverified, to say what is in it, and nothing is sent on that connection. Leaves to
others: the box's own side (`tui.doctor.box`).
"""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.certificates import Certificate, read_chain
from appliance.clock import Clock
from appliance.config import split_address
from appliance.errors import ApplianceError, CertificateError
from runtime.client import InferenceClient, Tls
from tui.doctor.files import standing
from tui.doctor.finding import Finding, Verdict, failed, trouble, well

SECONDS_MAX = 10.0
# HTTP/2's opening (RFC 9113, section 3.4): the preface and an empty SETTINGS frame.
OPENING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
# OpenSSL's X509_V_ERR codes (x509_vfy.h).
EARLY, EXPIRED = 9, 10
UNKNOWN_ISSUER = (2, 18, 19, 20, 21)
PURPOSE = 26
OTHER_HOST, OTHER_ADDRESS = 62, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Where to go and with what: PEM files and a bearer token; None or "" for none."""

    address: str
    root: Path | None = None
    chain: Path | None = None
    key: Path | None = None
    token: str = ""

    @property
    def host(self) -> str:
        """The host's name or address alone."""
        return split_address(self.address)[0].strip("[]")

    def open(self) -> socket.socket:
        """A TCP connection. Raises OSError."""
        port = split_address(self.address)[1]
        return socket.create_connection((self.host, port), SECONDS_MAX)


def examine_remote(visit: Visit, clock: Clock) -> Iterator[Finding]:
    """Walk to the server, as far as it goes."""
    try:
        context = _context(visit)
        own = read_chain(visit.chain)[0] if visit.chain else None
        with visit.open():
            yield well("connection", f"{visit.address} accepts connections")
    except ApplianceError as error:
        yield failed("settings", error)
        return
    except OSError as error:
        yield _unreached(visit, error)
        return
    if own is not None:
        finding = standing("client certificate", own, clock)
        yield finding
        if finding.verdict is Verdict.TROUBLE:
            return
    finding = _handshake(visit, context, own, clock)
    yield finding
    if finding.verdict is Verdict.WELL:
        yield _first_call(visit)


def _context(visit: Visit) -> ssl.SSLContext:
    """How the client verifies and what it shows. Raises CertificateError."""
    try:
        context = ssl.create_default_context(cafile=str(visit.root) if visit.root else None)
        context.set_alpn_protocols(["h2"])
        if visit.chain:
            context.load_cert_chain(visit.chain, visit.key, password="")
    except OSError as error:  # ssl.SSLError is one
        raise CertificateError(
            f"the files of this side cannot be used: {error}",
            remedy="give --ca, --certificate and --key PEM files; the last two belong together",
        ) from error
    return context


def _unreached(visit: Visit, error: OSError) -> Finding:
    subject = "connection"
    if isinstance(error, socket.gaierror):
        told, remedy = (
            f"no machine is called {visit.host}",
            "correct the name, or ask the site's DNS",
        )
    elif isinstance(error, ConnectionRefusedError):
        told = f"nothing listens on {visit.address}"
        remedy = "start the runtime, or correct the port; [server] address may be loopback only"
    elif isinstance(error, TimeoutError):
        told = f"{visit.address} does not answer within {SECONDS_MAX:g} s"
        remedy = "look for a firewall on the way, and whether the box is up"
    else:
        told, remedy = f"{visit.address} cannot be reached: {error}", "check the network"
    return trouble(subject, told, remedy)


def _handshake(
    visit: Visit, context: ssl.SSLContext, own: Certificate | None, clock: Clock
) -> Finding:
    try:
        with (
            visit.open() as plain,
            context.wrap_socket(plain, server_hostname=visit.host) as secure,
        ):
            if _goes_on(secure):
                return well("handshake", f"{secure.version()}; both sides trust each other")
    except ssl.SSLCertVerificationError as error:
        return _unverified(visit, error, clock)
    except ssl.SSLEOFError:
        pass  # TLS 1.2 ends so; TLS 1.3 tells a client only when it reads
    except ssl.SSLError as error:
        return _not_tls(visit, error)
    except OSError as error:
        return trouble(
            "handshake", f"it was cut off: {error}", "see the box's journal, or try again"
        )
    return _turned_away(own, visit)


def _goes_on(secure: ssl.SSLSocket) -> bool:
    """Whether the server answers after the handshake; one that hangs up with our opening unread resets."""
    try:
        secure.sendall(OPENING)
        return bool(secure.recv(9))
    except ConnectionError:
        return False


def _unverified(visit: Visit, error: ssl.SSLCertVerificationError, clock: Clock) -> Finding:
    """Why this side refuses the server's certificate."""
    subject, shown = "server certificate", _shown(visit)
    name = shown.name if shown else "the server"
    if error.verify_code in UNKNOWN_ISSUER:
        issuer = shown.x509.issuer.rfc4514_string() if shown else "somebody else"
        ours = str(visit.root) if visit.root else "this machine's own authorities"
        told = f"wrong authority: {name} was issued by {issuer}, which is not in {ours}"
        return trouble(subject, told, "give the authority.pem of the box's site with --ca")
    if error.verify_code in {EARLY, EXPIRED} and shown:
        finding = standing(subject, shown, clock)
        if finding.verdict is Verdict.TROUBLE:
            return finding  # else it is an authority's end that is meant
    if error.verify_code in {OTHER_HOST, OTHER_ADDRESS}:
        hosts = ", ".join(shown.hosts) if shown and shown.hosts else "no host at all"
        told = f"name mismatch: you call {visit.host}, and {name} is for {hosts}"
        remedy = "call it by such a name, or issue a certificate with --address for this one"
        return trouble(subject, told, remedy)
    if error.verify_code == PURPOSE:
        told = f"{name} has a certificate of a client, not of a server"
        return trouble(subject, told, "issue one with `holdfast ca issue DIR server NAME`")
    told = f"it does not verify: {error.verify_message}"
    return trouble(subject, told, "look at it with `openssl x509 -text`")


def _not_tls(visit: Visit, error: ssl.SSLError) -> Finding:
    if error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}:
        told = f"{visit.address} speaks plain text, not TLS"
        return trouble("handshake", told, "set [server.tls] on the box, or call it without TLS")
    told = f"it failed: {error.reason or error}"
    return trouble("handshake", told, "see the box's journal; a proxy between may not pass HTTP/2")


def _turned_away(own: Certificate | None, visit: Visit) -> Finding:
    """The server hung up on what this side showed; gRPC says no more than that."""
    subject = "client certificate"
    if own is None:
        told = "missing: the server asks clients for a certificate, and none was shown"
        remedy = "give --certificate and --key, issued with `holdfast ca issue DIR client NAME`"
        return trouble(subject, told, remedy)
    issuer = own.x509.issuer.rfc4514_string()
    if own.hosts:
        told = f"{own.name} has a certificate of a server, not of a client"
        return trouble(subject, told, "issue one with `holdfast ca issue DIR client NAME`")
    known = read_chain(visit.root) if visit.root else ()
    if known and not any(map(own.issued_by, known)):
        told = f"the server refuses it: it was issued by {issuer}, not by the authority in {visit.root}"
        return trouble(subject, told, "show one that the box's [server.tls] client_ca has issued")
    told = f"the server refuses it, although it holds here; {issuer} issued it"
    remedy = "compare the issuer with the box's [server.tls] client_ca, and its clock with this one"
    return trouble(subject, told, remedy)


def _first_call(visit: Visit) -> Finding:
    tls = Tls(root=visit.root, chain=visit.chain, key=visit.key)
    try:
        with InferenceClient(visit.address, tls=tls, token=visit.token) as client:
            client.live(deadline_seconds=SECONDS_MAX)
    except ApplianceError as error:
        return failed("first call", error)
    return well("first call", "answered")


def _shown(visit: Visit) -> Certificate | None:
    """The server's certificate, unverified; None when it cannot be had."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            visit.open() as plain,
            context.wrap_socket(plain, server_hostname=visit.host) as secure,
        ):
            found = secure.getpeercert(binary_form=True)
    except OSError:
        return None
    pem = ssl.DER_cert_to_PEM_cert(found).encode() if found else b""
    return Certificate.from_pem(pem, where=visit.address) if pem else None
