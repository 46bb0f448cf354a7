"""The engines that a bundle could get: each compiled and timed, then proven in order of speed.

Knows: what is tried, and what becomes of an engine that fails. Rules: a trial is a target and a precision;
one trial's failure does not end a build while another passes, and is recorded with its reason; the first
that passes is kept, so that proving, which runs every held-out row, is paid once or twice and not for each
of up to eight trials, most of which lose on speed alone; the slower ones are compared on the golden rows
only, for the table; the portable engine is proven and kept beside the kept one when the manifest asks for
it, is never the kept one itself, and no latency limit is laid on it, for it serves only while nothing
faster fits the box. Leaves to others: how proof and measuring are done, the table (`trials`).
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from appliance.clock import Clock
from appliance.errors import BundleContent, EngineBuild, EngineError, ProofError, RequestError
from appliance.golden import Golden
from appliance.manifest import CALIBRATION_FILE, Manifest, Precision
from appliance.proof import Proof, Trial
from appliance.store import EngineEntry
from compiler.compiling.choice import by_speed, check_latency, measure, requests
from compiler.compiling.trials import Attempt, Outcomes
from compiler.opening.source import Source
from compiler.precision import Ranges, lowered
from compiler.progress import Progress
from compiler.proving.comparison import compare
from compiler.proving.memory import added_bytes, resident_bytes
from compiler.proving.proof import complete, prove
from compiler.proving.running import served_outputs
from compiler.targets import Target
from compiler.targets.tensorrt.inspected import inspected_in
from runtime.engines.stamp import PORTABLE
from runtime.servable import Servable, assemble, golden_of

FALLBACK = Attempt(PORTABLE, Precision.FP32)
_AUTO = (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8)
# Of one engine; RequestError when it takes fewer values than the rows hold.
_FAILURES = (EngineError, ProofError, RequestError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The engine that the version gets, the one to fall back on, its proof, and every trial."""

    entry: EngineEntry
    fallback: EngineEntry | None
    proof: Proof
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What all builds on this box have in common."""

    targets: Sequence[Target]
    threads: int
    clock: Clock
    progress: Progress

    def best(self, directory: Path, manifest: Manifest, source: Source) -> Kept:
        """Try the extracted bundle in `directory`, whose model is `source`, and keep the best engine.

        Only the kept engine's file and the fallback's are left there. Raises ProofError when engines
        were made but none passed, EngineBuild when none was made, BundleContent on a calibration that
        is not the manifest's.
        """
        trying = _Trying(
            candidates=self,
            directory=directory,
            manifest=manifest,
            golden=golden_of(directory),
            outcomes=Outcomes(attempts=self._attempts(manifest)),
        )
        with ExitStack() as stack:
            trying.load_all(source, stack)
            trying.measure()
            kept = trying.fastest_proven(self._wanted(manifest))
            fallback = trying.fallback()
            trying.compare_slower()
            proof = trying.completed(kept)
        entry = trying.loaded[kept].entry
        spare = None if fallback is None else trying.loaded[fallback].entry
        _remove_engines(directory, keep={item.file for item in (entry, spare) if item})
        trials = trying.outcomes.trials(kept, fallback)
        return Kept(entry=entry, fallback=spare, proof=proof, trials=trials)

    def _wanted(self, manifest: Manifest) -> tuple[Attempt, ...]:
        """What may be kept, in the order in which it is compiled."""
        auto = manifest.precision is Precision.AUTO
        precisions = _AUTO if auto else (manifest.precision,)
        kinds = [target.kind for target in self.targets if target.kind != FALLBACK.engine]
        return tuple(Attempt(kind, item) for item in precisions for kind in kinds)

    def _attempts(self, manifest: Manifest) -> tuple[Attempt, ...]:
        """What may be kept, and what to fall back on."""
        spare = manifest.fallback and any(item.kind == FALLBACK.engine for item in self.targets)
        return (*self._wanted(manifest), *([FALLBACK] if spare else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """An engine that was compiled, loaded and warmed, and the memory that this took."""

    entry: EngineEntry
    servable: Servable
    memory_bytes: int | None


@dataclass(slots=True, kw_only=True)
class _Trying:
    """One build's trials: loaded, then measured, then proven until one passes."""

    candidates: Candidates
    directory: Path
    manifest: Manifest
    golden: Golden
    outcomes: Outcomes
    loaded: dict[Attempt, _Loaded] = field(default_factory=dict)

    def load_all(self, source: Source, stack: ExitStack) -> None:
        """Compile, load and warm every attempt; what fails is noted."""
        ranges = _ranges(self.directory, self.manifest)
        for precision in dict.fromkeys(item.precision for item in self.outcomes.attempts):
            targets = self._able(precision)
            if not targets:
                continue
            self.candidates.progress.stage(f"rewriting for {precision}")
            try:
                graph = lowered(source, precision, ranges)
            except EngineError as error:
                self.outcomes.failed |= dict.fromkeys(targets, error)
                continue
            for attempt, target in targets.items():
                try:
                    self.loaded[attempt] = self._load(attempt, target, graph, stack)
                except _FAILURES as error:
                    self.outcomes.failed[attempt] = error

    def measure(self) -> None:
        """Time every engine that was loaded."""
        if self.loaded:
            self.candidates.progress.stage("measuring")
            servables = {attempt: item.servable for attempt, item in self.loaded.items()}
            self.outcomes.timings = measure(servables, self.golden, self.candidates.clock)

    def fastest_proven(self, wanted: Sequence[Attempt]) -> Attempt:
        """The first of `wanted` by speed that keeps to the latency limit and passes its proof.

        Raises the error that tells of all, when none does.
        """
        for attempt in by_speed(self.outcomes.timings):
            if attempt in wanted and self._proves(attempt, limited=True):
                return attempt
        raise self.outcomes.none_passed(wanted)

    def fallback(self) -> Attempt | None:
        """The engine to fall back on, when it was asked for, made, and passes."""
        proven = FALLBACK in self.loaded and self._proves(FALLBACK, limited=False)
        return FALLBACK if proven else None

    def compare_slower(self) -> None:
        """Note the errors of what was not proven on the golden rows; one that misses them has failed."""
        for attempt, item in self.loaded.items():
            if attempt in self.outcomes.proofs or attempt in self.outcomes.failed:
                continue
            try:
                self.outcomes.compared[attempt] = compare(
                    item.servable,
                    self.golden,
                    self.manifest,
                    attempt.precision,
                    self.candidates.progress,
                )
            except _FAILURES as error:
                self.outcomes.failed[attempt] = error

    def completed(self, kept: Attempt) -> Proof:
        """The kept engine's proof with what is only reported."""
        return complete(
            self.loaded[kept].servable,
            self.directory,
            self.manifest,
            self.outcomes.proofs[kept],
            self.candidates.progress,
        )

    def _able(self, precision: Precision) -> dict[Attempt, Target]:
        """The attempts in `precision` that this box can make; the others are noted."""
        able = {}
        for target in self.candidates.targets:
            attempt = Attempt(target.kind, precision)
            reason = target.unable(precision) if attempt in self.outcomes.attempts else None
            if reason is not None:
                self.outcomes.failed[attempt] = EngineBuild(
                    reason, remedy='use another precision, or "auto" to have the fastest one found'
                )
            elif attempt in self.outcomes.attempts:
                able[attempt] = target
        return able

    def _load(self, attempt: Attempt, target: Target, graph: Source, stack: ExitStack) -> _Loaded:
        threads = self.candidates.threads
        self.candidates.progress.stage(f"compiling for {attempt}")
        entry = target.compile(
            graph, self.directory, self.manifest.engine, threads, attempt.precision
        )
        path = self.directory / entry.file
        self.outcomes.sizes[attempt] = path.stat().st_size
        if entry.kind == "tensorrt":
            self.outcomes.inspected[attempt] = inspected_in(path)
        before = resident_bytes()
        with ExitStack() as failing:
            servable = assemble(self.directory, self.manifest, entry, threads=threads)
            failing.callback(servable.close)
            servable.warm(self.golden)
            memory = added_bytes(before)
            # What is measured must be answered: here a failure costs one engine, later the build.
            for request in requests(self.golden, self.manifest.served.batch_max).values():
                served_outputs(servable, request)
            stack.push(failing.pop_all())
        return _Loaded(entry=entry, servable=servable, memory_bytes=memory)

    def _proves(self, attempt: Attempt, *, limited: bool) -> bool:
        """Prove an engine, with the latency limit or without; a failure is noted."""
        item = self.loaded[attempt]
        try:
            if limited:
                check_latency(self.outcomes.timings[attempt], self.manifest.limits)
            self.outcomes.proofs[attempt] = prove(
                item.servable,
                self.directory,
                self.manifest,
                attempt.precision,
                self.candidates.progress,
                memory_bytes=item.memory_bytes,
            )
        except _FAILURES as error:
            self.outcomes.failed[attempt] = error
            return False
        return True


def _ranges(directory: Path, manifest: Manifest) -> Ranges | None:
    """The bundle's ranges, None when it was not calibrated."""
    if manifest.calibration is None:
        return None
    ranges = Ranges.load(directory / CALIBRATION_FILE)
    if ranges.calibration != manifest.calibration:
        raise BundleContent(
            "the bundle contradicts itself: its calibration is not the one its manifest names",
            remedy="pack it again with this release",
        )
    return ranges


def _remove_engines(directory: Path, *, keep: set[str]) -> None:
    for path in directory.glob("engine.*"):
        if path.name not in keep:
            path.unlink()
