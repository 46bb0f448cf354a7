"""The command line of the doctor.

Knows: its options. Rules: exit code 5 when there is trouble, 0 with warnings only. Leaves to others: looking
(`tui.doctor`), printing (`tui.commands.doctor`).
"""

# ruff: noqa: PLC0415 - imports inside commands keep `holdfast --help` quick

from pathlib import Path
from typing import Annotated

import typer

from appliance.commands import reporting
from appliance.exits import TROUBLE_FOUND
from tui.options import ConfigOption, JsonOption, StateOption

examining = typer.Typer()
_REMOTE = "Another box, as its client"


@examining.command()
@reporting
def doctor(
    *,
    ctx: typer.Context,
    address: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", help="Walk to this server instead.", rich_help_panel=_REMOTE
        ),
    ] = "",
    authority: Annotated[
        Path | None,
        typer.Option(
            "--ca", metavar="FILE", help="Who issued its certificate.", rich_help_panel=_REMOTE
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The certificate to show.", rich_help_panel=_REMOTE),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its key.", rich_help_panel=_REMOTE)
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", metavar="FILE", help="A bearer token to show.", rich_help_panel=_REMOTE
        ),
    ] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Look for what is wrong with this box, or with the way to another; exit code 5 when something is."""
    from tui.commands import doctor as commands

    if address:
        visit = commands.visit(address, authority, certificate, key=key, token_file=token_file)
        well = commands.walk(visit, as_json=json)
    else:
        root = ctx.find_root().params
        well = commands.look(config or root.get("config"), state or root.get("state"), as_json=json)
    if not well:
        raise typer.Exit(TROUBLE_FOUND)
