"""The engines that a bundle could get: each compiled, each proven, the best one kept.

Knows: what becomes of an engine that fails. Rules: one library's failure does not end a build while
another engine passes, and is recorded with its reason. Leaves to others: how proof and measuring are
done.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from appliance.clock import Clock
from appliance.errors import ApplianceError, EngineError, ProofError
from appliance.manifest import MODEL_FILE, Manifest, Precision
from appliance.proof import Proof, Timing, Trial
from appliance.store import EngineEntry
from compiler.choice import Medians, fastest, measure, requests
from compiler.progress import Progress
from compiler.proof import prove, served_outputs
from compiler.targets import Target
from runtime.servable import Servable, assemble, golden_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The engine that the version gets, its proof, and how every engine tried did."""

    entry: EngineEntry
    proof: Proof
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """An engine that passed, still loaded."""

    entry: EngineEntry
    servable: Servable
    proof: Proof


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What all engines of one build have in common."""

    targets: Sequence[Target]
    threads: int
    clock: Clock
    progress: Progress

    def best(self, directory: Path, manifest: Manifest) -> Kept:
        """Compile the extracted bundle in `directory` for every target and keep the best engine.

        Only the kept engine's file is left there. Raises ProofError when engines were made but none
        passed, EngineBuild when none was made.
        """
        proven: dict[str, Proven] = {}
        failed: dict[str, ApplianceError] = {}
        with ExitStack() as loaded:
            for target in self.targets:
                try:
                    proven[target.kind] = self._proven(target, directory, manifest)
                except (EngineError, ProofError) as error:
                    failed[target.kind] = error
                else:
                    loaded.callback(proven[target.kind].servable.close)
            if not proven:
                raise _none_passed(failed)
            self.progress.stage("measuring")
            servables = {kind: item.servable for kind, item in proven.items()}
            medians = measure(servables, golden_of(directory), self.clock)
        best = proven[fastest(medians)]
        _remove_engines(directory, keep=best.entry.file)
        return Kept(
            entry=best.entry,
            proof=best.proof,
            trials=(*_timed(medians, best.entry.kind), *_untimed(failed)),
        )

    def _proven(self, target: Target, directory: Path, manifest: Manifest) -> Proven:
        self.progress.stage(f"compiling for {target.kind}")
        entry = target.compile(directory / MODEL_FILE, directory, manifest.engine, self.threads)
        servable = assemble(directory, manifest, entry, threads=self.threads)
        try:
            proof = prove(servable, directory, manifest, self.progress)
            # What is measured must be answered: here a failure costs one engine, later the build.
            for request in requests(golden_of(directory), manifest.served.batch_max).values():
                served_outputs(servable, request)
        except BaseException:
            servable.close()
            raise
        return Proven(entry=entry, servable=servable, proof=proof)


def _remove_engines(directory: Path, *, keep: str) -> None:
    for path in directory.glob("engine.*"):
        if path.name != keep:
            path.unlink()


def _timed(medians: Mapping[str, Medians], kept: str) -> list[Trial]:
    return [
        Trial(
            engine=kind,
            precision=Precision.FP32,
            timings=tuple(
                Timing(rows=rows, median_ms=round(milliseconds, 4), p99_ms=round(milliseconds, 4))
                for rows, milliseconds in by_rows.items()
            ),
            verdict="kept" if kind == kept else "passed, slower",
        )
        for kind, by_rows in medians.items()
    ]


def _untimed(failed: Mapping[str, ApplianceError]) -> list[Trial]:
    return [
        Trial(engine=kind, precision=Precision.FP32, verdict=f"[{error.code}] {error}")
        for kind, error in failed.items()
    ]


def _none_passed(failed: Mapping[str, ApplianceError]) -> ApplianceError:
    """One error for all: of the first engine that was made but not proven, else of the first."""
    errors = list(failed.values())
    told = next((error for error in errors if isinstance(error, ProofError)), errors[0])
    reasons = "; ".join(f"{kind}: {error}" for kind, error in failed.items())
    return type(told)(f"no engine passed: {reasons}", remedy=told.remedy)
