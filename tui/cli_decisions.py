"""The command line of decisions: activate, rollback, retire.

Knows: the options of each. Rules: a decision has a reason and an actor. Leaves to others: carrying it
out (`tui.commands.deciding`).
"""

# ruff: noqa: PLC0415 - imports inside commands keep `holdfast --help` quick

from pathlib import Path

import typer

from appliance.commands import reporting
from appliance.deployment import Act, Activate, Retire, RollBack
from appliance.errors import ConfigError
from tui.options import (
    ActorOption,
    ConfigOption,
    JsonOption,
    ModelArgument,
    ReasonOption,
    StateOption,
    VersionArgument,
    YesOption,
    box_config,
)

decisions = typer.Typer()


@decisions.command()
@reporting
def activate(
    *,
    ctx: typer.Context,
    model: ModelArgument,
    version: VersionArgument,
    reason: ReasonOption,
    actor: ActorOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Let VERSION of MODEL answer; the version that did becomes the previous one."""
    socket = box_config(ctx, config, state).state.control_socket
    _decide(socket, model, Activate(version=version), reason, actor, ask=not yes, as_json=json)


@decisions.command()
@reporting
def rollback(
    *,
    ctx: typer.Context,
    model: ModelArgument,
    reason: ReasonOption,
    actor: ActorOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Let the previous version of MODEL answer again."""
    socket = box_config(ctx, config, state).state.control_socket
    _decide(socket, model, RollBack(), reason, actor, ask=not yes, as_json=json)


@decisions.command()
@reporting
def retire(
    *,
    ctx: typer.Context,
    model: ModelArgument,
    version: VersionArgument,
    reason: ReasonOption,
    actor: ActorOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Take VERSION of MODEL out of use for good."""
    socket = box_config(ctx, config, state).state.control_socket
    _decide(socket, model, Retire(version=version), reason, actor, ask=not yes, as_json=json)


def _decide(
    socket: Path,
    model: str,
    act: Act,
    reason: str,
    actor: str | None,
    *,
    ask: bool,
    as_json: bool,
) -> None:
    from tui.actor import login_name
    from tui.commands import deciding
    from tui.preview import Order

    if not reason.strip():
        raise ConfigError("a decision needs a reason", remedy="say why with --reason")
    order = Order(model=model, act=act, actor=actor or login_name(), reason=reason.strip())
    deciding.decide(socket, order, ask=ask, as_json=as_json)
