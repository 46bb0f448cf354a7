"""A plan made of a network: settings, timings, progress, and what went wrong in TensorRT's own words.

Knows: the builder's settings and the file of kernel timings. Rules: what the library cannot do in this
release of it is an error, never left out; timings of another GPU or release are not used; a plan
carries code for the host only when it is asked to run with other releases; TF32 is off unless it was asked for, since
it is the library's default and not fp32. Leaves to others: the network (`network`), what the plan says of itself
(`reading`), proving it.

Sources: developer guide, "Building an Engine", "Timing Cache", "Hardware Compatibility", "Version Compatibility";
`holdfast-compile selftest --gpu` tries each of these on a real GPU.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.config import GpuBuildConfig
from appliance.errors import EngineBuild
from appliance.files import unwritable
from compiler.progress import Progress
from compiler.targets.tensorrt.shapes import Range
from runtime.gpu.tensorrt_library import (
    failure,
    log_of,
    new_monitor,
    new_recorder,
    serialized,
)

BAR_STEPS = 100
_COMPATIBILITY = {
    "none": "NONE",
    "same_capability": "SAME_COMPUTE_CAPABILITY",
    "ampere_plus": "AMPERE_PLUS",
}


class Timings:
    """How long kernels took when they were last tried, read from `before` and left in `after`, a file each.

    They belong to one GPU and one release of TensorRT, which checks that itself.
    """

    def __init__(self, before: Path | None, after: Path, bytes_max: int) -> None:
        self._before, self._after, self._bytes_max = before, after, bytes_max

    def given_to(self, config: Any) -> None:
        """Let a build use them, or begin without any where they are of elsewhere."""
        for data in (self._read(), b""):
            cache = config.create_timing_cache(data)
            if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
                return

    def taken_from(self, config: Any) -> None:
        """Keep what a build has learnt, unless it is too much. Raises StateError when the disk refuses."""
        cache = config.get_timing_cache()
        data = b"" if cache is None else bytes(cache.serialize())
        if not 0 < len(data) <= self._bytes_max:
            return
        try:
            self._after.write_bytes(data)
        except OSError as error:
            raise unwritable(self._after, error) from error

    def _read(self) -> bytes:
        for path in (self._after, self._before):
            if path is not None and path.is_file():
                return path.read_bytes()
        return b""


class Fraction:
    """TensorRT's nested phases as one bar of BAR_STEPS, which never goes back."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._running: list[tuple[str, int, int]] = []  # phase, steps done, steps
        self._shown = 0

    def tell(self, phase: str, done: int, steps: int) -> bool:
        """See `new_monitor`: always True, for whoever wants no more ends the process."""
        names = [name for name, _, _ in self._running]
        if phase not in names and done:
            return True  # of a phase beside those that are counted: nothing that could end a build
        outer = self._running[: names.index(phase)] if phase in names else self._unfinished()
        self._running = [*outer, (phase, done, max(steps, 1))]
        reached = int(self._part() * BAR_STEPS)
        if reached > self._shown:
            self._progress.step(min(reached, BAR_STEPS) - self._shown)
            self._shown = min(reached, BAR_STEPS)
        return True

    def _unfinished(self) -> list[tuple[str, int, int]]:
        """The phases that a new one lies in: those that have steps left."""
        return [item for item in self._running if item[1] < item[2]]

    def _part(self) -> float:
        """How much of the outermost phase is done, with what the inner ones add."""
        part, share = 0.0, 1.0
        for _, done, steps in self._running:
            part += share * done / steps
            share /= steps
        return part


def configured(
    trt: Any, builder: Any, settings: GpuBuildConfig, ranges: Mapping[str, Range]
) -> Any:
    """The builder's configuration. Raises EngineBuild for what this release of TensorRT lacks."""
    config = builder.create_builder_config()
    config.builder_optimization_level = settings.optimisation_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if settings.workspace_bytes_max:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_bytes_max)
    level = _COMPATIBILITY[settings.compatibility]
    if not hasattr(trt.HardwareCompatibilityLevel, level):
        raise EngineBuild(
            f"TensorRT {trt.__version__} makes no plans for compatibility "
            f"'{settings.compatibility}'",
            remedy="choose another in [build.gpu], or install a later TensorRT",
        )
    config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    if settings.tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.refit:
        config.set_flag(trt.BuilderFlag.REFIT)
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
    if ranges:
        _add_profile(builder, config, ranges)
    return config


def _add_profile(builder: Any, config: Any, ranges: Mapping[str, Range]) -> None:
    """Raise EngineBuild for ranges that TensorRT does not take."""
    profile = builder.create_optimization_profile()
    try:
        for name, item in ranges.items():
            profile.set_shape(name, item.least, item.best, item.most)
        taken = config.add_optimization_profile(profile) >= 0
    except RuntimeError:  # what the bindings make of a range that is "inconsistent"
        taken = False
    if not taken:
        raise EngineBuild(
            f"TensorRT does not take the ranges {dict(ranges)}",
            remedy="give the axes other ranges in [model.axes]",
        )


def built(
    trt: Any,
    builder: Any,
    network: Any,
    config: Any,
    *,
    timings: Timings,
    progress: Progress,
    nodes: tuple[str, ...],
) -> bytes:
    """The plan, without weights when it is one to be refitted. `nodes` are the model's, for naming them.

    Raises EngineBuild, GpuMemory or GpuLost with what TensorRT said, and StateError.
    """
    progress.stage("building the plan", BAR_STEPS)
    # Before anything is recorded: that old timings do not fit is no reason of a failure.
    timings.given_to(config)
    recorder = new_recorder(trt)
    builder.error_recorder = recorder
    monitor = new_monitor(trt, Fraction(progress).tell)
    config.progress_monitor = monitor
    with log_of(trt).heard() as heard:
        plan = serialized(trt, builder, network, config)
    if monitor.error is not None:
        raise monitor.error
    if plan is None:
        raise failure(
            "TensorRT cannot build the model",
            heard,
            kind=EngineBuild,
            recorder=recorder,
            nodes=nodes,
            remedy="raise workspace_bytes_max in [build.gpu], free memory of the GPU, or leave the "
            "model to the CPU engines",
        )
    timings.taken_from(config)
    return bytes(plan)
