"""RepositoryIndex, and RepositoryModelLoad and -Unload as recorded decisions.

Knows: how the protocol's load and unload become acts of a deployment (docs/decisions/0032-protocol.md).
Rules: refused unless the configuration grants them, as a Triton does that polls its repository; a load never
moves a model that answers, unless it names the version; a load cannot change what a version is. Leaves to
others: whether a decision is allowed (`appliance.deployment`) and carrying it out (`runtime.controlplane`).
"""

import asyncio
from contextlib import suppress
from typing import Any

from tritonclient.grpc import service_pb2 as oip

from appliance import journal
from appliance.config import Config
from appliance.deployment import Act, Activate, Deployment, RollBack, Withdraw
from appliance.errors import (
    ApplianceError,
    AuditUnwritable,
    DecisionError,
    Draining,
    LoadFailed,
    NotGranted,
    RequestError,
    StoreError,
    UnknownModel,
    Unsupported,
)
from appliance.store import Store
from appliance.version import check_name
from runtime.controlplane import ACTOR_CHARACTERS_MAX, ControlPlane
from runtime.services.description import configuration
from runtime.services.overrides import Override, override_from
from runtime.swap import ServedTable

NAME_CHARACTERS_MAX = 100  # of a name in a refusal


class Repository:
    """RepositoryIndex, RepositoryModelLoad and RepositoryModelUnload."""

    def __init__(
        self, *, config: Config, store: Store, table: ServedTable, controlplane: ControlPlane
    ) -> None:
        self._config = config
        self._store = store
        self._table = table
        self._controlplane = controlplane

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        """Every version in the store; READY when it is loaded."""
        _check_repository(request)
        reply = oip.RepositoryIndexResponse()
        for model, versions in (await asyncio.to_thread(_inventory, self._store)).items():
            deployment, loaded = self._deployment(model), self._table.loaded(model)
            for version in versions:
                ready = version in loaded
                if ready or not request.ready:
                    reply.models.add(
                        name=model,
                        version=str(version),
                        state="READY" if ready else "UNAVAILABLE",
                        reason="" if ready else _why_not(deployment, version),
                    )
        return reply

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        """Let a model answer: the version that its config names, the one unloaded last, or the newest proven."""
        self._check_granted(request)
        model = _check_model(request.model_name)
        override = override_from(model, request.parameters)
        try:
            await self._load(model, override, _actor(context))
        except (AuditUnwritable, Draining, LoadFailed, RequestError):
            raise
        except ApplianceError as error:
            raise LoadFailed(f"failed to load '{model}', {error}", remedy=error.remedy) from error
        return oip.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        """Let no version of a model answer, and free them; an unknown or unloaded model is no error."""
        self._check_granted(request)
        parameter = request.parameters.get("unload_dependents")
        if parameter is not None and parameter.WhichOneof("parameter_choice") != "bool_param":
            raise RequestError(
                "invalid value type for 'unload_dependents' parameter, expected bool_param.",
                remedy="send true or false; no model here has dependents",
            )
        model = request.model_name
        if self._table.knows(model) and self._deployment(model).active is not None:
            with suppress(DecisionError):  # another caller unloaded it first
                await self._decide(model, Withdraw(), _actor(context), "RepositoryModelUnload")
        return oip.RepositoryModelUnloadResponse()

    async def _load(self, model: str, override: Override, actor: str) -> None:
        versions = await self._stored(model)
        deployment = self._deployment(model)
        if override.version is not None and override.version not in versions:
            raise LoadFailed(
                f"failed to load '{model}', version {override.version} is not in the repository",
                remedy=f"name one of {versions}",
            )
        aimed = override.version or deployment.active
        await self._check_same(model, aimed or deployment.previous or versions[-1], override)
        if aimed is not None and aimed == deployment.active:
            self._check_answers(deployment)
            return
        if aimed is None and deployment.previous is not None:
            await self._decide(model, RollBack(), actor, "RepositoryModelLoad")
        elif aimed is not None:
            await self._decide(model, Activate(version=aimed), actor, "RepositoryModelLoad")
        else:
            await self._activate_newest(deployment, versions, actor)

    async def _activate_newest(
        self, deployment: Deployment, versions: list[int], actor: str
    ) -> None:
        """Activate the newest version that may be: one that is unproven or damaged is passed over."""
        refused: ApplianceError | None = None
        for version in reversed(versions):
            try:
                act = Activate(version=version)
                return await self._decide(deployment.model, act, actor, "RepositoryModelLoad")
            except (DecisionError, StoreError) as error:
                refused = error
        assert refused is not None, "a model in the store has a version"
        raise refused

    async def _decide(self, model: str, act: Act, actor: str, reason: str) -> None:
        # Shielded: a client that leaves must not leave a decision half carried out.
        await asyncio.shield(self._controlplane.decide(model, act, actor=actor, reason=reason))

    async def _stored(self, model: str) -> list[int]:
        try:
            return await asyncio.to_thread(self._store.versions, model)
        except UnknownModel as error:
            raise LoadFailed(
                f"failed to load '{model}', failed to poll from model repository",
                remedy=error.remedy,
            ) from error

    async def _check_same(self, model: str, version: int, override: Override) -> None:
        if override.config is None:
            return
        stored = await asyncio.to_thread(self._store.describe, model, version)
        loaded = self._table.loaded(model)
        tuning = self._deployment(model).tuning
        override.check_same(
            configuration(stored, config=self._config, loaded=loaded, tuning=tuning)
        )

    def _check_answers(self, deployment: Deployment) -> None:
        """Raise LoadFailed when the active version is one that did not load: loading is for boot."""
        if deployment.active not in self._table.loaded(deployment.model):
            raise LoadFailed(
                f"failed to load '{deployment.model}', version {deployment.active} is active "
                "and did not load",
                remedy="see the journal; activate another version or restart the runtime",
            )

    def _check_granted(self, request: Any) -> None:
        if not self._config.server.repository_control:
            raise NotGranted(
                "explicit model load / unload is not allowed if polling is enabled",
                remedy="decide with `holdfast activate`, or set [server] repository_control = true",
            )
        _check_repository(request)

    def _deployment(self, model: str) -> Deployment:
        """The model's deployment, without asking the disk."""
        if self._table.knows(model):
            return self._table.deployment(model)
        return Deployment(model=model)


def _check_repository(request: Any) -> None:
    if request.repository_name:
        raise Unsupported(
            "'repository_name' specification is not supported", remedy="leave repository_name out"
        )


def _check_model(name: str) -> str:
    if not name:
        raise RequestError("Model name cannot be empty", remedy="name a model")
    if "/" in name or "\\" in name or ".." in name:
        raise RequestError(
            "model name must not contain path traversal characters",
            remedy="name a model of RepositoryIndex",
        )
    try:
        return check_name(name)
    except UnknownModel as error:
        raise LoadFailed(
            f"failed to load '{name[:NAME_CHARACTERS_MAX]}', failed to poll from model repository",
            remedy=error.remedy,
        ) from error


def _actor(context: Any) -> str:
    """Who a client's decision is recorded under: the principal and its address."""
    named = context.principal.name
    told = f"client {named} ({context.peer()})" if named else f"client {context.peer()}"
    return told[:ACTOR_CHARACTERS_MAX]


def _inventory(store: Store) -> dict[str, list[int]]:
    """The versions of every model; one that is removed meanwhile is left out."""
    found: dict[str, list[int]] = {}
    for model in store.models():
        try:
            found[model] = store.versions(model)
        except UnknownModel:
            journal.detail("model.gone", model=model)
    return found


def _why_not(deployment: Deployment, version: int) -> str:
    if version == deployment.active:
        return "active, but its engine failed to load: see the journal"
    if deployment.active is None and version == deployment.previous:
        return "unloaded"
    return deployment.role(version) or "not activated"
