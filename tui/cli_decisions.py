"""The command line of decisions: activate, canary, promote, shadow, rollback, withdraw, retire.

Knows: which act each command names, and the options that all of them take. Rules: a decision has a reason and
an actor. Leaves to others: carrying it out (`tui.commands.deciding`).
"""

# ruff: noqa: PLC0415 - imports inside commands keep `holdfast --help` quick

import inspect
from collections.abc import Callable
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


def decision(act_of: Callable[..., Act]) -> Callable[..., Act]:
    """Make a command of a function from a command's own options to the act that they name.

    It gets the function's name and help text, and besides its options those of every decision.
    """

    def decide(
        *,
        ctx: typer.Context,
        model: ModelArgument,
        reason: ReasonOption,
        actor: ActorOption = None,
        yes: YesOption = False,
        config: ConfigOption = None,
        state: StateOption = None,
        json: JsonOption = False,
        **own: object,
    ) -> None:
        socket = box_config(ctx, config, state).state.control_socket
        _decide(socket, model, act_of(**own), reason, actor, ask=not yes, as_json=json)

    # Typer reads a command's options from its signature and the types from its annotations.
    ctx, model, *common, _ = inspect.signature(decide).parameters.values()
    own = inspect.signature(act_of).parameters.values()
    decide.__signature__ = inspect.Signature([ctx, model, *own, *common])  # type: ignore[attr-defined]
    decide.__annotations__ |= {option.name: option.annotation for option in own}
    decide.__name__, decide.__doc__ = act_of.__name__, act_of.__doc__
    decisions.command()(reporting(decide))
    return act_of


@decision
def activate(*, version: VersionArgument) -> Act:
    """Let VERSION of MODEL answer; the version that did becomes the previous one."""
    return Activate(version=version)


@decision
def canary(
    *, version: StartedArgument = None, share: ShareOption = None, end: EndOption = False
) -> Act:
    """Let VERSION of MODEL answer a share of the requests beside the active version."""
    if end:
        _check_bare(version, share)
        return EndCanary()
    if share is None:
        raise typer.BadParameter("say how much it answers, such as 5%", param_hint="--share")
    return StartCanary(version=_named(version), per_mille=share)


@decision
def promote() -> Act:
    """Let the canary of MODEL answer all requests; the active version becomes the previous one."""
    return Promote()


@decision
def shadow(*, version: StartedArgument = None, end: EndOption = False) -> Act:
    """Let VERSION of MODEL compute along; its answers are recorded and go to nobody."""
    if end:
        _check_bare(version)
        return EndShadow()
    return StartShadow(version=_named(version))


@decision
def rollback() -> Act:
    """Let the previous version of MODEL answer again."""
    return RollBack()


@decision
def withdraw() -> Act:
    """Let no version of MODEL answer; rollback returns to the one that did."""
    return Withdraw()


@decision
def retire(*, version: VersionArgument) -> Act:
    """Take VERSION of MODEL out of use for good."""
    return Retire(version=version)


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
