"""An extracted bundle compiled and proven: the part of a build that touches the model.

Knows: what is done between taking a bundle in and filing a version. Rules: everything here parses or runs
the model, so it is done in a child; it writes into the staged directory and nowhere else. Leaves to
others: signatures, digests and the store (`build`).
"""

from collections.abc import Sequence
from pathlib import Path

from appliance.clock import Clock, SystemClock
from appliance.files import write_file
from appliance.manifest import Manifest
from appliance.store import Store
from compiler.compiling.cache import CachedTarget, EngineCache
from compiler.compiling.candidates import Candidates
from compiler.compiling.content import check_content
from compiler.explain.pictures import engine_view
from compiler.found import SHEET_FILE, Compiled
from compiler.gpu import BoxGpu
from compiler.progress import Progress
from compiler.targets import FALLBACK, TARGETS, Target
from compiler.targets.tensorrt.target import TensorRTTarget
from runtime.servable import golden_of


def compile_staged(
    directory: Path,
    manifest: Manifest,
    *,
    threads: int,
    progress: Progress,
    store: Path | None = None,
    targets: Sequence[Target] | None = None,
    clock: Clock | None = None,
    gpu: BoxGpu | None = None,
) -> Compiled:
    """Check, compile and prove the extracted bundle in `directory`; only what is kept is left there.

    Without `targets` for all that this release knows, and TensorRT on `gpu` if there is one. Raises BundleContent, EngineBuild, ProofError and its kinds, or StateError.
    """
    source = check_content(directory, manifest)
    settings = gpu.settings if gpu else None
    cache = None
    if store is not None:
        cache = EngineCache(store=Store(store), manifest=manifest, threads=threads, gpu=settings)
    if targets is None:
        targets = (*TARGETS, *_for_gpu(gpu, manifest, progress, cache), FALLBACK)
    if cache is not None:
        targets = [CachedTarget(target=target, cache=cache) for target in targets]
    candidates = Candidates(
        targets=targets, threads=threads, clock=clock or SystemClock(), progress=progress
    )
    kept = candidates.best(directory, manifest, source)
    sheet = engine_view(manifest.recipe, manifest.stateless, golden_of(directory).inputs)
    if sheet is not None:
        write_file(directory / SHEET_FILE, sheet)
    return Compiled(
        entry=kept.entry,
        fallback=kept.fallback,
        proof=kept.proof,
        trials=kept.trials,
        sheet=sheet is not None,
    )


def _for_gpu(
    gpu: BoxGpu | None, manifest: Manifest, progress: Progress, cache: EngineCache | None
) -> tuple[Target, ...]:
    if gpu is None:
        return ()
    earlier = cache.stripped if cache else None
    return (TensorRTTarget(gpu=gpu, manifest=manifest, progress=progress, earlier=earlier),)
