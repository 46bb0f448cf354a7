"""The TensorRT target: one engine file with a plan and the recipe's kernels.

Knows: the order of a compilation. Rules: nothing of the library is touched before the driver has answered, for
without one its objects crash the process; what the model's graph already rules out is told before the library is
asked, and everything that its parser refuses before anything is built; a plan is read back before it is kept.
Leaves to others: each step (see the package), loading the file (`runtime.engines.tensorrt`), proving it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from appliance.files import sha256_file
from appliance.manifest import Manifest, Precision
from appliance.store import EngineEntry
from appliance.tensors import Interface
from compiler.gpu import BoxGpu
from compiler.progress import Progress, Silent
from compiler.targets.target import Refusal

if TYPE_CHECKING:  # onnx is imported where something is compiled, not where targets are only listed
    from compiler.opening.source import Source

KIND: Literal["tensorrt"] = "tensorrt"
_BF16_SINCE = (8, 0)  # CUDA C++ Programming Guide, "Compute Capabilities"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRTTarget:
    """Writes `engine.PRECISION.trt` for the GPU that the driver told of.

    `gpu` is None where there is only to tell what a model's graph rules out. `manifest` is of the bundle whose
    recipe's kernels belong to the engine, None for a model alone. `earlier` gives the weightless plan of a structure
    from a version before, if there is one.
    """

    gpu: BoxGpu | None = None
    manifest: Manifest | None = None
    progress: Progress = field(default_factory=Silent)
    earlier: Callable[[str], bytes | None] | None = None

    @property
    def kind(self) -> str:
        """See `Target.kind`."""
        return KIND

    def stamp(self) -> dict[str, str]:
        """See `Target.stamp`."""
        return dict(self.gpu.stamp) if self.gpu else {}

    def unable(self, precision: Precision) -> str | None:
        """See `Target.unable`."""
        if self.gpu is None:
            return None
        if self.gpu.trouble:
            return f"no GPU for it: {self.gpu.trouble}"
        if precision is Precision.BF16 and self.gpu.capability < _BF16_SINCE:
            return f"{self.gpu.name} does not compute in {precision}"
        return None

    def refusals(
        self,
        source: "Source",
        interface: Interface,
        precision: Precision,  # noqa: ARG002 - the same in each
    ) -> tuple[Refusal, ...]:
        """See `Target.refusals`: what the graph rules out; the library's parser may refuse more."""
        from compiler.targets.tensorrt.refusals import refused  # noqa: PLC0415 - it parses ONNX

        return tuple(refused(source, interface))

    def compile(
        self,
        source: "Source",
        directory: Path,
        interface: Interface,
        threads: int,  # noqa: ARG002 - of the CPU
        precision: Precision,
    ) -> EngineEntry:
        """See `Target.compile`. Raises also GpuUnusable, GpuMemory, GpuLost."""
        from compiler.opening.integers import integers_in  # noqa: PLC0415 - it parses ONNX
        from compiler.targets.tensorrt.compiling import Order, write_engine  # noqa: PLC0415
        from compiler.targets.tensorrt.network import refuse_all  # noqa: PLC0415

        assert self.gpu is not None, "a model is compiled where the driver was asked"
        self.gpu.require()
        refuse_all(self.refusals(source, interface, precision))
        path = directory / f"engine.{precision}.trt"
        order = Order(
            source, interface, precision, self.gpu, self.manifest, self.progress, self.earlier
        )
        write_engine(order, path)
        return EngineEntry(
            kind=KIND,
            precision=precision,
            file=path.name,
            sha256=sha256_file(path),
            stamp=self.stamp(),
            bounds=integers_in(source).bounds,
        )
