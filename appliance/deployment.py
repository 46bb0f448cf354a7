"""Which versions of a model play which role, and which decisions change that. Pure.

Knows: the roles and the rules of decisions. Rules: (deployment, act) -> deployment, or DecisionError
saying why not; a version plays one role at most; nothing here loads, records or asks the time. Leaves to
others: carrying it out (`runtime.controlplane`), choosing for a request (`runtime.router`).
"""

from typing import Annotated, TypeAlias, TypeVar

import msgspec

from appliance.errors import DecisionError
from appliance.version import ModelName, VersionNumber

# What frees a version of a role.
_FREED = {
    "retired": "use another version",
    "active": "activate another one first",
    "canary": "end the canary first",
    "shadow": "end the shadow first",
}
PerMille = Annotated[int, msgspec.Meta(ge=1, le=999)]
Section = TypeVar("Section", bound=msgspec.Struct)


class Tuning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one model is batched and computed, as it was measured to be best; names and units as in the settings.

    It holds for every version of the model, over what the settings of the box say.
    """

    rows_max: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
    delay_us_max: Annotated[int, msgspec.Meta(ge=0, le=60_000_000)]
    lanes: Annotated[int, msgspec.Meta(ge=1, le=64)]
    threads: Annotated[int, msgspec.Meta(ge=0, le=1024)]
    bucket_rows: tuple[Annotated[int, msgspec.Meta(ge=1, le=1 << 20)], ...] = ()


class Deployment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The roles of one model's versions.

    `active` answers, but for the `canary_per_mille` thousandths of requests that `canary` answers (0
    without one); `shadow` computes along and its answers are only recorded; `previous` is what roll back
    returns to; `retired` ones never serve again. `tuning` is None where the settings of the box hold.
    """

    model: ModelName
    active: VersionNumber | None = None
    previous: VersionNumber | None = None
    retired: tuple[VersionNumber, ...] = ()
    canary: VersionNumber | None = None
    canary_per_mille: Annotated[int, msgspec.Meta(ge=0, le=999)] = 0
    shadow: VersionNumber | None = None
    tuning: Tuning | None = None

    @property
    def loaded(self) -> tuple[int, ...]:
        """The versions that must be warm, the most needed first; previous only behind an active one."""
        kept = None if self.active is None else self.previous
        held = (self.active, self.canary, self.shadow, kept)
        return tuple(version for version in held if version is not None)

    def role(self, version: int) -> str:
        """The role of `version`: active, canary, shadow, previous, retired, or "" for none."""
        if version in self.retired:
            return "retired"
        names = {
            self.active: "active",
            self.canary: "canary",
            self.shadow: "shadow",
            self.previous: "previous",
        }
        return names.get(version, "")


class _Act(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator may decide."""


class Activate(_Act, frozen=True, kw_only=True, tag="activate"):
    """Let `version` answer; the one that did becomes previous, and a canary ends."""

    version: VersionNumber


class StartCanary(_Act, frozen=True, kw_only=True, tag="start_canary"):
    """Let `version` answer `per_mille` thousandths of the requests; of a running canary, change them."""

    version: VersionNumber
    per_mille: PerMille


class EndCanary(_Act, frozen=True, kw_only=True, tag="end_canary"):
    """Let the active version answer all requests again."""


class Promote(_Act, frozen=True, kw_only=True, tag="promote"):
    """Let the canary answer all requests; the active version becomes previous."""


class StartShadow(_Act, frozen=True, kw_only=True, tag="start_shadow"):
    """Let `version` compute along; what it says is recorded and goes to nobody."""

    version: VersionNumber


class EndShadow(_Act, frozen=True, kw_only=True, tag="end_shadow"):
    """Let the shadow compute no longer."""


class RollBack(_Act, frozen=True, kw_only=True, tag="roll_back"):
    """Let the previous version answer again; the one that did becomes previous, and a canary ends."""


class Withdraw(_Act, frozen=True, kw_only=True, tag="withdraw"):
    """Let no version answer; the one that did is what roll back returns to, and a canary ends."""


class Retire(_Act, frozen=True, kw_only=True, tag="retire"):
    """Take `version` out of use for good: it can no longer play a role."""

    version: VersionNumber


class Tune(_Act, frozen=True, kw_only=True, tag="tune"):
    """Batch and compute the model as `tuning` says, from now on and after each start."""

    tuning: Tuning


class EndTuning(_Act, frozen=True, kw_only=True, tag="end_tuning"):
    """Batch and compute the model as the settings of the box say again."""


Act: TypeAlias = (
    Activate
    | StartCanary
    | EndCanary
    | Promote
    | StartShadow
    | EndShadow
    | RollBack
    | Withdraw
    | Retire
    | Tune
    | EndTuning
)


def act_name(act: Act) -> str:
    """The act's name as recorded and shown, such as start_canary."""
    return str(act.__struct_config__.tag)


def subject(deployment: Deployment, act: Act) -> int | None:
    """The version that `act` is about: what it names, or what plays the role it names."""
    match act:
        case RollBack():
            return deployment.previous
        case Promote() | EndCanary():
            return deployment.canary
        case EndShadow():
            return deployment.shadow
        case Withdraw() | Tune() | EndTuning():
            return deployment.active
        case _:
            return act.version


def apply(deployment: Deployment, act: Act) -> Deployment:
    """The deployment after `act`. Raises DecisionError when the rules forbid it."""
    match act:
        case Activate():
            _check_free(
                deployment, act.version, to_be="active", leaving=("canary", "shadow", "previous")
            )
            return _answering(deployment, act.version)
        case RollBack():
            version = _held(deployment, "previous", "activate a version by number")
            return _answering(deployment, version)
        case Promote():
            return _answering(deployment, _held(deployment, "canary", "start a canary first"))
        case StartCanary():
            return _start_canary(deployment, act)
        case EndCanary():
            _held(deployment, "canary", "nothing to do")
            return msgspec.structs.replace(deployment, canary=None, canary_per_mille=0)
        case StartShadow():
            _check_free(deployment, act.version, to_be="shadow", leaving=("previous",))
            return _given(deployment, act.version, shadow=act.version)
        case EndShadow():
            _held(deployment, "shadow", "nothing to do")
            return msgspec.structs.replace(deployment, shadow=None)
        case Withdraw():
            active = _held(deployment, "active", "nothing to do")
            return msgspec.structs.replace(
                deployment, active=None, previous=active, canary=None, canary_per_mille=0
            )
        case Retire():
            _check_free(deployment, act.version, to_be="retired", leaving=("previous",))
            retired = tuple(sorted((*deployment.retired, act.version)))
            return _given(deployment, act.version, retired=retired)
        case Tune() | EndTuning():  # pragma: no branch
            return _tune(deployment, act.tuning if isinstance(act, Tune) else None)


def tuned(section: Section, tuning: Tuning | None) -> Section:
    """`section` of the settings with those of its values that `tuning` has."""
    told = {} if tuning is None else msgspec.structs.asdict(tuning)
    own = {name: told[name] for name in section.__struct_fields__ if name in told}
    return msgspec.structs.replace(section, **own)


def _tune(deployment: Deployment, tuning: Tuning | None) -> Deployment:
    if tuning == deployment.tuning:
        why = "it is tuned so already" if tuning else "it is not tuned"
        raise _refused(deployment, why, "nothing to do")
    if tuning:
        _held(deployment, "active", "activate one first")
    return msgspec.structs.replace(deployment, tuning=tuning)


def _answering(deployment: Deployment, version: int) -> Deployment:
    """Let `version` answer all requests; the one that did becomes previous."""
    after = _given(deployment, version, canary=None, canary_per_mille=0)
    return msgspec.structs.replace(after, active=version, previous=deployment.active)


def _start_canary(deployment: Deployment, act: StartCanary) -> Deployment:
    if deployment.active is None:
        raise _refused(deployment, "no version is active", "activate one first")
    if act.version != deployment.canary:
        _check_free(deployment, act.version, to_be="canary", leaving=("shadow", "previous"))
        if deployment.canary is not None:
            why = f"version {deployment.canary} is its canary already"
            raise _refused(deployment, why, "end it or promote it first")
    elif act.per_mille == deployment.canary_per_mille:
        raise _refused(deployment, "its canary answers that share already", "nothing to do")
    return _given(deployment, act.version, canary=act.version, canary_per_mille=act.per_mille)


def _given(deployment: Deployment, version: int, **roles: object) -> Deployment:
    """`deployment` with `roles`, and with `version` in no other of those that it may leave."""
    left = {role: None for role in ("shadow", "previous") if getattr(deployment, role) == version}
    return msgspec.structs.replace(deployment, **{**left, **roles})


def _held(deployment: Deployment, role: str, remedy: str) -> int:
    """The version that plays `role`; DecisionError when none does."""
    version: int | None = getattr(deployment, role)
    if version is None:
        raise _refused(deployment, f"there is no {role} version", remedy)
    return version


def _check_free(
    deployment: Deployment, version: int, *, to_be: str, leaving: tuple[str, ...] = ()
) -> None:
    """Raise DecisionError when `version` plays a role that keeps it from `to_be`."""
    role = deployment.role(version)
    if role == to_be:
        raise _refused(deployment, f"version {version} is already {role}", "nothing to do")
    if role and role not in leaving:
        raise _refused(deployment, f"version {version} is {role}", _FREED[role])


def _refused(deployment: Deployment, why: str, remedy: str) -> DecisionError:
    return DecisionError(f"model '{deployment.model}': {why}", remedy=remedy)
