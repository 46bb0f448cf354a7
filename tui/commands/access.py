"""What the token commands do.

Knows: how a token and the list of them are shown. Rules: the token alone goes to standard output, so that a
pipe gets nothing else; each change leaves a note for the log. Leaves to others: tokens themselves (`appliance.access`).
"""

from typing import Literal

import msgspec
import typer

from appliance.access import Role, Token, issue_token, read_tokens, revoke_tokens
from appliance.audit.kinds import AccessChanged
from appliance.clock import SystemClock, timestamp
from appliance.config import StateConfig
from appliance.errors import ConfigError
from tui.noting import leave_note
from tui.printing import aside, cell, out, print_json, someone_is_there, table

# Of an ISO 8601 time: the hour is in --json.
DAY_CHARACTERS = len("2026-11-21")


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One token as it is shown; `models` null: every model."""

    id: str
    name: str
    principal: str
    role: Role
    models: tuple[str, ...] | None
    state: str
    issued: str
    expires: str


class Issued(Shown, frozen=True, kw_only=True):
    """A new token, with itself."""

    token: str


def issue(
    state: StateConfig,
    name: str,
    role: Role,
    *,
    models: tuple[str, ...] | None,
    days: int,
    as_json: bool,
) -> None:
    """Make a token and print it. Raises TokenError, StateError."""
    clock = SystemClock()
    secret, token = issue_token(
        state.tokens, name, role, models=models, days=days, now_ns=clock.wall_ns()
    )
    leave_note(state, _changed("issued", token))
    shown = _shown(token, clock.wall_ns())
    if as_json:
        print_json(Issued(token=secret, **msgspec.structs.asdict(shown)))
        return
    typer.echo(secret)
    aside().print(
        f"Token {token.id} of {token.principal}, {role}, holds until {shown.expires}. "
        "It is shown this once: only its SHA-256 is kept."
    )


def show(state: StateConfig, *, as_json: bool) -> None:
    """Print every token, the newest first. Raises StateError."""
    now = SystemClock().wall_ns()
    tokens = [_shown(token, now) for token in reversed(read_tokens(state.tokens))]
    if as_json:
        print_json(tokens)
        return
    days = ("issued", "expires")
    lines = table("id", "name", "role", "models", "state", *days, whole=("id", *days))
    for token in tokens:
        models = "all" if token.models is None else ", ".join(token.models)
        style = "" if token.state == "holds" else "dim"
        lines.add_row(
            *(
                cell(value, style)
                for value in (
                    token.id,
                    token.name,
                    token.role,
                    models,
                    token.state,
                    token.issued[:DAY_CHARACTERS],
                    token.expires[:DAY_CHARACTERS],
                )
            )
        )
    out().print(lines)


def revoke(state: StateConfig, name: str, *, ask: bool) -> None:
    """Revoke the tokens of `name`, after asking. Raises ConfigError, TokenError, StateError."""
    if ask:
        if not someone_is_there():
            raise ConfigError("nobody is there to confirm it", remedy="give --yes")
        typer.confirm(f"Revoke what '{name}' holds?", abort=True, err=True)
    revoked = revoke_tokens(state.tokens, name, now_ns=SystemClock().wall_ns())
    for token in revoked:
        leave_note(state, _changed("revoked", token))
        aside().print(f"Revoked {token.id} of {token.principal}.")


def _changed(act: Literal["issued", "revoked"], token: Token) -> AccessChanged:
    return AccessChanged(
        act=act,
        shown="token",
        id=token.id,
        name=token.principal,
        role=token.role,
        models=token.models or (),
        expires_wall=timestamp(token.expires_ns),
        by="",
    )


def _shown(token: Token, now_ns: int) -> Shown:
    expired = "expired" if now_ns >= token.expires_ns else "holds"
    return Shown(
        id=token.id,
        name=token.name,
        principal=token.principal,
        role=token.role,
        models=token.models,
        state="revoked" if token.revoked_ns else expired,
        issued=timestamp(token.issued_ns)[:16] + "Z",
        expires=timestamp(token.expires_ns)[:16] + "Z",
    )
