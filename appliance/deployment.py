"""Which versions of a model play which role, and which decisions change that. Pure.

Knows: the roles and the rules of decisions. Rules: (deployment, act) -> deployment, or DecisionError
saying why not; nothing here loads, records or asks the time. Leaves to others: carrying it out
(`runtime.controlplane`).
"""

from typing import TypeAlias

import msgspec

from appliance.errors import DecisionError
from appliance.version import ModelName, VersionNumber


class Deployment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The roles of one model's versions: `active` answers, `previous` is what roll back returns to."""

    model: ModelName
    active: VersionNumber | None = None
    previous: VersionNumber | None = None
    retired: tuple[VersionNumber, ...] = ()

    @property
    def loaded(self) -> tuple[int, ...]:
        """The versions that must be warm: active first, then previous."""
        return tuple(version for version in (self.active, self.previous) if version is not None)

    def role(self, version: int) -> str:
        """The role of `version`: active, previous, retired, or "" for none."""
        if version in self.retired:
            return "retired"
        return {self.active: "active", self.previous: "previous"}.get(version, "")


class Activate(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="activate"
):
    """Let `version` answer; the one that did becomes previous."""

    version: VersionNumber


class RollBack(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="roll_back"
):
    """Let the previous version answer again; the one that did becomes previous."""


class Retire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="retire"):
    """Take `version` out of use for good: it can no longer be activated."""

    version: VersionNumber


Act: TypeAlias = Activate | RollBack | Retire


def act_name(act: Act) -> str:
    """The act's name as recorded and shown: activate, roll_back or retire."""
    return str(act.__struct_config__.tag)


def apply(deployment: Deployment, act: Act) -> Deployment:
    """The deployment after `act`. Raises DecisionError when the rules forbid it."""
    if isinstance(act, Activate):
        return _activate(deployment, act.version)
    if isinstance(act, RollBack):
        return _roll_back(deployment)
    return _retire(deployment, act.version)


def _activate(deployment: Deployment, version: int) -> Deployment:
    if version in deployment.retired:
        raise _refused(deployment, f"version {version} is retired", "activate another version")
    if version == deployment.active:
        raise _refused(deployment, f"version {version} is already active", "nothing to do")
    return msgspec.structs.replace(deployment, active=version, previous=deployment.active)


def _roll_back(deployment: Deployment) -> Deployment:
    if deployment.previous is None:
        raise _refused(deployment, "there is no previous version", "activate a version by number")
    return msgspec.structs.replace(
        deployment, active=deployment.previous, previous=deployment.active
    )


def _retire(deployment: Deployment, version: int) -> Deployment:
    if version == deployment.active:
        raise _refused(deployment, f"version {version} is active", "activate another one first")
    if version in deployment.retired:
        raise _refused(deployment, f"version {version} is already retired", "nothing to do")
    previous = None if version == deployment.previous else deployment.previous
    retired = tuple(sorted((*deployment.retired, version)))
    return msgspec.structs.replace(deployment, previous=previous, retired=retired)


def _refused(deployment: Deployment, why: str, remedy: str) -> DecisionError:
    return DecisionError(f"model '{deployment.model}': {why}", remedy=remedy)
