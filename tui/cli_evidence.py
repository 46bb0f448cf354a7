"""The command line of evidence: compare; audit verify, tail, status, export, show; drift check.

Knows: the options of each and their limits. Rules: all of these read files, so the runtime need not be
up. Leaves to others: reading and printing (`tui.commands`).
"""

# ruff: noqa: PLC0415 - imports inside commands keep `holdfast --help` quick

from pathlib import Path
from typing import Annotated, Literal, get_args

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
    witness: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A witness's public key: it must have cosigned it."),
    ] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Re-read every record and say whether the log is whole, or where it breaks."""
    from tui.commands import audit as commands

    commands.verify(
        box_config(ctx, config, state).state,
        key=key,
        against=against,
        witnesses=witness or [],
        as_json=json,
    )


def _moment(text: str) -> int:
    """The moment a text names; BadParameter, saying the forms, for what is none."""
    import time

    from tui.moments import moment_ns

    try:
        return moment_ns(text, time.time_ns())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


ModelOption = Annotated[str | None, typer.Option("--model", help="Only records of this model.")]
CategoryOption = Annotated[
    str | None,
    typer.Option("--category", help="Only these, such as inference, failure or decision."),
]
PrincipalOption = Annotated[
    str | None, typer.Option("--principal", help="Only records of this principal or person.")
]
ResultOption = Annotated[
    str | None, typer.Option("--result", help="Only this result: ok, an error's code, an act.")
]
SinceOption = Annotated[
    int | None,
    typer.Option("--since", metavar="TIME", parser=_moment, help="From this time on, or 24h ago."),
]
UntilOption = Annotated[
    int | None, typer.Option("--until", metavar="TIME", parser=_moment, help="Before this time.")
]


@audit.command("tail")
@reporting
def audit_tail(
    *,
    ctx: typer.Context,
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, max=RECORDS_MAX, help="How many records.")
    ] = RECORDS,
    model: ModelOption = None,
    category: CategoryOption = None,
    principal: PrincipalOption = None,
    result: ResultOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """List the last records that fit, oldest first."""
    from appliance.audit.search import Sought
    from tui.commands import audit as commands

    sought = Sought(
        category=category,
        model=model,
        result=result,
        principal=principal,
        since_ns=since,
        until_ns=until,
    )
    commands.tail(box_config(ctx, config, state).state, count=number, sought=sought, as_json=json)


@audit.command("status")
@reporting
def audit_status(
    *,
    ctx: typer.Context,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show what the log holds, its files, and how long the disk lasts."""
    from tui.commands import auditstate as commands

    commands.status(box_config(ctx, config, state), as_json=json)


@audit.command("export")
@reporting
def audit_export(
    *,
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to: .jsonl, .csv or .parquet.")
    ],
    form: Annotated[
        Literal["jsonl", "csv", "parquet"] | None,
        typer.Option("--format", help="What to write, whatever the file's name ends in."),
    ] = None,
    model: ModelOption = None,
    category: CategoryOption = None,
    principal: PrincipalOption = None,
    result: ResultOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Write records as JSON Lines, CSV or Parquet, with the checkpoint that covers them."""
    from appliance.audit.search import Sought
    from tui.commands import auditexport as commands

    forms = {f".{each}": each for each in get_args(commands.Form)}
    chosen_form = form or forms.get(file.suffix.lower())
    if chosen_form is None:
        raise typer.BadParameter(f"'{file}' ends in none of {', '.join(forms)}: give --format")
    sought = Sought(
        category=category,
        model=model,
        result=result,
        principal=principal,
        since_ns=since,
        until_ns=until,
    )
    chosen = box_config(ctx, config, state).state
    commands.export(chosen, file, form=chosen_form, sought=sought, force=force, as_json=json)


@audit.command("show")
@reporting
def audit_show(
    *,
    ctx: typer.Context,
    request_id: Annotated[
        str, typer.Argument(metavar="ID", help="A request's or a decision's id.")
    ],
    payload: Annotated[
        bool, typer.Option("--payload", help="Show the inputs that were kept of the request.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="With --payload: write them there too."),
    ] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show every record of one request or decision in full."""
    if payload:
        from tui.commands import payload as payloads

        chosen = box_config(ctx, config, state).state
        payloads.show(chosen, request_id, output=output, as_json=json)
        return
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
