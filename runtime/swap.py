"""The served table, and how it moves from one deployment to the next.

Knows: which versions are loaded and which of them answers. Rules: load, warm and prove first, then switch
by one assignment, then drain and close what is no longer needed; a candidate that fails changes nothing.
Leaves to others: whether a move is allowed (`appliance.deployment`) and recorded (`runtime.controlplane`).
"""

import asyncio
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from appliance import journal
from appliance.clock import Clock
from appliance.config import BatchingConfig
from appliance.deployment import Deployment
from appliance.errors import ApplianceError, EngineLoad, UnknownModel
from appliance.manifest import recipe_sha256
from appliance.store import Store, StoredVersion
from runtime.batching import Batcher
from runtime.checking import Checked
from runtime.router import LABELS, Route, choose
from runtime.servable import Servable
from runtime.stale import with_fitting_engine

# Loads a version, proven and warm, once for each of its lanes; the first is the original.
Load: TypeAlias = Callable[[StoredVersion], Sequence[Servable]]


@dataclass(slots=True, eq=False)
class Loaded:
    """A loaded version with its queue, and how many requests are using it.

    `stored` names the engine that is loaded; `stale` says why that is not the version's own, else "".
    `checked` remembers what requests of one header ask for.
    """

    stored: StoredVersion
    servable: Servable
    batcher: Batcher
    recipe_sha256: str
    stale: str = ""
    checked: dict[bytes, Checked] = field(default_factory=dict)
    _users: int = 0
    _unused: Callable[[], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self) -> bool:
        """Count one more user, unless it is being drained: then choose again."""
        with self._lock:
            if self._unused is not None:
                return False
            self._users += 1
            return True

    def release(self) -> None:
        """Count one user less; the last one lets a drain go on."""
        with self._lock:
            self._users -= 1
            unused = None if self._users else self._unused
        if unused is not None:
            unused()

    def drain(self, unused: Callable[[], None]) -> None:
        """Take no more users, and call `unused` once the last has gone."""
        with self._lock:
            self._unused = unused
            busy = self._users
        if not busy:
            unused()


ByVersion: TypeAlias = dict[int, Loaded]


class ServedTable:
    """All loaded versions. `hold` may be called on any thread, all else on the event loop."""

    def __init__(self, store: Store, load: Load, batching: BatchingConfig, clock: Clock) -> None:
        self._store = store
        self._load = load
        self._batching = batching
        self._clock = clock
        self._deployments: dict[str, Deployment] = {}
        # A model's dict is replaced, never changed: other threads read it.
        self._loaded: dict[str, ByVersion] = {}
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
        return sorted(self._loaded.get(model, ()))

    def stale(self, model: str, version: int) -> Loaded | None:
        """The loaded version, when another engine than its own serves."""
        found = self._loaded.get(model, {}).get(version)
        return found if found is not None and found.stale else None

    def queued(self) -> dict[str, int]:
        """Requests that wait now, by model."""
        return {
            model: sum(loaded.batcher.queued for loaded in versions.values())
            for model, versions in list(self._loaded.items())
        }

    @property
    def ready(self) -> bool:
        """True when every model that has an active version can answer."""
        return not self.trouble

    @property
    def trouble(self) -> str:
        """Why a model that has an active version cannot answer, "" when all can."""
        for model, deployment in self._deployments.items():
            if deployment.active is None:
                continue
            found = self._loaded.get(model, {}).get(deployment.active)
            if found is None:
                return f"version {deployment.active} of '{model}' is not loaded"
            if found.batcher.trouble:
                return found.batcher.trouble
        return ""

    def check(self) -> None:
        """Let every version look after its lanes and its queue; to be called about every second."""
        for versions in self._loaded.values():
            for loaded in versions.values():
                loaded.batcher.check()

    def route(self, model: str, requested: str, key: str = "") -> tuple[Route, Loaded]:
        """Choose the version that answers a request; raises as `runtime.router.choose`."""
        loaded = self._loaded.get(model, {})
        deployment = self._deployments.get(model)
        known: Collection[int] = loaded
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
        return route, loaded[route.version]

    def _stored(self, model: str) -> list[int]:
        try:
            return self._store.versions(model)
        except UnknownModel as error:
            if model in self._deployments:
                return []
            raise UnknownModel(
                f"Request for unknown model: '{model}' is not found", remedy=error.remedy
            ) from error

    def hold(self, model: str, requested: str, key: str) -> tuple[Route, Loaded]:
        """Choose the version that answers a request, and hold it so that no swap closes it meanwhile.

        The caller releases it. Raises as `route`.
        """
        while True:
            route, loaded = self.route(model, requested, key)
            if loaded.hold():
                return route, loaded

    def hold_shadow(self, model: str) -> Loaded | None:
        """The model's shadow, held, when it is loaded and nothing waits for it; the caller releases it."""
        deployment = self._deployments.get(model)
        if deployment is None or deployment.shadow is None:
            return None
        found = self._loaded.get(model, {}).get(deployment.shadow)
        free = found is not None and not found.batcher.queued and found.hold()
        return found if free else None

    async def prepare(self, after: Deployment, *, about: int | None = None) -> ByVersion:
        """Load, warm and prove the versions that `after` needs and that are not loaded yet.

        When the active version, or the one that a decision is `about`, fails to load, raises that error
        and nothing has changed; any other version that fails to load is only noted.
        """
        fresh: ByVersion = {}
        for version in after.loaded:
            if version in self._loaded.get(after.model, ()):
                continue
            try:
                fresh[version] = await self._load_version(after.model, version)
            except ApplianceError as error:
                if version in (after.active, about):
                    self.discard(fresh)
                    raise
                journal.failure("version.load", error, model=after.model, version=version)
        return fresh

    def switch(self, after: Deployment, fresh: ByVersion) -> None:
        """Let `after` answer from this moment; what it no longer needs is drained. Cannot fail."""
        before = self._loaded.get(after.model, {}) | fresh
        self._loaded[after.model] = {
            version: loaded for version, loaded in before.items() if version in after.loaded
        }
        self._deployments[after.model] = after
        for version, loaded in before.items():
            if version not in after.loaded:
                self._drain(loaded)

    def discard(self, fresh: ByVersion) -> None:
        """Free what `prepare` loaded and nobody switched to."""
        for loaded in fresh.values():
            self._drain(loaded)

    def assume(self, deployment: Deployment) -> None:
        """Take a deployment over without loading it, so that its model is known but unready."""
        self._deployments[deployment.model] = deployment

    async def close(self) -> None:
        """Drain and close every version."""
        left = [loaded for versions in self._loaded.values() for loaded in versions.values()]
        self._loaded.clear()
        for loaded in left:
            self._drain(loaded)
        await asyncio.gather(*self._draining)

    async def _load_version(self, model: str, version: int) -> Loaded:
        found = await asyncio.to_thread(self._store.open, model, version)
        stored, stale = await asyncio.to_thread(with_fitting_engine, found)
        try:
            servables = await asyncio.to_thread(self._load, stored)
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
            for servable in servables:
                await asyncio.to_thread(servable.close)
            raise EngineLoad(
                f"version {version} of '{model}' got another engine while it was loaded",
                remedy="try again",
            )
        batcher = Batcher(
            servables, self._batching.of(model), self._clock, name=f"{model}/{version}"
        )
        journal.event("version.loaded", model=model, version=version)
        digest = recipe_sha256(stored.manifest)
        return Loaded(
            stored=stored,
            servable=servables[0],
            batcher=batcher,
            recipe_sha256=digest,
            stale=stale,
        )

    def _drain(self, loaded: Loaded) -> None:
        task = asyncio.create_task(_drained(loaded))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)


async def _drained(loaded: Loaded) -> None:
    """Wait until nobody uses the version, then free it off the event loop."""
    loop, unused = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        loop.call_soon_threadsafe(unused.set)

    loaded.drain(tell)
    await unused.wait()
    await asyncio.to_thread(loaded.batcher.close)
