"""From a version in the store to one that can answer.

Knows: what is asked before and after a version is loaded. Rules: whatever a library raises is told as a version
that failed to load; disk and engine keep the event loop waiting for nothing; nothing stays loaded of what failed;
who stops waiting for a load leaves it to the end of the process.
Leaves to others: making servables (whoever gives `Load`), which version and when (`runtime.swap`).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

from appliance import journal
from appliance.clock import Clock
from appliance.config import BatchingConfig
from appliance.deployment import Tuning
from appliance.errors import ApplianceError, EngineLoad, GpuUnusable
from appliance.manifest import recipe_sha256
from appliance.store import Store, StoredVersion
from runtime.background import giving_way
from runtime.batching import Batcher
from runtime.holding import batching_of
from runtime.loaded import Loaded
from runtime.memory import check_room
from runtime.sequences import Sequences
from runtime.servable import Servable
from runtime.stale import Fitting, with_fallback, with_fitting_engine

# Loads a version, proven and warm, once for each lane that its model has under a tuning; the first is the
# original.
Load: TypeAlias = Callable[[StoredVersion, Tuning | None], Sequence[Servable]]
# Makes room for the sequences of a version; None when its model has no states.
Room: TypeAlias = Callable[[StoredVersion, Batcher], Sequences | None]
# A version with the engine that serves here, and its servables.
Made: TypeAlias = tuple[Fitting, Sequence[Servable]]


class Loading:
    """Loads versions of `store`, whose servables `make` makes; one `load` at a time (see `giving_way`)."""

    def __init__(
        self, store: Store, make: Load, batching: BatchingConfig, clock: Clock, room: Room
    ) -> None:
        self._store, self.make, self._batching = store, make, batching
        self._clock, self._room = clock, room

    async def load(self, model: str, version: int, tuning: Tuning | None) -> Loaded:
        """The version with a queue of its own, under `tuning`; its fallback serves where no GPU can be used.

        Raises EngineLoad, also when it got another engine meanwhile, or what store, room or proof raise.
        """
        (stored, stale), servables = await asyncio.to_thread(self._made, model, version, tuning)
        batching = batching_of(self._batching, stored, tuning)
        batcher = Batcher(servables, batching, self._clock, name=f"{model}/{version}")
        journal.event("version.loaded", model=model, version=version)
        return Loaded(
            stored=stored,
            servable=servables[0],
            batcher=batcher,
            recipe_sha256=recipe_sha256(stored.manifest),
            stale=stale,
            tuning=tuning,
            sequences=self._room(stored, batcher),
        )

    def _made(self, model: str, version: int, tuning: Tuning | None) -> Made:
        with giving_way():
            found = self._store.open(model, version)
            fitting = with_fitting_engine(found)
            check_room(fitting.stored)
            try:
                fitting, servables = self._made_fitting(fitting, tuning)
            except ApplianceError:
                raise
            except Exception as error:
                # Whatever a library raises, the version failed to load and the others must go on.
                journal.failure("version.crashed", error, model=model, version=version)
                raise EngineLoad(
                    f"version {version} of '{model}' failed to load: {error}",
                    remedy="see the journal",
                ) from error
            try:
                self._check_same(model, found)
            except BaseException:
                for servable in servables:
                    servable.close()
                raise
        return fitting, servables

    def _made_fitting(self, fitting: Fitting, tuning: Tuning | None) -> Made:
        try:
            return fitting, self.make(fitting.stored, tuning)
        except GpuUnusable as error:
            spare = with_fallback(fitting.stored, str(error))
            return spare, self.make(spare.stored, tuning)

    def _check_same(self, model: str, found: StoredVersion) -> None:
        if self._store.describe(model, found.number).record != found.record:
            raise EngineLoad(
                f"version {found.number} of '{model}' got another engine while it was loaded",
                remedy="try again",
            )
