"""The command line of tuning.

Knows: its options and their limits. Rules: as in `tui.cli`. Leaves to others: measuring, printing and
deciding (`tui.commands.tune`).
"""

# ruff: noqa: PLC0415 - imports inside commands keep `holdfast --help` quick

from typing import Annotated

import typer

from appliance.commands import reporting
from appliance.errors import ConfigError
from appliance.exits import GOAL_MISSED
from tui.options import (
    ActorOption,
    ConfigOption,
    JsonOption,
    ModelArgument,
    StateOption,
    YesOption,
    box_config,
)

# With a hundredth of fewer requests a 99th percentile rests on less than ten of them.
REQUESTS, REQUESTS_MIN, REQUESTS_MAX = 2000, 1000, 100_000

tuning = typer.Typer()


@tuning.command()
@reporting
def tune(
    *,
    ctx: typer.Context,
    model: ModelArgument,
    p99_ms: Annotated[
        float | None,
        typer.Option(
            "--p99-ms", min=0.1, max=60_000.0, help="The 99th percentile to keep to, in ms."
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1e6,
            help="Poisson arrivals, so many a second, instead of those in the audit log.",
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option(min=1, max=65_536, help="Rows of each request, with --rate.")
    ] = 1,
    speed: Annotated[
        float, typer.Option(min=0.01, max=1000.0, help="How many times as fast as recorded.")
    ] = 1.0,
    number: Annotated[
        int,
        typer.Option(
            "--number",
            "-n",
            min=REQUESTS_MIN,
            max=REQUESTS_MAX,
            help="How many requests, the last ones of the log, the finalists are measured with.",
        ),
    ] = REQUESTS,
    end: Annotated[
        bool, typer.Option("--end", help="Measure nothing; let the settings file hold again.")
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", help="Why; without it the best setting is only shown.")
    ] = "",
    actor: ActorOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Measure how MODEL is best batched for a latency goal; exit code 4 when nothing meets it."""
    from tui.actor import login_name
    from tui.commands import tune as commands
    from tui.livetune import Wanted

    chosen = box_config(ctx, config, state)
    words = commands.Words(actor=actor or login_name(), reason=reason.strip(), ask=not yes)
    if end:
        if not words.reason:
            raise ConfigError("a decision needs a reason", remedy="say why with --reason")
        commands.end(chosen, model, words, as_json=json)
        return
    if p99_ms is None:
        raise typer.BadParameter("say what to tune for, such as 10", param_hint="--p99-ms")
    if rows > 1 and rate is None:
        raise typer.BadParameter(
            "goes with --rate; those of the log have their own", param_hint="--rows"
        )
    wanted = Wanted(p99_ms=p99_ms, requests=number, per_second=rate, rows=rows, speed=speed)
    if not commands.tune(chosen, model, wanted, words, as_json=json):
        raise typer.Exit(GOAL_MISSED)
