"""Bundle to a proven version in the store.

Knows: the order of a build and what is recorded of it. Rules: a version appears by one rename or not at
all; a bundle that was built before keeps its number while its engine still fits this box, and one that
failed is not tried again unasked; a child touches the model, and what it left is checked before it is
filed; the model itself is kept for rebuilding, though no server opens it. Leaves to others: taking a
bundle in, compiling (`compiling`), what earlier versions say of it (`continuity`), the store.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from appliance.clock import Clock, SystemClock, timestamp
from appliance.config import Config
from appliance.errors import (
    AuditError,
    BuildCrashed,
    BuildLimit,
    BundleContent,
    BundleStale,
    EngineError,
    EngineLoad,
    GpuError,
    ProofError,
    StateError,
    StoreError,
)
from appliance.installs import InstallState
from appliance.manifest import Manifest
from appliance.store import Stamps, Store, StoredVersion, VersionRecord
from appliance.trust import TrustStore
from appliance.version import release
from compiler.admission import check_edition
from compiler.continuity import Known, compare
from compiler.installing import Installing
from compiler.intake import TakenIn
from compiler.progress import Progress, Silent
from compiler.staged import Proven, prove_staged, with_report
from compiler.standing import deployments
from runtime.engines.gpu_stamp import gpu_stamp
from runtime.engines.stamp import GPU, LIBRARIES, stamp_of

if TYPE_CHECKING:  # they import what compiles
    from compiler.targets import Target

# A bundle's own failures; anything else, such as a full disk, may pass by itself.
_ITS_OWN = (BundleContent, EngineError, ProofError, BuildCrashed, BuildLimit)


class Bundle(Protocol):
    """A bundle as far as a try needs it."""

    @property
    def manifest(self) -> Manifest:
        """What it says."""

    @property
    def sha256(self) -> str:
        """Of its file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A version in the store; `new` is False when this very bundle had been built before and still fits."""

    version: StoredVersion
    new: bool


def build(
    bundle: Path,
    config: Config,
    *,
    clock: Clock | None = None,
    progress: Progress | None = None,
    targets: "Sequence[Target] | None" = None,
    in_process: bool = False,
    again: bool = False,
    older: bool = False,
) -> Built:
    """Verify, compile, prove and file the bundle; on any error nothing of it is left but its history.

    The model is touched by a child within the bounds of `config`; `in_process`, which custom `targets`
    need, does without. A bundle that failed here before is tried again only with `again`, one of an older
    edition than was here before only with `older`. Raises KeyFileError (nobody is trusted), BundleError and its kinds, BuildError and its kinds,
    EngineBuild, GoldenMissed, ThresholdMissed or StateError.
    """
    assert in_process or targets is None, "a child knows its own targets only"
    clock, progress = clock or SystemClock(), progress or Silent()
    store, trust = Store(config.state.store), TrustStore.read(config.state.trust)
    trust.require_someone()
    stamps = _stamps(targets, config)
    installing = Installing(store, config, clock)
    with store.stage() as staged:
        progress.stage("verifying the bundle")
        taken = installing.admitted(bundle, trust, staged)
        with one_build(store, config, progress):
            installing.settle()
            known = store.find(taken.manifest.model, taken.sha256, stamps)
            if known is not None:
                return Built(version=store.describe(taken.manifest.model, known), new=False)
            with installing.trying(taken, again=again) as step:
                check_edition(
                    taken.manifest,
                    installing.newest_edition(taken.manifest.model),
                    older=older,
                )
                warnings = _warnings(store, config, taken)
                step(InstallState.BUILDING)
                proven = Trying(store, config, stamps, clock).proven(
                    staged, taken, progress, targets=targets, in_process=in_process, again=again
                )
                progress.stage("filing the version")
                record = _record(taken, proven, timestamp(clock.wall_ns()), warnings)
                record = with_report(staged, taken.manifest, record, proven.sheet)
                step(InstallState.PROVEN, engine_sha256=record.engine.sha256)
                filed = store.file(staged, taken.manifest, record, stamps)
                step(InstallState.FILED, version=filed.number)
    return Built(version=store.describe(taken.manifest.model, filed.number), new=filed.new)


def one_build(store: Store, config: Config, progress: Progress) -> AbstractContextManager[None]:
    """Hold the right to build on this box, after whoever builds now. Raises BuildBusy."""
    return store.one_build(
        wait_seconds_max=config.build.wait_seconds_max,
        waiting=lambda: progress.stage("waiting for another build on this box"),
    )


def box_stamps(config: Config) -> dict[str, dict[str, str]]:
    """What engines compiled here now are stamped with, by their kind.

    Without those that need a GPU or a library that is not here.
    """
    found = {kind: stamp_of(kind) for kind in LIBRARIES}
    with suppress(EngineLoad, GpuError):
        found[GPU] = gpu_stamp(config.gpu.devices[0])
    return found


class Trying:
    """Builds under the conditions of this box now; what fails under them is marked."""

    def __init__(self, store: Store, config: Config, stamps: Stamps, clock: Clock) -> None:
        self._store, self._config, self._stamps, self._clock = store, config, stamps, clock
        self._conditions = {
            "stamps": stamps,
            "release": release(),
            "bounds": config.build,
            "engine": config.engine,
        }

    def proven(
        self,
        staged: Path,
        bundle: Bundle,
        progress: Progress,
        *,
        targets: "Sequence[Target] | None" = None,
        in_process: bool = False,
        again: bool = False,
    ) -> Proven:
        """The staged bundle with its engine; see `prove_staged`.

        Raises BuildMarked when it failed before under these conditions, unless `again`.
        """
        if not again:
            self._store.marks.check(bundle.sha256, self._conditions)
        try:
            proven = prove_staged(
                staged,
                bundle.manifest,
                self._config,
                progress,
                stamps=self._stamps,
                targets=targets,
                in_process=in_process,
            )
        except _ITS_OWN as error:
            self._store.marks.put(
                error,
                model=bundle.manifest.model,
                bundle_sha256=bundle.sha256,
                failed=timestamp(self._clock.wall_ns()),
                stamps=self._stamps,
                conditions=self._conditions,
            )
            raise
        self._store.marks.clear(bundle.sha256)
        return proven


def _warnings(store: Store, config: Config, taken: TakenIn) -> tuple[str, ...]:
    """What seems stale beside the versions before it. Raises BundleStale for what seems wrong."""
    model = taken.manifest.model
    findings = compare(taken.manifest, _before(store, taken), _active(config, model))
    refused = [finding for finding in findings if finding.remedy]
    if refused:
        texts = "; ".join(finding.text for finding in refused)
        raise BundleStale(f"model '{model}': {texts}", remedy=refused[0].remedy)
    return tuple(finding.text for finding in findings)


def _before(store: Store, taken: TakenIn) -> list[Known]:
    """The model's versions of other bundles, as far as they can be read."""
    model, before = taken.manifest.model, []
    for number in store.versions(model) if model in store.models() else []:
        try:
            stored = store.describe(model, number)
        except StoreError:
            continue  # a damaged version says nothing
        if stored.record.bundle_sha256 != taken.sha256:
            before.append(Known(number=number, manifest=stored.manifest))
    return before


def _active(config: Config, model: str) -> int | None:
    """The version that serves; None when nobody said so, or the build's user may not see it."""
    try:
        deployment = deployments(config).get(model)
    except (StateError, AuditError):
        return None
    return deployment.active if deployment else None


def _stamps(targets: "Sequence[Target] | None", config: Config) -> Stamps:
    if targets is None:
        return box_stamps(config)
    return {item.kind: item.stamp() for item in targets}


def _record(taken: TakenIn, proven: Proven, built: str, warnings: tuple[str, ...]) -> VersionRecord:
    return VersionRecord(
        model=taken.manifest.model,
        bundle_sha256=taken.sha256,
        signer=taken.signer,
        built=built,
        release=release(),
        engine=proven.engine,
        fallback=proven.fallback,
        proof=proven.proof,
        trials=proven.trials,
        warnings=(*warnings, *proven.missing),
        files=(),
    )
