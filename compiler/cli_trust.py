"""The commands about who may sign: trust add, list, revoke.

Knows: their options. Rules: as in `cli`; a revocation asks for its reason. Leaves to others: the store of
signers (`appliance.trust`).
"""

# ruff: noqa: PLC0415  heavy rooms are imported by the command that needs them
from pathlib import Path
from typing import Annotated

import typer

from appliance.commands import reporting
from appliance.config import load_config
from compiler.options import ConfigOption, JsonOption, StateOption, show

app = typer.Typer(
    name="trust",
    help="Say whose bundles this box builds.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("add")
@reporting
def add(
    key: Annotated[Path, typer.Argument(help="The signer's public key, NAME.pub.")],
    *,
    name: Annotated[
        str | None, typer.Option("--name", help="Who holds it; the file's name if left out.")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="A model that they may sign, or a pattern; again for more."),
    ] = None,
    roles: Annotated[
        list[str] | None,
        typer.Option("--role", help="bundle (the default) or source; again for both."),
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="From when, 2026-12-31.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Until when, 2027-12-31.")] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Trust a signer, or change what they may sign."""
    settings = load_config(config, state=state)
    from appliance.errors import KeyFileError
    from appliance.modelkeys import load_public
    from appliance.trust import Role, Signer, add_signer
    from compiler.trustwords import signer_lines, signer_values

    known = [str(role) for role in Role]
    wanted = roles or [str(Role.BUNDLE)]
    for role in wanted:
        if role not in known:
            raise KeyFileError(
                f"there is no role '{role}'", remedy=f"use one of {', '.join(known)}"
            )
    public = load_public(key)
    signer = Signer(
        key_id=public.key_id,
        name=name or key.stem,
        roles=tuple(Role(role) for role in dict.fromkeys(wanted)),
        models=tuple(models or ()),
        since=since,
        until=until,
    )
    add_signer(settings.state.trust, public, signer)
    show(signer_values(signer) if json else signer_lines(signer))


@app.command("list")
@reporting
def list_signers(
    *, config: ConfigOption = None, state: StateOption = None, json: JsonOption = False
) -> None:
    """Show every signer this box knows, the revoked among them."""
    settings = load_config(config, state=state)
    from appliance.trust import TrustStore
    from compiler.trustwords import listed_text, listed_values

    rows = TrustStore.read(settings.state.trust).listed()
    show(listed_values(rows)) if json else print(listed_text(rows))


@app.command("revoke")
@reporting
def revoke(
    named: Annotated[str, typer.Argument(help="The signer's name, or a key id's beginning.")],
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept and shown.")],
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Let a signer's key count no more. What is installed already stays."""
    settings = load_config(config, state=state)
    from appliance.clock import SystemClock, timestamp
    from appliance.trust import revoke_signer
    from compiler.trustwords import signer_lines, signer_values

    at = timestamp(SystemClock().wall_ns())
    signer = revoke_signer(settings.state.trust, named, at=at, reason=reason)
    show(signer_values(signer) if json else signer_lines(signer))
