"""Bearer tokens, as the door looks them up.

Knows: the `authorization` metadata of RFC 6750, and the list at rest. Rules: a token is looked up by its
SHA-256, so that nothing here holds one and no comparison tells how much of a guess was right; a change of
the list holds within a second; a list that cannot be read leaves the last one standing, and is journalled.
Leaves to others: issuing (`appliance.access`).
"""

from collections.abc import Callable
from pathlib import Path

from appliance import journal
from appliance.access import Token, digest, read_tokens
from appliance.clock import Clock
from appliance.errors import ApplianceError, Unidentified
from runtime.access.principal import Principal

KEY = "authorization"
SCHEME = "bearer "
# No token of ours is longer; so much and no more is hashed for a stranger.
CHARACTERS_MAX = 200

_REMEDY = "send the metadata authorization: Bearer TOKEN (`holdfast token issue` makes one)"


class Tokens:
    """The tokens that hold; `principal` makes the principal of one when it is first seen."""

    def __init__(
        self, path: Path, clock: Clock, principal: Callable[[Token], Principal | None]
    ) -> None:
        """Read the list. Raises StateError."""
        self._path, self._clock, self._principal = path, clock, principal
        self._stamp = self._tried = _stamp(path)
        self._known: dict[str, tuple[Token, Principal]] = {}
        self.any = False  # whether any is listed
        self._fill(read_tokens(path))

    def __len__(self) -> int:
        """How many hold now."""
        now = self._clock.wall_ns()
        return sum(token.holds(now) for token, _ in self._known.values())

    def find(self, authorization: str) -> Principal:
        """The principal of what came as `authorization`. Raises Unidentified."""
        if authorization[: len(SCHEME)].lower() != SCHEME or len(authorization) > CHARACTERS_MAX:
            raise Unidentified("the authorization is no bearer token", remedy=_REMEDY)
        found = self._known.get(digest(authorization[len(SCHEME) :].strip()))
        if found is None:
            raise Unidentified("the token is unknown here", remedy=_REMEDY)
        token, principal = found
        if not token.holds(self._clock.wall_ns()):
            why = "was revoked" if token.revoked_ns else "has expired"
            raise Unidentified(f"the token of '{token.name}' {why}", remedy="ask for a new one")
        return principal

    def look(self) -> None:
        """Take up a list that has changed; end the standing of what no longer holds. Never raises."""
        stamp, now = _stamp(self._path), self._clock.wall_ns()
        if stamp != self._stamp:
            try:
                listed = read_tokens(self._path)
            except ApplianceError as error:
                # Tried again each second, for a revocation may be in it; told once.
                if stamp != self._tried:
                    journal.failure("access.tokens_unread", error)
            else:
                self._fill(listed)
                self._stamp = stamp
                journal.event("access.tokens_changed", listed=len(listed), hold=len(self))
            self._tried = stamp
        for token, principal in self._known.values():
            if not token.holds(now):
                principal.fall()

    def _fill(self, listed: tuple[Token, ...]) -> None:
        """Put `listed` in place of what is known; the principal of an entry that stays is kept."""
        before, known = self._known, dict[str, tuple[Token, Principal]]()
        now = self._clock.wall_ns()
        for token in listed:
            stays = before.get(token.sha256)
            principal = stays[1] if stays else self._principal(token)
            if principal is not None:
                known[token.sha256] = (token, principal)
                if not token.holds(now):
                    principal.fall()  # first: whose calls are refused has no open stream either
        for sha256, (_, principal) in before.items():
            if sha256 not in known:
                principal.fall()
        self._known, self.any = known, bool(known)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes whenever the file is replaced; None without one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
