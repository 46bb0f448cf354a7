"""The command line of evidence: compare; audit verify, tail, show; drift check.

Knows: the options of each and their limits. Rules: all of these read files, so the runtime need not be
up. Leaves to others: reading and printing (`tui.commands`).
"""

# ruff: noqa: PLC0415 - imports inside commands keep `holdfast --help` quick

from pathlib import Path
from typing import Annotated

import typer

from appliance.commands import reporting
from appliance.exits import DRIFT_FOUND
from tui.options import ConfigOption, JsonOption, ModelArgument, StateOption, box_config

ROWS, ROWS_MAX = 1000, 200_000
RECORDS, RECORDS_MAX = 20, 100_000
REQUESTS, REQUESTS_MAX = 1000, 100_000

comparing = typer.Typer()
audit = typer.Typer(help="Read and verify the audit log; works while the runtime is down.")
drift = typer.Typer(help="Compare what was served with what the model was proven on.")


@comparing.command()
@reporting
def compare(
    *,
    ctx: typer.Context,
    model: ModelArgument,
    number: Annotated[
        int,
        typer.Option(
            "--number", "-n", min=1, max=REQUESTS_MAX, help="How many of the last requests."
        ),
    ] = REQUESTS,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Compare the canary and the shadow of MODEL with its active version, by the audit log."""
    from tui.commands import compare as commands

    chosen = box_config(ctx, config, state).state
    commands.compare(chosen, model, requests=number, as_json=json)


@audit.command("verify")
@reporting
def audit_verify(
    *,
    ctx: typer.Context,
    against: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A checkpoint that left the box, to compare with."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The box's public key, if not its own copy."),
    ] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Re-read every record and say whether the log is whole, or where it breaks."""
    from tui.commands import audit as commands

    commands.verify(box_config(ctx, config, state).state, key=key, against=against, as_json=json)


@audit.command("tail")
@reporting
def audit_tail(
    *,
    ctx: typer.Context,
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, max=RECORDS_MAX, help="How many records.")
    ] = RECORDS,
    model: Annotated[str | None, typer.Option(help="Only records of this model.")] = None,
    category: Annotated[
        str | None, typer.Option(help="Only these, such as inference, failure or decision.")
    ] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """List the last records, oldest first."""
    from tui.commands import audit as commands

    chosen = box_config(ctx, config, state).state
    commands.tail(chosen, count=number, model=model, category=category, as_json=json)


@audit.command("show")
@reporting
def audit_show(
    *,
    ctx: typer.Context,
    request_id: Annotated[
        str, typer.Argument(metavar="ID", help="A request's or a decision's id.")
    ],
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show every record of one request or decision in full."""
    from tui.commands import audit as commands

    commands.show(box_config(ctx, config, state).state, request_id, as_json=json)


@drift.callback()
def _drift() -> None:
    """Keep `check` a command of its own although it is the only one."""


@drift.command("check")
@reporting
def drift_check(
    *,
    ctx: typer.Context,
    model: ModelArgument,
    version: Annotated[
        int | None, typer.Option(min=1, help="Its version; by default the active one.")
    ] = None,
    rows: Annotated[
        int, typer.Option(min=1, max=ROWS_MAX, help="How many of the last rows to check.")
    ] = ROWS,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Check the last rows MODEL served for drift; exit code 3 when there is some."""
    from tui.commands import drift as commands

    chosen = box_config(ctx, config, state).state
    if commands.check(chosen, model, version=version, rows=rows, as_json=json):
        raise typer.Exit(DRIFT_FOUND)
