"""The whole selftest: the box asked, each precision tried in a child of its own.

Knows: the order. Rules: a child for each precision, behind the fences of a build, so that one which takes the GPU or
itself down costs no other; without a GPU that can be used nothing is begun, and the report says why; nothing is left
on the box. Leaves to others: trying (`trying`), telling (`telling`).
"""

import platform
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from appliance.config import Config
from appliance.driver import Probe, probe
from appliance.errors import ApplianceError
from appliance.manifest import Precision
from appliance.version import release
from compiler.child import Confined, Doer, Places, kernel_cache
from compiler.child.devices import gpu_devices
from compiler.gpu import BoxGpu, box_gpu, held
from compiler.progress import Progress
from compiler.selftest.findings import STEPS, Findings, Tried, untried
from compiler.targets.tensorrt.target import TensorRTTarget

PRECISIONS = (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8)


class TryPrecision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Try `precision` on `gpu`, leaving files in `directory`."""

    gpu: BoxGpu
    precision: Precision
    directory: str

    @classmethod
    def result(cls) -> type[Tried]:
        """See Act."""
        return Tried

    def perform(self, progress: Progress) -> Tried:
        """See `trying.Trial`."""
        from compiler.selftest.trying import Trial  # noqa: PLC0415 - it imports what compiles

        with held(self.gpu):
            return Trial(self.gpu, self.precision, Path(self.directory), progress).tried()


def selftest(
    config: Config,
    progress: Progress,
    *,
    ask: Callable[[str], Probe] = probe,
    doer: Doer | None = None,
) -> Findings:
    """Try every precision on the box's GPU; what was found, also when nothing could be tried."""
    progress.stage("asking the driver")
    found = ask(config.gpu.devices[0])
    gpu = box_gpu(config, lambda _: found)
    findings = Findings(release=release(), box=_box(found, gpu))
    if gpu is None or gpu.trouble:
        return msgspec.structs.replace(findings, **_trouble(found, gpu))
    trying = _Trying(gpu, doer or Confined(bounds=config.build), progress)
    with TemporaryDirectory(prefix="holdfast-selftest-") as directory:
        tried = tuple(trying.one(precision, Path(directory)) for precision in PRECISIONS)
    return msgspec.structs.replace(findings, tried=tried, missing_fences=trying.missing)


class _Trying:
    """What the children have in common."""

    def __init__(self, gpu: BoxGpu, doer: Doer, progress: Progress) -> None:
        self._gpu, self._doer, self._progress = gpu, doer, progress
        self.missing: tuple[str, ...] = ()

    def one(self, precision: Precision, root: Path) -> Tried:
        """One precision in a child; its death is a finding."""
        if why := TensorRTTarget(gpu=self._gpu).unable(precision):
            return untried(precision, why, failed=False)
        directory, scratch = root / precision, root / f"{precision}.scratch"
        directory.mkdir()
        scratch.mkdir()
        act = TryPrecision(gpu=self._gpu, precision=precision, directory=str(directory))
        places = Places(
            scratch=scratch, writable=(directory, *kernel_cache()), devices=gpu_devices()
        )
        watched = _Watched(self._progress)
        try:
            ended = self._doer.do(act, places, watched)
        except ApplianceError as error:
            return untried(precision, f"[{error.code}] {error}", failed=True, at=watched.begun)
        self.missing = ended.missing
        return ended.result


class _Watched:
    """A progress that remembers which step was begun last."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.begun = STEPS[0]

    def stage(self, name: str, steps: int = 1) -> None:
        """See Progress."""
        step = name.rpartition(": ")[2]
        self.begun = step if step in STEPS else self.begun
        self._progress.stage(name, steps)

    def step(self, steps: int = 1) -> None:
        """See Progress."""
        self._progress.step(steps)


def _trouble(found: Probe, gpu: BoxGpu | None) -> dict[str, str]:
    if gpu is not None:
        return {"trouble": gpu.trouble, "remedy": gpu.remedy}
    if found.trouble:
        return {"trouble": found.trouble, "remedy": found.remedy}
    return {
        "trouble": "engines for a GPU are switched off, or TensorRT is not installed",
        "remedy": "set enabled = true in [build.gpu], and install the extra 'gpu'; see docs/gpu.md",
    }


def _box(found: Probe, gpu: BoxGpu | None) -> dict[str, str]:
    """The box in words; nothing in it names its owner."""
    told = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "driver": found.release or "unknown",
        "CUDA of the driver": _dotted(found.cuda) if found.cuda else "unknown",
        "NVIDIA's packages": ", ".join(found.wheels) or "none",
    }
    for item in found.gpus:
        capability = ".".join(map(str, item.capability))
        told[f"GPU {item.index}"] = (
            f"{item.name}, compute capability {capability}, {item.memory_bytes >> 20} MiB"
            f"{', an instance (MIG)' if item.mig else ''}"
        )
    if gpu is not None:
        told |= {f"stamp: {name}": value for name, value in gpu.stamp.items()}
        told["settings"] = msgspec.json.encode(gpu.settings).decode()
    return told


def _dotted(cuda: int) -> str:
    """As NVIDIA writes it: 13000 is 13.0."""
    return f"{cuda // 1000}.{cuda % 1000 // 10}"
