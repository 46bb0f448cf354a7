"""The command line of an operator: `holdfast`.

Knows: every command, its options and its help text; every action of the console is a command here. Rules:
data goes to standard output, everything else to standard error; a command imports what it needs when it
runs, so that help and completion are quick. Leaves to others: what a command does (`tui.commands`), exit
codes (`appliance.exits`).
"""

# ruff: noqa: PLC0415 - imports inside commands keep `holdfast --help` quick

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from appliance.commands import reporting
from appliance.errors import ConfigError
from tui.cli_access import token
from tui.cli_ca import ca
from tui.cli_decisions import decisions
from tui.cli_doctor import examining
from tui.cli_evidence import audit, comparing, drift
from tui.cli_key import key
from tui.cli_receipts import proofs
from tui.cli_replay import payloads, replaying
from tui.cli_tune import tuning
from tui.options import ConfigOption, JsonOption, StateOption, box_config, complete_model

app = typer.Typer(
    name="holdfast",
    help="Watch and steer a Holdfast box. Without a command, open the console.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point of `holdfast`."""
    # gRPC's C core remarks on lost connections on the terminal itself, across whatever is shown there.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    app(prog_name="holdfast")


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - Typer's callback takes the flag's value
    if wanted:
        from appliance.version import release

        typer.echo(f"holdfast {release()}")
        raise typer.Exit


@app.callback()
@reporting
def console(
    *,
    ctx: typer.Context,
    config: ConfigOption = None,
    state: StateOption = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the release and leave."
        ),
    ] = False,
) -> None:
    """Watch and steer a Holdfast box. Without a command, open the console."""
    if ctx.invoked_subcommand is None:
        _open_console(ctx, config, state)


@app.command()
@reporting
def status(
    *,
    ctx: typer.Context,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show how the runtime is: addresses, audit log, traffic of each model."""
    from tui.commands import serving

    serving.status(box_config(ctx, config, state), as_json=json)


@app.command()
@reporting
def versions(
    *,
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            show_default=False,
            help="Only this model.",
            autocompletion=complete_model,
        ),
    ] = "",
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """List the versions of MODEL, or of every model, with their roles."""
    from tui.commands import serving

    serving.versions(box_config(ctx, config, state).state.control_socket, model, as_json=json)


def _open_console(ctx: typer.Context, config: Path | None, state: Path | None) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError(
            "the console needs a terminal",
            remedy="use `holdfast status` in a script; `holdfast --help` lists the commands",
        )
    from tui.actor import login_name
    from tui.app import ConsoleApp
    from tui.checkpoints import newest_checkpoint
    from tui.gateway import RuntimeGateway

    chosen = box_config(ctx, config, state).state
    gateway = RuntimeGateway(chosen.control_socket)
    checkpoint = partial(newest_checkpoint, chosen)
    ConsoleApp(gateway, actor=login_name(), checkpoint=checkpoint).run()


# Typer lists commands in the order in which they were added.
app.add_typer(decisions)
app.add_typer(tuning)
app.add_typer(comparing)
audit.add_typer(proofs)
audit.add_typer(payloads)
app.add_typer(replaying)
app.add_typer(audit, name="audit", no_args_is_help=True)
app.add_typer(drift, name="drift", no_args_is_help=True)
app.add_typer(ca, name="ca", no_args_is_help=True)
app.add_typer(key, name="key", no_args_is_help=True)
app.add_typer(examining)
app.add_typer(token, name="token", no_args_is_help=True)
