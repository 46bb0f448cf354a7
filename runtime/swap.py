"""The served table, and how it moves from one deployment to the next.

Knows: which versions are loaded and which of them answers. Rules: load, warm and prove first, then switch
by one assignment, then drain and close what is no longer needed; a candidate that fails changes nothing.
Leaves to others: loading (`runtime.loading`), whether a move is allowed (`appliance.deployment`) and recorded
(`runtime.controlplane`).
"""

import asyncio
from collections.abc import Collection
from typing import NamedTuple, TypeAlias

from appliance import journal
from appliance.clock import Clock
from appliance.config import BatchingConfig, SequencesConfig
from appliance.deployment import Deployment, Tuning
from appliance.errors import ApplianceError, UnknownModel
from appliance.store import Store
from runtime.codec import Sequence as Sequenced
from runtime.continuing import Continuing
from runtime.draining import drained
from runtime.loaded import Loaded
from runtime.loading import Load, Loading
from runtime.router import ROLES, Route, choose
from runtime.standing import Passing, Standing, standings

DRAIN_SECONDS = 20.0
# Of a version at the end of the process, when no request is left that would be lost.
CLOSE_SECONDS = 5.0

ByVersion: TypeAlias = dict[int, Loaded]


class Serving(NamedTuple):
    """What was decided for one model, and its versions that can answer; the two change together."""

    deployment: Deployment
    loaded: ByVersion


class ServedTable:
    """All loaded versions.

    `ready`, `trouble`, `active`, `waiting_for_engine`, `check` and all that moves versions are for the event
    loop; the rest may be called on any thread.
    """

    def __init__(
        self,
        store: Store,
        load: Load,
        batching: BatchingConfig,
        clock: Clock,
        *,
        drain_seconds: float = DRAIN_SECONDS,
        sequences: SequencesConfig | None = None,
    ) -> None:
        """The last requests and sequences of a version that is no longer needed may take `drain_seconds`."""
        self._store = store
        self._drain_seconds = drain_seconds
        self._continuing = Continuing(sequences or SequencesConfig(), clock)
        self._loading = Loading(store, load, batching, clock, self._continuing.sequences)
        # A model's entry is replaced as a whole, never changed: other threads read it.
        self._serving: dict[str, Serving] = {}
        self._draining: set[asyncio.Task[None]] = set()
        self._passing = Passing()

    def deployment(self, model: str) -> Deployment:
        """The model's deployment, without roles when nothing was decided; raises UnknownModel."""
        if model not in self._serving:
            self._store.versions(model)
        return self._of(model).deployment

    def knows(self, model: str) -> bool:
        """Whether the model was ever decided on; asks no disk."""
        return model in self._serving

    def deployments(self) -> list[Deployment]:
        """The deployments of every model that is decided on or in the store, by name."""
        names = {*self._serving, *self._store.models()}
        return [self._of(name).deployment for name in sorted(names)]

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
        return sorted(self._of(model).loaded)

    def stale(self, model: str, version: int) -> Loaded | None:
        """The loaded version, when another engine than its own serves."""
        found = self._of(model).loaded.get(version)
        return found if found is not None and found.stale else None

    def queued(self) -> dict[str, int]:
        """Requests that wait now, by model."""
        return {
            model: sum(loaded.batcher.queued for loaded in serving.loaded.values())
            for model, serving in list(self._serving.items())
        }

    def standings(self) -> list[Standing]:
        """Where every version stands that is loaded, has a role or is on its way; any thread, no disk."""
        return standings(list(self._serving.values()), self._passing)

    @property
    def ready(self) -> bool:
        """True when every model that has an active version can answer."""
        return not self.trouble

    @property
    def trouble(self) -> str:
        """Why a model that has an active version cannot answer, "" when all can."""
        for model, (deployment, loaded) in self._serving.items():
            if deployment.active is None:
                continue
            found = loaded.get(deployment.active)
            if found is None:
                return f"version {deployment.active} of '{model}' is not loaded"
            if found.trouble:
                return found.trouble
        return ""

    def active(self) -> dict[str, Loaded]:
        """The active version of each model that has one loaded."""
        return {
            model: loaded[deployment.active]
            for model, (deployment, loaded) in self._serving.items()
            if deployment.active in loaded
        }

    def waiting_for_engine(self) -> list[tuple[str, int]]:
        """Model and version of all that have a role and serve with another engine than their own, or not at all."""
        return [
            (deployment.model, version)
            for deployment, loaded in self._serving.values()
            for version in deployment.loaded
            if (found := loaded.get(version)) is None or found.stale
        ]

    def check(self) -> None:
        """Let every version look after its lanes and its queue; to be called about every second."""
        for serving in self._serving.values():
            for loaded in serving.loaded.values():
                loaded.check()
        self._continuing.check()

    def route(self, model: str, requested: str, key: str = "") -> tuple[Route, Loaded]:
        """Choose the version that answers a request; raises as `runtime.router.choose`."""
        serving = self._serving.get(model)
        deployment, loaded = serving or self._of(model)
        known: Collection[int] = loaded
        # The disk is asked only about what is not loaded, so that no answerable request waits for it.
        if serving is None or requested not in ("", *ROLES, *map(str, loaded)):
            known = self._stored(model)
        route = choose(
            deployment,
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
            if model in self._serving:
                return []
            raise UnknownModel(
                f"Request for unknown model: '{model}' is not found", remedy=error.remedy
            ) from error

    def hold(
        self,
        model: str,
        requested: str,
        key: str,
        sequence: Sequenced | None = None,
        caller: str = "",
    ) -> tuple[Route, Loaded]:
        """Choose the version that answers a request, and hold it so that no swap closes it meanwhile.

        The `sequence` of a `caller` stays with the version that began it. The holder releases it. Raises
        as `route`.
        """
        if sequence is not None:
            found = self._continuing.find(
                model, self._of(model).loaded, requested, sequence, caller
            )
            if found is not None:
                return found
            key = f"{sequence.id}"
        while True:
            route, loaded = self.route(model, requested, key)
            if loaded.hold():
                return route, loaded

    def hold_shadow(self, model: str) -> Loaded | None:
        """The model's shadow, held, when it is loaded and nothing waits for it; the caller releases it."""
        deployment, loaded = self._of(model)
        if deployment.shadow is None:
            return None
        found = loaded.get(deployment.shadow)
        free = found is not None and not found.batcher.queued and found.hold()
        return found if free else None

    async def prepare(self, after: Deployment, *, about: int | None = None) -> ByVersion:
        """Load, warm and prove the versions that `after` needs and that are not loaded yet, or not so.

        When the version that a decision is `about` fails to load, raises that error and nothing has
        changed; any other version that fails to load is only noted.
        """
        fresh: ByVersion = {}
        for version in after.loaded:
            if self._is_loaded(after, version):
                continue
            try:
                fresh[version] = await self._loaded(after.model, version, after.tuning)
            except ApplianceError as error:
                if version == about:
                    self.discard(fresh)
                    raise
                journal.failure("version.load", error, model=after.model, version=version)
        return fresh

    def switch(self, after: Deployment, fresh: ByVersion) -> None:
        """Let `after` answer from this moment; what it no longer needs is drained. Cannot fail."""
        before = self._of(after.model).loaded
        kept = {
            version: loaded
            for version, loaded in (before | fresh).items()
            if version in after.loaded
        }
        gone = [loaded for version, loaded in before.items() if kept.get(version) is not loaded]
        self._continuing.leave(gone)
        self._serving[after.model] = Serving(after, kept)
        for loaded in gone:
            self._drain(loaded)
            if after.active is None:
                loaded.forget()

    async def renew(self, model: str, version: int) -> None:
        """Load a version anew, with the engine that it has in the store now, and let that one answer.

        Nothing has changed when it does not load, which raises as `prepare`.
        """
        deployment = self._of(model).deployment
        fresh = await self._loaded(model, version, deployment.tuning)
        self.switch(deployment, {version: fresh})

    def discard(self, fresh: ByVersion) -> None:
        """Free what `prepare` loaded and nobody switched to."""
        for loaded in fresh.values():
            self._drain(loaded)

    def assume(self, deployment: Deployment) -> None:
        """Take a deployment over without loading it, so that its model is known but unready."""
        self._serving[deployment.model] = Serving(deployment, {})

    async def close(self) -> None:
        """Drain and close every version; what takes too long is left to the end of the process."""
        left = [loaded for serving in self._serving.values() for loaded in serving.loaded.values()]
        for deployment, _ in list(self._serving.values()):
            self.assume(deployment)
        for loaded in left:
            loaded.forget()
            self._drain(loaded, min(CLOSE_SECONDS, self._drain_seconds))
        if self._draining:
            await asyncio.wait(self._draining, timeout=2 * CLOSE_SECONDS)

    def _is_loaded(self, after: Deployment, version: int) -> bool:
        """Whether the version is there as `after` wants it: another tuning is a swap of the same version."""
        found = self._of(after.model).loaded.get(version)
        return found is not None and found.tuning == after.tuning

    def _of(self, model: str) -> Serving:
        """What holds of a model; of one that was never decided on, nothing."""
        return self._serving.get(model) or Serving(Deployment(model=model), {})

    async def _loaded(self, model: str, version: int, tuning: Tuning | None) -> Loaded:
        with self._passing.loading(model, version):
            return await self._loading.load(model, version, tuning)

    def _drain(self, loaded: Loaded, seconds: float | None = None) -> None:
        limit = self._drain_seconds if seconds is None else seconds
        task = asyncio.create_task(self._let_go(loaded, limit))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _let_go(self, loaded: Loaded, seconds: float) -> None:
        model, version = loaded.stored.record.model, loaded.stored.number
        with self._passing.draining(model, version):
            await drained(loaded, model=model, number=version, seconds=seconds)
        self._continuing.left(loaded)
