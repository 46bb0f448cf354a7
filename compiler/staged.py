"""A staged bundle given its engine, and what came of it checked.

Knows: what may be in a version's directory. Rules: the child that compiles is not believed: the bundle's own
files must be what they were, engines are what the manifest asks for, digested here, stamped and keyed by
what this box says, the values told reach what was agreed, and nothing else stays. Leaves to others: the compiling (`compiling`), filing (`build`, `refresh`).
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from appliance.bundle import entry
from appliance.config import Config
from appliance.errors import BuildCrashed, BundleContent, EngineError, ProofError
from appliance.files import open_regular, sha256_file
from appliance.manifest import FileEntry, Manifest, Precision
from appliance.proof import Proof, Trial
from appliance.store import MANIFEST_NAME, EngineEntry, Stamps, VersionRecord
from appliance.tables import canonical_json
from compiler.acts import Compile
from compiler.child import Confined, Doer, Here, Places, kernel_cache
from compiler.child.act import Ended
from compiler.child.devices import gpu_devices
from compiler.compiling.cache import engine_key
from compiler.found import SHEET_FILE, Compiled
from compiler.gpu import box_gpu, keep_timings
from compiler.progress import Progress
from compiler.report.writing import write_report
from runtime.engines.stamp import PORTABLE

if TYPE_CHECKING:  # they import what compiles
    from compiler.targets import Target

_SHEET_BYTES_MAX = 32 << 20
_SCRATCH = ".scratch"
FALLBACK = (PORTABLE, Precision.FP32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A staged bundle with its engine: what its record says, and the fences that were missing."""

    engine: EngineEntry
    fallback: EngineEntry | None
    proof: Proof
    trials: tuple[Trial, ...]
    sheet: bytes | None
    missing: tuple[str, ...]


def prove_staged(
    staged: Path,
    manifest: Manifest,
    config: Config,
    progress: Progress,
    *,
    stamps: Stamps,
    targets: "Sequence[Target] | None" = None,
    in_process: bool = False,
) -> Proven:
    """Compile and prove the bundle in `staged`; only its files and the kept engines are left there.

    Raises BundleContent, EngineBuild, ProofError, BuildError and their kinds, or StateError.
    """
    progress.stage("checking the bundle's content")
    scratch = staged / _SCRATCH
    scratch.mkdir()
    gpu = box_gpu(config) if targets is None else None
    act = Compile(
        directory=str(staged),
        manifest=manifest,
        threads=config.engine.threads,
        store=str(config.state.store),
        gpu=gpu,
    )
    places = Places(
        scratch=scratch,
        readable=(config.state.store,),
        writable=(staged, *kernel_cache()),
        devices=gpu_devices() if gpu and not gpu.trouble else (),
    )
    missing: tuple[str, ...] = ()
    with _told_without(staged):
        if targets is not None:
            compiled = _with(targets, act, progress)
        else:
            doer: Doer = Here() if in_process else Confined(bounds=config.build)
            ended = _done(doer, act, places, progress)
            compiled, missing = ended.result, ended.missing
    keep_timings(staged, gpu)
    checking = _Checking(staged, manifest, stamps, config)
    return checking.proven(compiled, missing)


def _done(doer: Doer, act: Compile, places: Places, progress: Progress) -> Ended[Compiled]:
    """Do the act; one that died with a GPU is done again without, for its libraries are the likeliest cause."""
    try:
        return doer.do(act, places, progress)
    except BuildCrashed as error:
        if act.gpu is None or act.gpu.trouble:
            raise
        progress.stage("building again without the GPU, whose libraries ended the build")
        staged = Path(act.directory)
        _tidy(staged, {item.name for item in act.manifest.files} | {_SCRATCH})
        without = msgspec.structs.replace(act, gpu=act.gpu.left_out(error))
        return doer.do(without, replace(places, devices=()), progress)


def with_report(
    staged: Path, manifest: Manifest, record: VersionRecord, sheet: bytes | None
) -> VersionRecord:
    """Write the report of the version that `record` describes; the record with all files named."""
    body = entry(MANIFEST_NAME, canonical_json(manifest))
    engines = {item.file: item for item in (record.engine, record.fallback) if item is not None}
    files = [
        FileEntry(name=name, bytes=(staged / name).stat().st_size, sha256=item.sha256)
        for name, item in engines.items()
    ]
    record = msgspec.structs.replace(record, files=(*manifest.files, *files, body))
    report = write_report(staged, manifest, record, sheet=sheet)
    return msgspec.structs.replace(record, files=(*record.files, *report))


def _with(targets: "Sequence[Target]", act: Compile, progress: Progress) -> Compiled:
    from compiler.compiling.compiling import compile_staged  # noqa: PLC0415 - it imports what compiles

    return compile_staged(
        Path(act.directory),
        act.manifest,
        threads=act.threads,
        store=Path(act.store),
        progress=progress,
        targets=targets,
    )


@contextmanager
def _told_without(staged: Path) -> Iterator[None]:
    """Let errors name files as the bundle does: where it is staged is of no use to anyone."""
    try:
        yield
    except (BundleContent, EngineError, ProofError) as error:
        text = str(error).replace(f"{staged}/", "")
        raise type(error)(text, remedy=error.remedy) from error


class _Checking:
    """What the child left in `staged`, against what it tells."""

    def __init__(self, staged: Path, manifest: Manifest, stamps: Stamps, config: Config) -> None:
        self._staged, self._manifest = staged, manifest
        self._stamps, self._config = stamps, config

    def proven(self, compiled: Compiled, missing: tuple[str, ...]) -> Proven:
        """The record's part of it; everything else is removed. Raises BuildCrashed."""
        self._check_agreed(compiled)
        for item in self._manifest.files:
            if _digest(self._staged / item.name) != item.sha256:
                raise _untrue(f"left '{item.name}' changed")
        engine = self._engine(compiled.entry)
        fallback = None if compiled.fallback is None else self._engine(compiled.fallback)
        sheet = _sheet(self._staged / SHEET_FILE) if compiled.sheet else None
        kept = {item.name for item in self._manifest.files} | {engine.file}
        _tidy(self._staged, kept if fallback is None else kept | {fallback.file})
        return Proven(
            engine=engine,
            fallback=fallback,
            proof=compiled.proof,
            trials=tuple(self._told(trial) for trial in compiled.trials),
            sheet=sheet,
            missing=missing,
        )

    def _told(self, trial: Trial) -> Trial:
        verdict = trial.verdict.replace(f"{self._staged}/", "")
        return msgspec.structs.replace(trial, verdict=verdict)

    def _check_agreed(self, compiled: Compiled) -> None:
        """What is told of is what the manifest asks for, and reaches what was agreed."""
        manifest, kept, spare = self._manifest, compiled.entry, compiled.fallback
        if kept.precision is Precision.AUTO or manifest.precision not in (
            Precision.AUTO,
            kept.precision,
        ):
            raise _untrue(f"kept an engine in {kept.precision}, not {manifest.precision}")
        if kept.kind == PORTABLE:
            raise _untrue(f"kept {kept.kind} {kept.precision}, which is to fall back on alone")
        if spare is not None and (
            not manifest.fallback or (spare.kind, spare.precision) != FALLBACK
        ):
            raise _untrue(f"kept {spare.kind} {spare.precision} to fall back on")
        reached = compiled.proof.reached
        if {item.threshold for item in reached} != set(manifest.acceptance) or not all(
            item.threshold.holds(item.value) for item in reached
        ):
            raise _untrue("kept an engine that misses what was agreed")

    def _engine(self, told: EngineEntry) -> EngineEntry:
        """What the record says of an engine: digest, stamp and key by our own look at it."""
        if Path(told.file).name != told.file or not told.file.startswith("engine."):
            raise _untrue(f"calls its engine '{told.file}'")
        if told.kind not in self._stamps or _digest(self._staged / told.file) != told.sha256:
            raise _untrue(f"left no such '{told.file}' as it tells of")
        stamp = dict(self._stamps[told.kind])
        key = engine_key(
            self._manifest,
            told.kind,
            told.precision,
            stamp,
            threads=self._config.engine.threads,
            gpu=self._config.build.gpu,
        )
        return msgspec.structs.replace(told, stamp=stamp, key=key)


def _digest(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None


def _sheet(path: Path) -> bytes | None:
    try:
        with open_regular(path) as file:
            return file.read(_SHEET_BYTES_MAX)
    except OSError:
        return None


def _tidy(staged: Path, kept: set[str]) -> None:
    """Remove whatever else libraries, or a hostile model, left in `staged`. Raises BuildCrashed."""
    for path in staged.iterdir():
        if path.name in kept:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    left = sorted(path.name for path in staged.iterdir() if path.name not in kept)
    if left:
        raise _untrue(f"left {left}, which cannot be removed")


def _untrue(what: str) -> BuildCrashed:
    return BuildCrashed(
        f"compiling {what}", remedy="build again; if it stays so, distrust the model"
    )
