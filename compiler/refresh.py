"""Engines made anew for versions that serve, after the box changed under them.

Knows: which versions those are, and how one gets its new engine. Rules: number and bundle stay; at any
moment, a power cut included, a version is the old or the new one; a version that cannot be made anew stays
as it is and does not keep the others from it; what failed under the same conditions is not tried again.
Leaves to others: compiling and checking (`staged`), exchanging (`appliance.store`), serving meanwhile
(`runtime`).
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.clock import Clock, SystemClock, timestamp
from appliance.config import Config
from appliance.errors import ApplianceError, StoreError
from appliance.files import sha256_file, unwritable
from appliance.manifest import Manifest
from appliance.store import Rebuilt, Stamps, Store, StoredVersion, VersionRecord
from appliance.version import release
from compiler.build import Trying, box_stamps, one_build
from compiler.progress import Progress, Silent
from compiler.staged import Proven, with_report
from compiler.standing import deployments


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What became of one version whose engine did not fit; without `error` it has a new one."""

    model: str
    number: int
    error: ApplianceError | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """A version's bundle, as far as building needs it."""

    manifest: Manifest
    sha256: str


def refresh(
    config: Config,
    *,
    clock: Clock | None = None,
    progress: Progress | None = None,
    in_process: bool = False,
    again: bool = False,
) -> tuple[Refreshed, ...]:
    """Make anew the engines of all versions in a role that do not fit this box; what became of each.

    Raises StateError or AuditError when it cannot be read which versions those are, BuildBusy.
    """
    clock, progress = clock or SystemClock(), progress or Silent()
    store, stamps = Store(config.state.store), box_stamps(config)
    versions = list(_stale(store, config, stamps))
    if not versions:
        return ()
    refreshing = _Refreshing(store, config, stamps, clock, progress)
    with store.stage(), one_build(store, config, progress):
        return tuple(
            refreshing.outcome(*version, in_process=in_process, again=again) for version in versions
        )


def _stale(store: Store, config: Config, stamps: Stamps) -> list[tuple[str, int]]:
    """Model and number of every version in a role whose engine does not fit."""
    known, found = store.models(), []
    for deployment in deployments(config).values():
        for number in deployment.loaded if deployment.model in known else ():
            try:
                engine = store.describe(deployment.model, number).record.engine
            except StoreError:
                found.append((deployment.model, number))  # its error is told in its turn
                continue
            if stamps.get(engine.kind) != engine.stamp:
                found.append((deployment.model, number))
    return found


class _Refreshing:
    """One run over the versions that do not fit."""

    def __init__(
        self, store: Store, config: Config, stamps: Stamps, clock: Clock, progress: Progress
    ) -> None:
        self._store, self._clock, self._progress = store, clock, progress
        self._trying = Trying(store, config, stamps, clock)

    def outcome(self, model: str, number: int, *, in_process: bool, again: bool) -> Refreshed:
        """Make one version's engine anew; its error is told, not raised."""
        try:
            stored = self._store.describe(model, number)
            self._one(stored, in_process=in_process, again=again)
        except ApplianceError as error:
            return Refreshed(model=model, number=number, error=error)
        return Refreshed(model=model, number=number)

    def _one(self, stored: StoredVersion, *, in_process: bool, again: bool) -> None:
        with self._store.stage() as staged:
            _copy_bundle(stored, staged)
            bundle = _Kept(stored.manifest, stored.record.bundle_sha256)
            proven = self._trying.proven(
                staged, bundle, self._progress, in_process=in_process, again=again
            )
            self._progress.stage("replacing the version's engine")
            self._store.replace(staged, stored, self._record(staged, stored, proven))

    def _record(self, staged: Path, stored: StoredVersion, proven: Proven) -> VersionRecord:
        before = stored.record
        rebuilt = Rebuilt(
            at=timestamp(self._clock.wall_ns()),
            release=release(),
            engine_sha256=before.engine.sha256,
        )
        record = msgspec.structs.replace(
            before,
            engine=proven.engine,
            fallback=proven.fallback,
            proof=proven.proof,
            trials=proven.trials,
            warnings=(*_without(before.warnings, proven.missing), *proven.missing),
            rebuilt=rebuilt,
        )
        return with_report(staged, stored.manifest, record, proven.sheet)


def _without(warnings: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(warning for warning in warnings if warning not in others)


def _copy_bundle(stored: StoredVersion, staged: Path) -> None:
    """The bundle's files, as they were signed. Raises StoreError when one was changed."""
    for item in stored.manifest.files:
        try:
            shutil.copyfile(stored.directory / item.name, staged / item.name, follow_symlinks=False)
            digest = sha256_file(staged / item.name)
        except FileNotFoundError:
            digest = ""
        except OSError as error:
            raise unwritable(staged, error) from error
        if digest != item.sha256:
            raise StoreError(
                f"version {stored.number} of '{stored.record.model}': '{item.name}' is missing or "
                "was changed",
                remedy="build the bundle again; the new version gets the next number",
            )
