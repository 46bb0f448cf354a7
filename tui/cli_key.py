"""The command line of the box key: key status, rotate, seal, lost.

Knows: the options of each. Rules: these work on files, so the runtime need not be up; what is ordered here is
carried out by the runtime's next start. Leaves to others: the acts and their words (`tui.commands.key`).
"""

# ruff: noqa: PLC0415 - imports inside commands keep `holdfast --help` quick

from typing import Annotated, Literal

import typer

from appliance.commands import reporting
from tui.options import (
    ActorOption,
    ConfigOption,
    JsonOption,
    StateOption,
    YesOption,
    box_config,
)

key = typer.Typer(help="Look after the key that signs the audit log's checkpoints.")

KeyReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is recorded in the log.")]


@key.command("status")
@reporting
def key_status(
    *,
    ctx: typer.Context,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show which key signs the log, how it is kept, and whether another waits."""
    from tui.commands import key as commands

    commands.status(box_config(ctx, config, state).state, as_json=json)


@key.command("rotate")
@reporting
def key_rotate(
    *,
    ctx: typer.Context,
    reason: KeyReasonOption,
    actor: ActorOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Make a new key; at its next start the runtime has the old key vouch for it and uses it."""
    from tui.actor import login_name
    from tui.commands import key as commands

    chosen = box_config(ctx, config, state).state
    commands.rotate(chosen, reason=reason, by=actor or login_name())


@key.command("seal")
@reporting
def key_seal(
    *,
    ctx: typer.Context,
    sealer: Annotated[
        Literal["auto", "tpm2", "host", "host+tpm2"],
        typer.Option("--with", help="What it is sealed to; auto takes the TPM where there is one."),
    ] = "auto",
    yes: YesOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Seal the key to this machine by systemd-creds, and remove its file. Needs root."""
    from tui.commands import key as commands

    commands.seal_box_key(box_config(ctx, config, state).state, sealer=sealer, ask=not yes)


@key.command("lost")
@reporting
def key_lost(
    *,
    ctx: typer.Context,
    reason: KeyReasonOption,
    actor: ActorOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """The key is gone: set the log aside, as it is, and begin a new one under a new key."""
    from tui.actor import login_name
    from tui.commands import key as commands

    chosen = box_config(ctx, config, state).state
    commands.lost(chosen, reason=reason, by=actor or login_name(), ask=not yes)
