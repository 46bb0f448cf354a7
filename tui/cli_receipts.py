"""The command line of proofs: audit receipt, checkpoint, consistency and what checks them.

Knows: the options of each. Rules: what makes a proof reads the log's files, so the runtime need not be up;
what checks one needs no box at all. Leaves to others: making, checking and printing (`tui.commands`).
"""

# ruff: noqa: PLC0415 - imports inside commands keep `holdfast --help` quick

from pathlib import Path
from typing import Annotated

import typer

from appliance.commands import reporting
from tui.options import ConfigOption, JsonOption, StateOption, box_config

proofs = typer.Typer()

OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write it there, not to standard output."),
]
KeyOption = Annotated[
    Path, typer.Option(metavar="FILE", help="The public key of the box that wrote the log.")
]
WitnessOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--witness",
        metavar="FILE",
        help="A witness's public key: it must have cosigned. May be given more than once.",
    ),
]


@proofs.command("receipt")
@reporting
def audit_receipt(
    *,
    ctx: typer.Context,
    request_id: Annotated[
        str, typer.Argument(metavar="REQUEST_ID", help="Whose record; '' with --record.")
    ] = "",
    record: Annotated[
        int | None, typer.Option(min=0, help="The record in this place, instead of a request's.")
    ] = None,
    output: OutputOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Write the receipt of one record: a file that proves it anywhere, without the box."""
    from tui.commands import receipts as commands

    chosen = box_config(ctx, config, state).state
    commands.receipt(chosen, request_id, sequence=record, output=output)


@proofs.command("check-receipt")
@reporting
def audit_check_receipt(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The receipt.")],
    key: KeyOption,
    witness: WitnessOption = None,
    json: JsonOption = False,
) -> None:
    """Check a receipt: that the log held just this record, by the box's signature."""
    from tui.commands import receipts as commands

    commands.check_receipt(file, key=key, witnesses=witness or [], as_json=json)


@proofs.command("checkpoint")
@reporting
def audit_checkpoint(
    *,
    ctx: typer.Context,
    output: OutputOption = None,
    qr: Annotated[bool, typer.Option("--qr", help="Show it as a QR code too.")] = False,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show the newest checkpoint, to keep off the box; later `audit verify --against` compares."""
    from tui.commands import receipts as commands

    chosen = box_config(ctx, config, state).state
    commands.checkpoint(chosen, output=output, qr=qr, as_json=json)


@proofs.command("consistency")
@reporting
def audit_consistency(
    *,
    ctx: typer.Context,
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The earlier checkpoint.")],
    new: Annotated[
        Path | None,
        typer.Argument(metavar="NEW", show_default=False, help="A later one; else the newest."),
    ] = None,
    output: OutputOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Write the proof that the log still begins as an earlier checkpoint says."""
    from tui.commands import receipts as commands

    commands.consistency(box_config(ctx, config, state).state, old, new, output=output)


@proofs.command("check-consistency")
@reporting
def audit_check_consistency(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The proof.")],
    key: KeyOption,
    witness: WitnessOption = None,
    json: JsonOption = False,
) -> None:
    """Check a proof that a log grew from one checkpoint to another."""
    from tui.commands import receipts as commands

    commands.check_consistency(file, key=key, witnesses=witness or [], as_json=json)


@proofs.command("checker")
@reporting
def audit_checker(*, output: OutputOption = None) -> None:
    """Write the checker: one Python file that checks receipts where there is no Holdfast."""
    from tui.commands import receipts as commands

    commands.checker(output=output)
