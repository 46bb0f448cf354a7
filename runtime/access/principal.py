"""Who calls.

Knows: a principal, and how a client's certificate names one. Rules: the URI of SPIFFE's form comes before
the common name and there is at most one; other alternative names are the machine's, not the caller's; a name that
could be mistaken for another, or break a line, is none.
Leaves to others: whether a certificate is genuine (TLS) or denied, roles by configuration (`door`).

SPIFFE ids: https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md; here spiffe://SITE/ROLE/NAME.
"""

import re
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Protocol
from weakref import WeakSet

from appliance.access import Role
from appliance.errors import Forbidden, Unidentified
from runtime.access.allowance import Allowance

SPIFFE = "spiffe://"
# SPIFFE-ID 2.1 and 2.2: a trust domain, and path segments that are neither empty nor all dots.
SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]+(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)*")
# More would be cut in records and could not be configured (`appliance.config.access.Name`).
NAME_CHARACTERS_MAX = 256
# Keys of what gRPC tells of a TLS connection (grpc/grpc_security_constants.h).
PEM, URI, COMMON_NAME = "x509_pem_cert", "peer_uri", "x509_common_name"


class Follower(Protocol):
    """Who is told when a principal is revoked."""

    def fell(self) -> None:
        """It may ask nothing more; on any thread, perhaps twice; must not block."""


class Principal:
    """One who may call; `name` is what records keep.

    "spiffe://plant/client/line-3", "cn:line-3", "token:line-3", or "" for whoever is on an open box. `role` is
    None there only; `models` None: all. `standing` ends when the token or certificate is revoked, also for
    streams that are open.
    """

    __slots__ = ("_followers", "_following", "allowance", "models", "name", "role", "standing")

    def __init__(
        self,
        name: str,
        role: Role | None,
        models: frozenset[str] | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self.name, self.role, self.models = name, role, models
        self.allowance = allowance
        self.standing = True
        self._followers, self._following = WeakSet[Follower](), Lock()

    def fall(self) -> None:
        """Its token or certificate is revoked: end its standing, once, and tell those who follow it."""
        if not self.standing:
            return
        self.standing = False
        with self._following:
            followers = list(self._followers)
        for follower in followers:
            follower.fell()

    def follow(self, follower: Follower) -> None:
        """Tell `follower` when it falls, at once if it has; `follower` is kept by others, not from here."""
        with self._following:
            self._followers.add(follower)
        if not self.standing:
            follower.fell()

    def begin(self, model: str, size: int, now_ns: int | None) -> None:
        """Take the room for a request of `size` bytes to `model`, which `allowance.give` gives back.

        `now_ns` where the request still counts for the rate, as each of a stream does. Raises Unidentified,
        Forbidden or LimitReached; nothing is taken then.
        """
        self.check(model)
        if self.allowance is not None:
            if now_ns is not None:
                self.allowance.ask(now_ns)
            self.allowance.take(size)

    def sees(self, record: object) -> bool:
        """Whether it may have a record of the log and speak of it.

        A client those of its own requests; whoever has another role all but those of models that are not theirs.
        """
        if self.role in (None, Role.CLIENT):
            return getattr(record, "principal", None) == self.name
        model = getattr(record, "model", "")
        return self.models is None or not model or model in self.models

    def revoked(self) -> Unidentified:
        """What it is told once it has fallen."""
        return Unidentified(
            f"'{self.name}' was revoked", remedy="ask for a new token or certificate"
        )

    def check(self, model: str) -> None:
        """Raise Unidentified or Forbidden unless it may (still) ask `model`."""
        if not self.standing:
            raise self.revoked()
        if self.models is not None and model not in self.models:
            # Whether there is such a model is not told.
            raise Forbidden(
                f"'{self.name}' may not ask model '{model[:100]}'",
                remedy=f"ask one of {', '.join(sorted(self.models)) or 'none yet'}, or have the model granted",
            )


# Whoever reaches a box that is open on loopback.
ANYONE = Principal("", None)


def certificate_name(shown: Mapping[str, Sequence[bytes]]) -> str:
    """The name in a client's certificate; `shown` as gRPC's auth_context. Raises Unidentified."""
    spiffe = [uri for uri in shown.get(URI, ()) if uri.lower().startswith(SPIFFE.encode())]
    if len(spiffe) > 1:
        raise Unidentified(
            f"the certificate has {len(spiffe)} SPIFFE ids", remedy="show one with a single id"
        )
    if spiffe:
        name = _text(spiffe[0])
        if not SPIFFE_ID.fullmatch(name):
            raise Unidentified(
                f"the certificate's {name!r} is no SPIFFE id",
                remedy="show one with a URI spiffe://SITE/ROLE/NAME of plain letters and digits",
            )
        return name
    names = shown.get(COMMON_NAME, ())
    if not names or not names[0]:
        raise Unidentified(
            "the certificate names nobody",
            remedy="show one with a URI spiffe://SITE/ROLE/NAME, or with a common name",
        )
    return f"cn:{_text(names[0])}"


def _text(name: bytes) -> str:
    """A name that reads as one and only one; raises Unidentified for any other."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        text = ""
    if not text.isprintable() or not 0 < len(text) <= NAME_CHARACTERS_MAX - len("cn:"):
        raise Unidentified(
            "the certificate's name is too long, or has bytes that no name has",
            remedy=f"show one with a printable name of fewer than {NAME_CHARACTERS_MAX - 2} characters",
        )
    return text


def stated_role(name: str, site: str) -> Role | None:
    """The role in spiffe://SITE/ROLE/NAME, None when `name` states none; `site` "": any site.

    Raises Unidentified for another site's.
    """
    if not name.startswith(SPIFFE):
        return None
    domain, _, path = name.removeprefix(SPIFFE).partition("/")
    if site and domain != site:
        raise Unidentified(
            f"'{name}' belongs to another site than '{site}'",
            remedy="show a certificate of this site",
        )
    role, _, rest = path.partition("/")
    return Role(role) if rest and role in Role.__members__.values() else None
