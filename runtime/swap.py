"""The served table, and how it moves from one deployment to the next.

Knows: which versions are loaded and which of them answers. Rules: load, warm and prove first, then switch
by one assignment, then drain and close what is no longer needed; a candidate that fails changes nothing.
Leaves to others: whether a move is allowed (`appliance.deployment`) and recorded (`runtime.controlplane`).
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from appliance import journal
from appliance.clock import Clock
from appliance.config import BatchingConfig
from appliance.deployment import Deployment
from appliance.errors import ApplianceError, EngineLoad, UnknownModel
from appliance.manifest import recipe_sha256
from appliance.store import Store, StoredVersion
from runtime.batcher import Batcher
from runtime.router import LABELS, Route, choose
from runtime.servable import Servable
from runtime.stale import with_fitting_engine

Load = Callable[[StoredVersion], Servable]


@dataclass(slots=True, eq=False)
class Lane:
    """A loaded version with its queue, and how many requests are using it.

    `stored` names the engine that is loaded; `stale` says why that is not the version's own, else "".
    """

    stored: StoredVersion
    servable: Servable
    batcher: Batcher
    recipe_sha256: str
    stale: str = ""
    users: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)


Fresh: TypeAlias = dict[tuple[str, int], Lane]


class ServedTable:
    """All loaded versions. Every method runs on the event loop."""

    def __init__(self, store: Store, load: Load, batching: BatchingConfig, clock: Clock) -> None:
        self._store = store
        self._load = load
        self._batching = batching
        self._clock = clock
        self._deployments: dict[str, Deployment] = {}
        self._lanes: Fresh = {}
        self._draining: set[asyncio.Task[None]] = set()

    def deployment(self, model: str) -> Deployment:
        """The model's deployment, without roles when nothing was decided; raises UnknownModel."""
        if model not in self._deployments:
            self._store.versions(model)
            return Deployment(model=model)
        return self._deployments[model]

    def knows(self, model: str) -> bool:
        """Whether the model was ever decided on; asks no disk."""
        return model in self._deployments

    def deployments(self) -> list[Deployment]:
        """The deployments of every model that is decided on or in the store, by name."""
        names = {*self._deployments, *self._store.models()}
        return [self._deployments.get(name) or Deployment(model=name) for name in sorted(names)]

    def versions(self) -> list[tuple[Deployment, int]]:
        """Every version in the store with its model's deployment."""
        stored = set(self._store.models())
        return [
            (deployment, version)
            for deployment in self.deployments()
            if deployment.model in stored
            for version in self._store.versions(deployment.model)
        ]

    def loaded(self, model: str) -> list[int]:
        """Versions of the model that can answer, rising."""
        return sorted(version for name, version in self._lanes if name == model)

    def stale(self, model: str, version: int) -> Lane | None:
        """The loaded version, when another engine than its own serves."""
        lane = self._lanes.get((model, version))
        return lane if lane is not None and lane.stale else None

    def queued(self) -> dict[str, int]:
        """Requests that wait now, by model."""
        waiting: dict[str, int] = {}
        for (model, _), lane in list(self._lanes.items()):
            waiting[model] = waiting.get(model, 0) + lane.batcher.queued
        return waiting

    @property
    def ready(self) -> bool:
        """True when every model that has an active version can answer."""
        return all(
            deployment.active is None or (model, deployment.active) in self._lanes
            for model, deployment in self._deployments.items()
        )

    def route(self, model: str, requested: str, key: str = "") -> tuple[Route, Lane]:
        """Choose the lane that answers a request; raises as `runtime.router.choose`."""
        loaded, deployment = self.loaded(model), self._deployments.get(model)
        known = loaded
        # The disk is asked only about what is not loaded, so that no answerable request waits for it.
        if deployment is None or requested not in ("", *LABELS, *map(str, loaded)):
            known = self._stored(model)
        route = choose(
            deployment or Deployment(model=model),
            requested=requested,
            key=key,
            known=known,
            loaded=loaded,
        )
        return route, self._lanes[model, route.version]

    def _stored(self, model: str) -> list[int]:
        try:
            return self._store.versions(model)
        except UnknownModel as error:
            if model in self._deployments:
                return []
            raise UnknownModel(
                f"Request for unknown model: '{model}' is not found", remedy=error.remedy
            ) from error

    @contextmanager
    def use(self, model: str, requested: str) -> Iterator[tuple[Route, Lane]]:
        """Hold the lane that answers a request, so that no swap closes it meanwhile."""
        route, lane = self.route(model, requested)
        lane.users += 1
        try:
            yield route, lane
        finally:
            lane.users -= 1
            if not lane.users:
                lane.unused.set()

    async def prepare(self, after: Deployment) -> Fresh:
        """Load, warm and prove the versions that `after` needs and that are not loaded yet.

        When its active version fails to load, raises that error and nothing has changed; a previous
        version that fails to load is only noted.
        """
        fresh: Fresh = {}
        for version in after.loaded:
            if (after.model, version) in self._lanes:
                continue
            try:
                fresh[after.model, version] = await self._load_lane(after.model, version)
            except ApplianceError as error:
                if version == after.active:
                    raise
                journal.failure("version.load", error, model=after.model, version=version)
        return fresh

    def switch(self, after: Deployment, fresh: Fresh) -> None:
        """Let `after` answer from this moment; what it no longer needs is drained. Cannot fail."""
        self._lanes.update(fresh)
        self._deployments[after.model] = after
        for version in self.loaded(after.model):
            if version not in after.loaded:
                self._drain(self._lanes.pop((after.model, version)))

    def discard(self, fresh: Fresh) -> None:
        """Free what `prepare` loaded and nobody switched to."""
        for lane in fresh.values():
            self._drain(lane)

    def assume(self, deployment: Deployment) -> None:
        """Take a deployment over without loading it, so that its model is known but unready."""
        self._deployments[deployment.model] = deployment

    async def close(self) -> None:
        """Drain and close every lane."""
        for lane in self._lanes.values():
            self._drain(lane)
        self._lanes.clear()
        await asyncio.gather(*self._draining)

    async def _load_lane(self, model: str, version: int) -> Lane:
        found = await asyncio.to_thread(self._store.open, model, version)
        stored, stale = await asyncio.to_thread(with_fitting_engine, found)
        try:
            servable = await asyncio.to_thread(self._load, stored)
        except ApplianceError:
            raise
        except Exception as error:
            # Whatever a library raises, the version failed to load and the others must go on.
            journal.failure("version.crashed", error, model=model, version=version)
            raise EngineLoad(
                f"version {version} of '{model}' failed to load: {error}", remedy="see the journal"
            ) from error
        now = await asyncio.to_thread(self._store.describe, model, version)
        if now.record != found.record:
            await asyncio.to_thread(servable.close)
            raise EngineLoad(
                f"version {version} of '{model}' got another engine while it was loaded",
                remedy="try again",
            )
        batcher = Batcher(servable, self._batching, self._clock, name=f"{model}/{version}")
        journal.event("version.loaded", model=model, version=version)
        digest = recipe_sha256(stored.manifest)
        return Lane(
            stored=stored, servable=servable, batcher=batcher, recipe_sha256=digest, stale=stale
        )

    def _drain(self, lane: Lane) -> None:
        task = asyncio.create_task(_drained(lane))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)


async def _drained(lane: Lane) -> None:
    """Wait until nobody uses the lane, then free it off the event loop."""
    while lane.users:
        lane.unused.clear()
        await lane.unused.wait()
    await asyncio.to_thread(lane.batcher.close)
    await asyncio.to_thread(lane.servable.close)
