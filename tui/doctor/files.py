"""The TLS files of the settings: whether they fit each other and hold.

Knows: what a runtime would refuse of them, and what its clients would. Rules: reads only. Leaves to others: the
handshake itself (`tui.doctor.remote`).
"""

from collections.abc import Iterator
from pathlib import Path

from appliance.certificates import Certificate, Denylist, State, read_chain
from appliance.certificates.certificate import utc_now
from appliance.clock import Clock
from appliance.config import TlsConfig
from appliance.errors import ApplianceError, CertificateError
from tui.doctor.finding import Finding, failed, trouble, warning, well


def examine_files(tls: TlsConfig, clock: Clock) -> Iterator[Finding]:
    """Look at the files that `tls` names."""
    if not tls.certificate:
        yield well("TLS", "off: the inference service speaks plain text")
        return
    try:
        chain = read_chain(Path(tls.certificate))
        yield standing("server certificate", chain[0], clock)
        yield from _pair(tls, chain[0])
        if tls.client_ca:
            for root in read_chain(Path(tls.client_ca)):
                yield standing("client authority", root, clock)
        if tls.denied:
            denied = Denylist.read(Path(tls.denied))
            yield well("denylist", f"{denied.size} certificates or owners are turned away")
    except ApplianceError as error:
        yield failed("TLS files", error)


def standing(subject: str, certificate: Certificate, clock: Clock) -> Finding:
    """How `certificate` stands now."""
    now, until = utc_now(clock.wall_ns()), f"{certificate.not_after:%Y-%m-%d %H:%M} UTC"
    state = certificate.state(now)
    if state is State.EXPIRED:
        told = f"{certificate.name} expired on {until}, and it is {now:%Y-%m-%d %H:%M} here"
        return trouble(subject, told, "renew it with `holdfast ca renew`; or the clock is ahead")
    if state is State.EARLY:
        begins = f"{certificate.not_before:%Y-%m-%d %H:%M} UTC"
        told = f"{certificate.name} holds from {begins} on, and it is {now:%Y-%m-%d %H:%M} here"
        return trouble(subject, told, "set the clock, which is behind")
    if state is State.DUE:
        told = f"{certificate.name} holds until {until}"
        return warning(subject, told, "renew it soon with `holdfast ca renew`")
    return well(subject, f"{certificate.name} holds until {until}")


def _pair(tls: TlsConfig, certificate: Certificate) -> Iterator[Finding]:
    try:
        key = Path(tls.key).read_bytes()
    except OSError as error:
        raise CertificateError(
            f"cannot read the key {tls.key or '(none is named)'}: {error.strerror or error}",
            remedy="set [server.tls] key, and give the file to the runtime's user",
        ) from error
    if not certificate.fits(key):
        told = f"{tls.key} is not the unencrypted key of {tls.certificate}"
        yield trouble("server key", told, "put the two together that were issued together")
    elif Path(tls.key).stat().st_mode & 0o007:
        told = f"{tls.key} may be read by every user of this machine"
        yield warning("server key", told, f"chmod 640 {tls.key}")
    if not certificate.hosts:
        told = f"{certificate.name} names no host or address, so every client refuses it"
        yield trouble("server certificate", told, "issue one with `holdfast ca issue DIR server`")
