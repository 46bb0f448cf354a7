"""Deployment + request -> version. Pure.

Knows: which version answers. Rules: only the deployment decides; a canary's share is the same requests
each time, told by a key; a request may pin a loaded version by number or by its role; the texts are those
of Triton, which clients match on. Leaves to others: loading and running.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias
from zlib import crc32

from appliance.deployment import Deployment
from appliance.errors import RequestError, UnknownModel, UnknownVersion, VersionNotServed
from appliance.version import parse_version

ROLES = ("active", "canary", "shadow", "previous")
Reason: TypeAlias = Literal["active", "canary", "pinned", "shadow"]


@dataclass(frozen=True, slots=True)
class Route:
    """The version that answers, and why; a shadow's answer goes to nobody (`runtime.shadowing`)."""

    version: int
    reason: Reason


def choose(
    deployment: Deployment,
    *,
    requested: str,
    key: str,
    known: Collection[int],
    loaded: Collection[int],
) -> Route:
    """Choose the version for a request whose `model_version` is `requested`.

    "" leaves it to the deployment, where `key` says whether the canary answers; a role's name or a number
    pins it. `known` are the versions that exist, `loaded` those that can answer now. Raises RequestError
    on what is neither a role nor a number, UnknownVersion, VersionNotServed, or UnknownModel when no
    version is active.
    """
    if not requested:
        canary = deployment.canary
        if canary is not None and canary in loaded and in_canary(deployment, key):
            return Route(canary, "canary")
        return Route(_active(deployment, loaded), "active")
    version = _in_role(deployment, requested) if requested in ROLES else _number(requested)
    if version not in known:
        raise UnknownVersion(
            f"Request for unknown model: '{deployment.model}' version {version} is not found",
            remedy=f"use one of {', '.join(map(str, sorted(loaded)))}"
            if loaded
            else "an operator activates a version first",
        )
    if version not in loaded:
        raise _unready(
            deployment.model, version, "ask for no version, or have an operator activate this one"
        )
    return Route(version, "pinned")


def in_canary(deployment: Deployment, key: str) -> bool:
    """Whether requests of `key` are of the canary's share.

    CRC-32 of model and key, modulo 1000, below the share: the same answer on every box and at any time,
    and whoever is in a small share stays in a larger one.
    """
    return crc32(f"{deployment.model}\0{key}".encode()) % 1000 < deployment.canary_per_mille


def _active(deployment: Deployment, loaded: Collection[int]) -> int:
    if deployment.active is None:
        raise UnknownModel(
            f"Request for unknown model: '{deployment.model}' has no available versions",
            remedy="have an operator activate a version",
        )
    if deployment.active not in loaded:
        raise _unready(
            deployment.model,
            deployment.active,
            "its engine failed to load: see the journal",
        )
    return deployment.active


def _in_role(deployment: Deployment, role: str) -> int:
    version: int | None = getattr(deployment, role)
    if version is None:
        raise UnknownVersion(
            f"Request for unknown model: '{deployment.model}' version {role} is not found",
            remedy=f"ask for no version: the model has no {role} one now",
        )
    return version


def _number(requested: str) -> int:
    try:
        return parse_version(requested)
    except UnknownVersion as error:
        raise RequestError(
            f"failed to get model version from specified version string '{requested}'",
            remedy=f"give a positive whole number such as 2, or one of {', '.join(ROLES)}",
        ) from error


def _unready(model: str, version: int, remedy: str) -> VersionNotServed:
    return VersionNotServed(
        f"Request for unknown model: '{model}' version {version} is not at ready state",
        remedy=remedy,
    )
