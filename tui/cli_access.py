"""The command line of access: token issue, list, revoke.

Knows: the options of each and their limits. Rules: as in `tui.cli`; all of these change or read a file, so
the runtime need not be up. Leaves to others: tokens (`appliance.access`), printing (`tui.commands.access`).
"""

# ruff: noqa: PLC0415 - imports inside commands keep `holdfast --help` quick

from typing import Annotated

import typer

from appliance.access import Role
from appliance.commands import reporting
from tui.options import ConfigOption, JsonOption, StateOption, YesOption, box_config

DAYS, DAYS_MAX = 365, 3650

token = typer.Typer(help="Bearer tokens for clients without a certificate.")


@token.command("issue")
@reporting
def token_issue(
    *,
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who it is for, such as line-3.")],
    role: Annotated[Role, typer.Option(help="What they are there for.")] = Role.CLIENT,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="A model that they may ask; repeat it. Without: every model."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=DAYS_MAX, help="How long it holds.")] = DAYS,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Make a token for NAME and print it, this once; a runtime that is up takes it within a second."""
    from tui.commands import access

    box = box_config(ctx, config, state).state
    models = tuple(model) if model else None
    access.issue(box, name, role, models=models, days=days, as_json=json)


@token.command("list")
@reporting
def token_list(
    *,
    ctx: typer.Context,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """List the tokens that were issued; what is kept of each opens nothing."""
    from tui.commands import access

    access.show(box_config(ctx, config, state).state, as_json=json)


@token.command("revoke")
@reporting
def token_revoke(
    *,
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Whose tokens, or the id of a single one.")
    ],
    yes: YesOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Revoke the tokens of NAME; a runtime that is up refuses them within a second."""
    from tui.commands import access

    access.revoke(box_config(ctx, config, state).state, name, ask=not yes)
