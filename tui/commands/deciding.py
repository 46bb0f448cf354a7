"""`holdfast activate`, `rollback` and `retire`: one decision from the command line.

Knows: the path from act to outcome for a person at a terminal and for a script. Rules: a person sees
before and after and is asked; a script says --yes; giving up the wait does not undo the decision, and says
so. Leaves to others: the rules of decisions (`appliance.deployment`).
"""

from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from appliance.deployment import Deployment, act_name, subject
from appliance.errors import ConfigError, UnknownModel
from appliance.exits import INTERRUPTED
from tui.actor import account_name
from tui.commands.serving import model_json
from tui.gateway import RuntimeGateway
from tui.preview import Order, Preview, preview
from tui.printing import aside, cell, out, print_json, someone_is_there
from tui.printing import table as new_table
from tui.snapshot import ModelLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A decision that was carried out: what was shown before, and the model after it."""

    order: Order
    proposal: Preview
    decision_id: str
    after: ModelLine


def decide(socket: Path, order: Order, *, ask: bool, as_json: bool) -> None:
    """Carry out `order` and print its outcome.

    Raises DecisionError, UnknownModel, UnknownVersion, Unreachable, or what kept the version from
    loading; ConfigError when nobody can be asked; SystemExit when the operator says no.
    """
    taken = take(socket, order, ask=ask)
    if as_json:
        print_json(_decision_json(taken))
    else:
        show(out(), taken)


def take(socket: Path, order: Order, *, ask: bool) -> Taken:
    """Carry out `order`, after asking if need be. Raises as `decide`."""
    with RuntimeGateway(socket) as gateway:
        proposal = preview(_model(gateway, order.model), order.act)
        if ask:
            _confirm(proposal)
        decision_id, after = _carry_out(gateway, order, proposal)
    return Taken(order=order, proposal=proposal, decision_id=decision_id, after=after)


def show(console: Console, taken: Taken) -> None:
    """Print what a decision changed."""
    before, after = taken.proposal.before, taken.after.deployment
    console.print(cell(f"{taken.proposal.title}: done", "bold"))
    console.print(_changes(Preview(act=taken.order.act, before=before, after=after)))
    actor, claimed = _recorded(taken.order)
    beside = f", who gave the name {claimed}" if claimed else ""
    console.print(cell(f"Recorded as decision {taken.decision_id} of {actor}{beside}."))


def _model(gateway: RuntimeGateway, name: str) -> ModelLine:
    found = gateway.models(name)
    if not found:
        raise UnknownModel(f"unknown model '{name}'", remedy="see `holdfast versions`")
    return found[0]


def _confirm(proposal: Preview) -> None:
    if not someone_is_there():
        raise ConfigError(
            f"{proposal.title} needs a yes, and nobody is at a terminal to give it",
            remedy="add --yes",
        )
    console = aside()
    console.print(cell(proposal.title, "bold"))
    console.print(_changes(proposal))
    try:
        agreed = typer.confirm("Go ahead?", err=True)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    if not agreed:
        console.print("Nothing was changed.")
        raise SystemExit(INTERRUPTED)


def _carry_out(gateway: RuntimeGateway, order: Order, proposal: Preview) -> tuple[str, ModelLine]:
    console = aside()
    try:
        with console.status(cell(f"{proposal.title} ...")):
            return gateway.decide(order)
    except KeyboardInterrupt:
        console.print("The runtime goes on with the decision; see `holdfast status`.")
        raise


def _changes(proposal: Preview) -> Table:
    shown = new_table("Role", "Before", "", "After")
    for change in proposal.changes:
        shown.add_row(
            change.role,
            change.before,
            "->",
            change.after,
            style="bold" if change.before != change.after else "dim",
        )
    return shown


def _decision_json(taken: Taken) -> dict[str, object]:
    order, proposal, after = taken.order, taken.proposal, taken.after
    actor, claimed = _recorded(order)
    return {
        "decision_id": taken.decision_id,
        "model": order.model,
        "act": act_name(order.act),
        "version": subject(proposal.before, order.act),
        "actor": actor,
        "claimed": claimed,
        "reason": order.reason,
        "before": _roles(proposal.before),
        "after": _roles(after.deployment),
        "versions": model_json(after)["versions"],
    }


def _recorded(order: Order) -> tuple[str, str]:
    """The actor that the record has, and the name they gave themselves, "" when it is the same."""
    actor = account_name()
    return actor, "" if order.actor == actor else order.actor


def _roles(deployment: Deployment) -> dict[str, object]:
    return {
        "active": deployment.active,
        "canary": deployment.canary,
        "canary_per_mille": deployment.canary_per_mille,
        "shadow": deployment.shadow,
        "previous": deployment.previous,
        "retired": deployment.retired,
        "tuning": deployment.tuning,
    }
