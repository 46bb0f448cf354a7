"""A decision as it is shown before it is taken: the roles before and after. Pure.

Knows: who decides what and why, and what the deployment rules make of it. Rules: before and after come
from `appliance.deployment.apply`, the very rules the runtime keeps; the runtime still has the last word.
Leaves to others: asking for the reason and carrying the decision out.
"""

from dataclasses import dataclass
from typing import TypeAlias

from appliance.deployment import (
    Act,
    Activate,
    Deployment,
    EndCanary,
    EndShadow,
    EndTuning,
    Promote,
    Retire,
    RollBack,
    StartCanary,
    StartShadow,
    Tune,
    Tuning,
    Withdraw,
    apply,
    subject,
)
from appliance.errors import StoreError, UnknownVersion
from tui import wording
from tui.snapshot import ModelLine

Naming: TypeAlias = Activate | StartCanary | StartShadow | Retire
CANARY_PER_MILLE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A decision on its way to the runtime: the act, who takes it and why."""

    model: str
    act: Act
    actor: str
    reason: str

    @property
    def version(self) -> int:
        """The version the act names, 0 when it names none (as the control service wants it)."""
        return self.act.version if isinstance(self.act, Naming) else 0

    @property
    def per_mille(self) -> int:
        """The share the act names, 0 when it names none (as the control service wants it)."""
        return self.act.per_mille if isinstance(self.act, StartCanary) else 0

    @property
    def tuning(self) -> Tuning | None:
        """The setting the act names, None when it names none."""
        return self.act.tuning if isinstance(self.act, Tune) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One role that an act changes, in words."""

    role: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What `act` would make of a model: its deployment before and after."""

    act: Act
    before: Deployment
    after: Deployment

    @property
    def title(self) -> str:
        """The act in words, such as "Activate version 3 of digits"."""
        of = f"version {subject(self.before, self.act)} of {self.before.model}"
        match self.act:
            case Activate():
                return f"Activate {of}"
            case StartCanary() if self.act.version == self.before.canary:
                return f"Let canary {of} answer {wording.share(self.act.per_mille)}"
            case StartCanary():
                return f"Start {of} as canary at {wording.share(self.act.per_mille)}"
            case EndCanary():
                return f"End {of} as canary"
            case Promote():
                return f"Promote {of}"
            case StartShadow():
                return f"Start {of} as shadow"
            case EndShadow():
                return f"End {of} as shadow"
            case RollBack():
                return f"Roll back {self.before.model} to version {self.after.active}"
            case Withdraw():
                return f"Withdraw {of}"
            case Retire():
                return f"Retire {of}"
            case Tune():
                return f"Tune {self.before.model}"
            case EndTuning():  # pragma: no branch
                return f"End the tuning of {self.before.model}"

    @property
    def changes(self) -> tuple[Change, ...]:
        """Every role with its holder before and after, changed or not.

        Canary and shadow are left out where there is none before and after, the tuning where it stays: it takes
        more lines than a small terminal has.
        """
        before, after = _holders(self.before), _holders(self.after)
        told = (Change(role=role, before=before[role], after=after[role]) for role in before)
        return tuple(change for change in told if not _is_idle(change))


def preview(model: ModelLine, act: Act) -> Preview:
    """What `act` would change.

    Raises UnknownVersion when the model has no such version, StoreError when a version that would answer
    or compute along cannot be read, DecisionError when the rules forbid the act.
    """
    if isinstance(act, Naming):
        _check_version(model, act)
    return outlook(model.deployment, act)


def outlook(before: Deployment, act: Act) -> Preview:
    """What `act` would change, whatever versions there are; DecisionError when the rules forbid it."""
    return Preview(act=act, before=before, after=apply(before, act))


def share_offered(deployment: Deployment, version: int) -> int:
    """The share that is proposed for `version` as canary: a small one, or twice what it answers now."""
    if version != deployment.canary:
        return CANARY_PER_MILLE
    now = deployment.canary_per_mille
    return min(2 * now, 999) if now < 999 else 500


def _check_version(model: ModelLine, act: Naming) -> None:
    line = model.version(act.version)
    if line is None:
        known = ", ".join(str(line.number) for line in model.versions)
        raise UnknownVersion(
            f"model '{model.name}' has no version {act.version}",
            remedy=f"use one of {known}" if known else "build a bundle of it first",
        )
    if line.damage and not isinstance(act, Retire):
        raise StoreError(
            f"version {act.version} of '{model.name}' cannot be read: {line.damage}",
            remedy="build the bundle again; the new version gets the next number",
        )


def _holders(deployment: Deployment) -> dict[str, str]:
    """Who plays each role, in words."""
    return {
        "active": wording.version(deployment.active),
        "canary": wording.canary(deployment.canary, deployment.canary_per_mille),
        "shadow": wording.version(deployment.shadow),
        "previous": wording.version(deployment.previous),
        "retired": wording.numbers(deployment.retired),
        "tuning": wording.tuning(deployment.tuning),
    }


def _is_idle(change: Change) -> bool:
    if change.role == "tuning":
        return change.before == change.after
    return change.role in ("canary", "shadow") and change.before == change.after == wording.NOTHING
