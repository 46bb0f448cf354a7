"""Roles, and the bearer tokens of a box at rest.

Knows: the four roles, the form of a token and of the file that lists tokens. Rules: a token is 256 random
bits, shown once and kept as its SHA-256 only; a revoked one stays listed. Leaves to others: who may call
what (`runtime.access`), certificates.

A slow hash (scrypt, argon2) guards what people choose, which can be guessed. 256 random bits cannot, with
any hash (2^255 tries on average), and a slow one would cost every request tens of milliseconds.
"""

import hashlib
import re
import secrets
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec

from appliance.errors import StateError, TokenError
from appliance.files import make_directory, write_file
from appliance.staging import locked
from appliance.tables import from_json

PREFIX = "holdfast_"
SECRET_BYTES = 32
ID_CHARACTERS = 12
TOKENS_MAX = 10_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
DAY_NS = 86_400 * 10**9

Nanoseconds = Annotated[int, msgspec.Meta(ge=0)]


class Role(StrEnum):
    """What a principal is there for; which calls that allows is one table (`runtime.access.methods`)."""

    CLIENT = "client"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ENGINEER = "engineer"


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One token as it is listed; `sha256` is of the whole token's ASCII bytes, 64 hex digits.

    `models` None: all of them. Times are UTC in nanoseconds; `revoked_ns` is 0 while it holds.
    """

    name: str
    role: Role
    models: tuple[str, ...] | None
    sha256: Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
    issued_ns: Nanoseconds
    expires_ns: Nanoseconds
    revoked_ns: Nanoseconds = 0

    @property
    def id(self) -> str:
        """What tells two tokens of one name apart: the first digits of its digest."""
        return self.sha256[:ID_CHARACTERS]

    @property
    def principal(self) -> str:
        """The name that records keep."""
        return f"token:{self.name}"

    def holds(self, wall_ns: int) -> bool:
        """Whether whoever shows it at that moment is let in."""
        return not self.revoked_ns and wall_ns < self.expires_ns


class Listed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of tokens."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    tokens: tuple[Token, ...] = ()


def digest(token: str) -> str:
    """What is kept of a token: its SHA-256, 64 hex digits."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens that are listed in `path`, none when there is no such file. Raises StateError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StateError(
            f"cannot read {path}: {error.strerror or error}",
            remedy="let the runtime's user read it",
        ) from error
    return from_json(data, Listed, StateError, where=str(path)).tokens


def issue_token(
    path: Path, name: str, role: Role, *, models: tuple[str, ...] | None, days: int, now_ns: int
) -> tuple[str, Token]:
    """Make a token that holds for `days`, list it in `path`, and return it with its entry.

    A name may have several, so that one can take the place of another without a gap. Raises TokenError,
    StateError.
    """
    if not NAME.fullmatch(name):
        raise TokenError(
            f"'{name}' is no name for a token",
            remedy="use up to 64 letters, digits and ._@-, such as line-3",
        )
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    token = Token(
        name=name,
        role=role,
        models=models,
        sha256=digest(secret),
        issued_ns=now_ns,
        expires_ns=now_ns + days * DAY_NS,
    )
    with _changing(path):
        listed = read_tokens(path)
        if len(listed) >= TOKENS_MAX:
            raise TokenError(
                f"{len(listed)} tokens are listed, and no more may be",
                remedy="use certificates for so many clients",
            )
        _write(path, (*listed, token))
    return secret, token


def revoke_tokens(path: Path, name: str, *, now_ns: int) -> tuple[Token, ...]:
    """Revoke every token called `name`, or the one with that id; returns them. TokenError when none holds."""
    with _changing(path):
        listed = read_tokens(path)
        found = {
            token.sha256: msgspec.structs.replace(token, revoked_ns=now_ns)
            for token in listed
            if name in (token.name, token.id) and not token.revoked_ns
        }
        if not found:
            raise TokenError(
                f"no token called '{name}' holds",
                remedy="see `holdfast token list` for names and ids",
            )
        _write(path, tuple(found.get(token.sha256, token) for token in listed))
    return tuple(found.values())


def _write(path: Path, tokens: tuple[Token, ...]) -> None:
    # Root may issue too: what the file holds opens nothing, and its directory is closed to strangers.
    write_file(path, msgspec.json.format(msgspec.json.encode(Listed(tokens=tokens))), mode=0o644)


def _changing(path: Path) -> AbstractContextManager[None]:
    """One change of the file at a time, whichever process makes it."""
    return locked(make_directory(path.parent, mode=0o755) / f".{path.name}.lock")
