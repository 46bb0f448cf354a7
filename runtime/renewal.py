"""Engines that were made anew while the runtime serves.

Knows: which versions wait for one: those that serve with another engine than their own, or cannot serve.
Rules: the store is asked about these only, and a version is tried once for each state of the store; what
fails leaves what serves as it is. Leaves to others: making engines anew (`holdfast-compile refresh`),
loading and switching (`runtime.swap`), keeping it apart from decisions (`runtime.controlplane`).
"""

import asyncio

from appliance import journal
from appliance.errors import StoreError
from appliance.store import Store, VersionRecord
from runtime.controlplane import ControlPlane
from runtime.stale import misfit
from runtime.swap import ServedTable

LOOK_SECONDS = 5.0


class Renewal:
    """Looks again and again whether the store has an engine for those who wait for one."""

    def __init__(self, *, store: Store, table: ServedTable, controlplane: ControlPlane) -> None:
        self._store, self._table, self._controlplane = store, table, controlplane
        self._seen: dict[tuple[str, int], VersionRecord] = {}

    async def keep_looking(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - whatever it was, the next look may fare better
                journal.failure("renewal.crashed", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Have each version renewed whose own engine fits now."""
        for model, version in self._table.waiting_for_engine():
            if await asyncio.to_thread(self._has_engine, model, version):
                await self._controlplane.renew(model, version)

    def _has_engine(self, model: str, version: int) -> bool:
        """Whether the version's own engine fits, and was not seen before."""
        try:
            record = self._store.describe(model, version).record
        except StoreError:
            return False
        if self._seen.get((model, version)) == record:
            return False
        self._seen[model, version] = record
        return not misfit(record.engine)
