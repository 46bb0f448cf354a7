"""The command line of decisions: activate, canary, promote, shadow, rollback, withdraw, retire.

Knows: the options of each. Rules: a decision has a reason and an actor. Leaves to others: carrying it
out (`tui.commands.deciding`).
"""

# ruff: noqa: PLC0415 - imports inside commands keep `holdfast --help` quick

from pathlib import Path

import typer

from appliance.commands import reporting
from appliance.deployment import (
    Act,
    Activate,
    EndCanary,
    EndShadow,
    Promote,
    Retire,
    RollBack,
    StartCanary,
    StartShadow,
    Withdraw,
)
from appliance.errors import ConfigError
from tui.options import (
    ActorOption,
    ConfigOption,
    EndOption,
    JsonOption,
    ModelArgument,
    ReasonOption,
    ShareOption,
    StartedArgument,
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
def canary(
    *,
    ctx: typer.Context,
    model: ModelArgument,
    version: StartedArgument = None,
    share: ShareOption = None,
    end: EndOption = False,
    reason: ReasonOption,
    actor: ActorOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Let VERSION of MODEL answer a share of the requests beside the active version."""
    act: Act
    if end:
        _check_bare(version, share)
        act = EndCanary()
    else:
        if share is None:
            raise typer.BadParameter("say how much it answers, such as 5%", param_hint="--share")
        act = StartCanary(version=_named(version), per_mille=share)
    socket = box_config(ctx, config, state).state.control_socket
    _decide(socket, model, act, reason, actor, ask=not yes, as_json=json)


@decisions.command()
@reporting
def promote(
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
    """Let the canary of MODEL answer all requests; the active version becomes the previous one."""
    socket = box_config(ctx, config, state).state.control_socket
    _decide(socket, model, Promote(), reason, actor, ask=not yes, as_json=json)


@decisions.command()
@reporting
def shadow(
    *,
    ctx: typer.Context,
    model: ModelArgument,
    version: StartedArgument = None,
    end: EndOption = False,
    reason: ReasonOption,
    actor: ActorOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Let VERSION of MODEL compute along; its answers are recorded and go to nobody."""
    act: Act
    if end:
        _check_bare(version)
        act = EndShadow()
    else:
        act = StartShadow(version=_named(version))
    socket = box_config(ctx, config, state).state.control_socket
    _decide(socket, model, act, reason, actor, ask=not yes, as_json=json)


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
def withdraw(
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
    """Let no version of MODEL answer; rollback returns to the one that did."""
    socket = box_config(ctx, config, state).state.control_socket
    _decide(socket, model, Withdraw(), reason, actor, ask=not yes, as_json=json)


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


def _named(version: int | None) -> int:
    if version is None:
        raise typer.BadParameter(
            "name one, or end the present one with --end", param_hint="VERSION"
        )
    return version


def _check_bare(*named: int | None) -> None:
    if any(value is not None for value in named):
        raise typer.BadParameter("takes the model's name alone", param_hint="--end")


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
