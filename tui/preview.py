"""A decision as it is shown before it is taken: the roles before and after. Pure.

Knows: who decides what and why, and what the deployment rules make of it. Rules: before and after come
from `appliance.deployment.apply`, the very rules the runtime keeps; the runtime still has the last word.
Leaves to others: asking for the reason and carrying the decision out.
"""

from dataclasses import dataclass

from appliance.deployment import Act, Activate, Deployment, Retire, RollBack, act_name, apply
from appliance.errors import StoreError, UnknownVersion
from tui import wording
from tui.snapshot import ModelLine


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
        return 0 if isinstance(self.act, RollBack) else self.act.version


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
        verb, model = wording.ACTS[act_name(self.act)], self.before.model
        if isinstance(self.act, RollBack):
            return f"{verb} {model} to version {self.after.active}"
        return f"{verb} version {self.act.version} of {model}"

    @property
    def changes(self) -> tuple[Change, ...]:
        """Every role with its holder before and after, changed or not."""
        return (
            _change("active", self.before.active, self.after.active),
            _change("previous", self.before.previous, self.after.previous),
            Change(
                role="retired",
                before=_numbers(self.before.retired),
                after=_numbers(self.after.retired),
            ),
        )


def preview(model: ModelLine, act: Act) -> Preview:
    """What `act` would change.

    Raises UnknownVersion when the model has no such version, StoreError when an activated version
    cannot be read, DecisionError when the rules forbid the act.
    """
    if isinstance(act, (Activate, Retire)):
        _check_version(model, act)
    before = model.deployment
    return Preview(act=act, before=before, after=apply(before, act))


def _check_version(model: ModelLine, act: Activate | Retire) -> None:
    line = model.version(act.version)
    if line is None:
        known = ", ".join(str(line.number) for line in model.versions)
        raise UnknownVersion(
            f"model '{model.name}' has no version {act.version}",
            remedy=f"use one of {known}" if known else "build a bundle of it first",
        )
    if line.damage and isinstance(act, Activate):
        raise StoreError(
            f"version {act.version} of '{model.name}' cannot be read: {line.damage}",
            remedy="build the bundle again; the new version gets the next number",
        )


def _change(role: str, before: int | None, after: int | None) -> Change:
    return Change(role=role, before=wording.version(before), after=wording.version(after))


def _numbers(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers)) or wording.NOTHING
