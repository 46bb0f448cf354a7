"""Deployment + request -> version. Pure.

Knows: which version answers. Rules: only the deployment decides; a request may pin a loaded version by
number; the texts are those of Triton, which clients match on. Leaves to others: loading and running.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from appliance.deployment import Deployment
from appliance.errors import RequestError, UnknownModel, UnknownVersion, VersionNotServed
from appliance.version import parse_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The version that answers, and why: the active one, or pinned by the request."""

    version: int
    reason: Literal["active", "pinned"]


def choose(
    deployment: Deployment, *, requested: str, known: Collection[int], loaded: Collection[int]
) -> Route:
    """Choose the version for a request whose `model_version` is `requested` ("" = the active one).

    `known` are the versions that exist, `loaded` those that can answer now. Raises RequestError on a
    version that is no number, UnknownVersion, VersionNotServed, or UnknownModel when none is active.
    """
    model = deployment.model
    if not requested:
        return _active(deployment, loaded)
    version = _number(requested)
    if version not in known:
        raise UnknownVersion(
            f"Request for unknown model: '{model}' version {version} is not found",
            remedy=f"use one of {sorted(loaded)}",
        )
    if version not in loaded:
        raise VersionNotServed(
            f"Request for unknown model: '{model}' version {version} is not at ready state",
            remedy="ask for no version, or have an operator activate this one",
        )
    return Route(version=version, reason="pinned")


def _active(deployment: Deployment, loaded: Collection[int]) -> Route:
    if deployment.active is None:
        raise UnknownModel(
            f"Request for unknown model: '{deployment.model}' has no available versions",
            remedy="have an operator activate a version",
        )
    if deployment.active not in loaded:
        raise VersionNotServed(
            f"Request for unknown model: '{deployment.model}' version {deployment.active} "
            "is not at ready state",
            remedy="its engine failed to load: see the journal",
        )
    return Route(version=deployment.active, reason="active")


def _number(requested: str) -> int:
    try:
        return parse_version(requested)
    except UnknownVersion as error:
        raise RequestError(
            f"failed to get model version from specified version string '{requested}'",
            remedy=error.remedy,
        ) from error
