"""The certificates that the wire uses, read anew when their files change.

Knows: which files the settings name, whether they fit each other, when they expire, who is denied. Rules: at
the start what cannot be used is an error; later what is in use stays until its successor is whole, and the journal
says why; a change holds for the connections that follow, a denial for open ones too. Leaves to others: the
handshake (`runtime.transport`), refusing a call (`runtime.access`).
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from appliance import journal
from appliance.certificates import Certificate, Denylist, State, read_chain
from appliance.certificates.certificate import utc_now
from appliance.clock import Clock, timestamp
from appliance.config import TlsConfig
from appliance.errors import ApplianceError, CertificateError, ListenError

LOOK_SECONDS = 0.5
SERVER, CLIENT_CA = "server", "client_ca"
REMEDY = "set [server.tls] certificate, key, client_ca and denied to files that belong together"

# What tells that a file was replaced, or that who may read it was put right: inode, size, time of any change.
Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]


class Material(NamedTuple):
    """What one handshake uses, as PEM; `roots` is None where clients need no certificate."""

    key: bytes
    chain: bytes
    roots: bytes | None


class Shown(NamedTuple):
    """One certificate in use: which one it is, whose, until when (ns since the epoch) and how it stands."""

    what: str
    name: str
    not_after_ns: int
    state: State


class Certificates:
    """Reads the files at once. Raises ListenError when they cannot be used.

    `material` is what the next handshake uses, None in plain text; `trouble` says why newer files are not
    used, "" when they are.
    """

    def __init__(self, tls: TlsConfig, clock: Clock) -> None:
        self._tls, self._clock = tls, clock
        self._told: dict[tuple[str, str], State] = {}
        self._then: list[Callable[[], object]] = []
        self.trouble = ""
        self.material: Material | None = None
        self._certificates: tuple[tuple[str, Certificate], ...] = ()
        self._denylist, self._former = Denylist(), set[Certificate]()
        self._tried = self._seen = self._stamp()
        try:
            self._load_denylist()
            self._load_files()
        except ApplianceError as error:
            raise ListenError(f"the TLS files cannot be used: {error}", remedy=REMEDY) from error
        self._tell_expiry()

    @property
    def denylist(self) -> Denylist:
        """Who is denied now."""
        return self._denylist

    @property
    def required(self) -> bool:
        """Whether clients must show a certificate."""
        return bool(self._tls.certificate and self._tls.client_ca)

    def on_change(self, then: Callable[[], object]) -> None:
        """Have `then` called whenever other files are in use; it must not block."""
        self._then.append(then)

    def denied(self, pem: bytes, name: str) -> str:
        """Why the owner of the certificate `pem`, known by `name`, is turned away; "" when not."""
        try:
            certificate = Certificate.from_pem(pem, where="the caller")
        except CertificateError as error:
            return str(error)
        roots = [item for what, item in self._certificates if what == CLIENT_CA]
        former = any(map(certificate.issued_by, self._former))
        if former and not any(map(certificate.issued_by, roots)):
            return "the authority that issued it is no longer trusted"
        return self._denylist.reason(certificate, name)

    def shown(self) -> tuple[Shown, ...]:
        """The certificates in use, as they stand now."""
        now = utc_now(self._clock.wall_ns())
        return tuple(
            Shown(what, item.name, int(item.not_after.timestamp()) * 10**9, item.state(now))
            for what, item in self._certificates
        )

    async def keep_looking(self) -> None:
        """Look twice a second, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except Exception as error:  # noqa: BLE001 - whatever it was, the next look may fare better
                journal.failure("certificates.crashed", error)
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Take up files that changed, once they are the same at two looks: no half of a copy is believed."""
        stamp = self._stamp()
        if stamp != self._tried and stamp == self._seen:
            self._take_up()
            self._tried = stamp
        self._seen = stamp
        self._tell_expiry()

    def _take_up(self) -> None:
        """Read the denylist and the certificates, each for itself: neither waits for the other to fit."""
        changed, troubles = False, []
        for load in (self._load_denylist, self._load_files):
            try:
                changed |= load()
            except ApplianceError as error:
                troubles.append(error)
        self.trouble = "; ".join(map(str, troubles))
        if changed:
            for then in self._then:
                then()
        # Told last: what the journal says of them holds by then.
        for trouble in troubles:
            journal.failure("certificates.unusable", trouble)
        if changed:
            shown = {item.what: item.name for item in self.shown()}
            journal.event("certificates.changed", **shown, denied=self._denylist.size)

    def _load_denylist(self) -> bool:
        """Whether others are denied than before. Raises CertificateError."""
        before, path = self._denylist, self._tls.denied
        self._denylist = Denylist.read(Path(path)) if path else Denylist()
        return self._denylist != before

    def _load_files(self) -> bool:
        """Whether others are in use than before; believed only as a whole. Raises CertificateError."""
        tls = self._tls
        if not tls.certificate:
            return False
        chain = read_chain(Path(tls.certificate))
        roots = read_chain(Path(tls.client_ca)) if tls.client_ca else ()
        key = _read(tls.key)
        if not chain[0].fits(key):
            raise CertificateError(
                f"{tls.key or 'no file'} is not the unencrypted key of {tls.certificate}",
                remedy="give the key that the certificate was issued for",
            )
        # On open connections there are certificates of authorities that are trusted no more.
        known = (item for what, item in self._certificates if what == CLIENT_CA)
        self._former = {*self._former, *known} - set(roots)
        self._certificates = (
            (SERVER, chain[0]),
            *((CLIENT_CA, item) for item in roots),
        )
        before = self.material
        self.material = Material(key, _joined(chain), _joined(roots) if roots else None)
        return self.material != before

    def _stamp(self) -> Stamp:
        tls = self._tls
        return tuple(map(_stat, (tls.certificate, tls.key, tls.client_ca, tls.denied)))

    def _tell_expiry(self) -> None:
        """Tell the journal of each certificate whose standing changed for the worse."""
        standing = {}
        for item in self.shown():
            known = (item.what, f"{item.name} {item.not_after_ns}")
            standing[known] = item.state
            if item.state is not State.VALID and self._told.get(known) != item.state:
                journal.change(
                    "certificates.expiring",
                    what=item.what,
                    owner=item.name,
                    state=str(item.state),
                    not_after=timestamp(item.not_after_ns),
                )
        self._told = standing


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CertificateError(
            f"cannot read the key {path or '(none)'}: {error.strerror or error}",
            remedy="check the path and who may read it",
        ) from error


def _stat(path: str) -> tuple[int, int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_ctime_ns)


def _joined(chain: Sequence[Certificate]) -> bytes:
    return b"".join(item.pem() for item in chain)
