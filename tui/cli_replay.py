"""The command line of payloads and feedback: replay, feedback, audit erase.

Knows: the options of each and their limits. Rules: what a person may have mistyped is told with the right form.
Leaves to others: doing it (`tui.commands`).
"""

# ruff: noqa: PLC0415 - imports inside commands keep `holdfast --help` quick

from typing import Annotated

import typer

from appliance.clock import SystemClock
from appliance.commands import reporting
from tui.moments import moment_ns
from tui.options import (
    ConfigOption,
    JsonOption,
    ModelArgument,
    StateOption,
    box_config,
)

REQUESTS, REQUESTS_MAX = 1000, 1_000_000

replaying = typer.Typer()
payloads = typer.Typer()


def _moment(text: str) -> int:
    try:
        return moment_ns(text, SystemClock().wall_ns())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _truth(text: str) -> object:
    from tui.truth import truth_from

    try:
        return truth_from(text)
    except ValueError as error:
        raise typer.BadParameter(f"'{text}': {error}") from error


SinceOption = Annotated[
    int | None,
    typer.Option(metavar="MOMENT", parser=_moment, help="From then on: 2026-11-20T10:00Z, or 24h."),
]
UntilOption = Annotated[
    int | None, typer.Option(metavar="MOMENT", parser=_moment, help="Before then, as --since.")
]
RequestArgument = Annotated[str, typer.Argument(metavar="ID", help="The request's id.")]


@replaying.command()
@reporting
def replay(
    *,
    ctx: typer.Context,
    model: ModelArgument,
    version: Annotated[int, typer.Option(min=1, help="The version that is to answer.")],
    since: SinceOption = None,
    until: UntilOption = None,
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, max=REQUESTS_MAX, help="The last so many.")
    ] = REQUESTS,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Run the kept requests of MODEL with any version, and say how its answers differ; serves nothing."""
    from appliance.payloads import ALWAYS_NS
    from tui.commands import replay as commands

    commands.replay(
        box_config(ctx, config, state),
        model,
        version,
        since_ns=since or 0,
        until_ns=ALWAYS_NS if until is None else until,
        requests=number,
        as_json=json,
    )


@replaying.command()
@reporting
def feedback(
    *,
    ctx: typer.Context,
    request_id: RequestArgument,
    truth: Annotated[
        list[object] | None,
        typer.Option(
            "--truth",
            metavar="NAME=VALUE",
            parser=_truth,
            help="The right answer: label=3, name=oak, scores:FP32=0.2,0.8. May be given more than once.",
        ),
    ] = None,
    note: Annotated[str, typer.Option(help="What else there is to say.")] = "",
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Record what the right answer to an earlier request was."""
    from tui.commands import feedback as commands

    socket = box_config(ctx, config, state).state.control_socket
    commands.feedback(socket, request_id, truth or [], note, as_json=json)  # type: ignore[arg-type]


@payloads.command("erase")
@reporting
def audit_erase(
    *,
    ctx: typer.Context,
    request_id: RequestArgument,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Erase what is kept of a request's inputs; its records stay and the log still verifies."""
    from tui.commands import payload as commands

    commands.erase(
        box_config(ctx, config, state).state,
        request_id,
        reason=reason,
        as_json=json,
    )
