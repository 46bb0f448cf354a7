"""Bundle to a proven version in the store.

Knows: the order of a build and what is recorded of it. Rules: a version appears by one rename or not at
all; a bundle that was built before keeps its number while its engine still fits this box; the model itself is kept for rebuilding, though no
server opens it. Leaves to others: taking a bundle in, whether its parts fit each other (`content`),
choosing an engine, the store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.bundle import entry, require_trust, trusted_keys
from appliance.clock import Clock, SystemClock, timestamp
from appliance.config import Config
from appliance.manifest import FileEntry
from appliance.store import MANIFEST_NAME, Store, StoredVersion, VersionRecord
from appliance.tables import canonical_json
from appliance.version import release
from compiler.candidates import Candidates, Kept
from compiler.content import check_content
from compiler.intake import TakenIn, take_in
from compiler.progress import Progress, Silent
from compiler.targets import TARGETS, Target


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
    targets: Sequence[Target] = TARGETS,
) -> Built:
    """Verify, compile, prove and file the bundle; on any error nothing of it is left.

    Raises KeyFileError (nobody is trusted), BundleError and its kinds, EngineBuild, GoldenMissed,
    ThresholdMissed or StateError.
    """
    clock, progress = clock or SystemClock(), progress or Silent()
    store, trust = Store(config.state.store), config.state.trust
    trusted = trusted_keys(trust)
    require_trust(trusted, trust)
    with store.stage() as staged:
        progress.stage("verifying the bundle")
        taken = take_in(bundle, trusted, staged)
        model = taken.manifest.model
        stamps = {target.kind: target.stamp() for target in targets}
        known = store.find(model, taken.sha256, stamps)
        if known is not None:
            return Built(version=store.describe(model, known), new=False)
        check_content(staged, taken.manifest)
        candidates = Candidates(
            targets=targets, threads=config.engine.threads, clock=clock, progress=progress
        )
        kept = candidates.best(staged, taken.manifest)
        progress.stage("filing the version")
        record = _record(staged, taken, kept, timestamp(clock.wall_ns()))
        filed = store.file(staged, taken.manifest, record, stamps)
    return Built(version=store.describe(model, filed.number), new=filed.new)


def _record(staged: Path, taken: TakenIn, kept: Kept, built: str) -> VersionRecord:
    engine = FileEntry(
        name=kept.entry.file,
        bytes=(staged / kept.entry.file).stat().st_size,
        sha256=kept.entry.sha256,
    )
    manifest = entry(MANIFEST_NAME, canonical_json(taken.manifest))
    return VersionRecord(
        model=taken.manifest.model,
        bundle_sha256=taken.sha256,
        signer=taken.signer,
        built=built,
        release=release(),
        engine=kept.entry,
        proof=kept.proof,
        trials=kept.trials,
        files=(*taken.manifest.files, engine, manifest),
    )
