"""The ONNX Runtime target: the ORT format.

Knows: how the library writes its compiled form, and which kernels it has. Rules: optimised for this very
CPU, but for the portable form, which must hold on any; a type it would cast up is refused, for it casts
without a word. Leaves to others: loading and options in common (`runtime.engines.onnxruntime_cpu`).
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from appliance.manifest import Precision
from appliance.store import EngineEntry, EngineKind
from appliance.tensors import Interface
from compiler.targets.target import Refusal, engine_entry, failed, refuse
from runtime.engines import stamp_of
from runtime.engines.libraries import onnxruntime, onnxruntime_kernels
from runtime.engines.onnxruntime_cpu import session_options
from runtime.engines.stamp import PORTABLE

if TYPE_CHECKING:
    from compiler.opening.source import Source

_LIBRARY = "ONNX Runtime"
_TYPES = {Precision.FP16: "tensor(float16)", Precision.BF16: "tensor(bfloat16)"}


@dataclass(frozen=True)
class OnnxRuntimeTarget:
    """Writes `engine.PRECISION.ort`, all optimisations applied, or in fp32 alone `engine.portable.ort`.

    The highest level rearranges convolutions for this CPU's vectors; convolutional models then run up
    to twice as fast as from the portable level, and reload unchanged. The portable level only
    simplifies the graph: its operators stay those of ONNX, which every processor and later version has.
    """

    portable: bool = False

    @property
    def kind(self) -> EngineKind:
        """See `Target.kind`."""
        return PORTABLE if self.portable else "onnxruntime"

    def stamp(self) -> dict[str, str]:
        """See `Target.stamp`."""
        return stamp_of(self.kind)

    def unable(self, precision: Precision) -> str | None:
        """See `Target.unable`."""
        if self.portable and precision is not Precision.FP32:
            return "the portable engine is made in fp32 alone"
        if precision not in _TYPES or _kernels(_TYPES[precision]) & {"Conv", "Gemm", "MatMul"}:
            return None
        return f"{_LIBRARY} has no Conv, Gemm or MatMul in {precision} for this CPU"

    def refusals(
        self,
        source: "Source",
        interface: Interface,  # noqa: ARG002 - every datatype is computed as it is
        precision: Precision,
    ) -> tuple[Refusal, ...]:
        """See `Target.refusals`: heavy operators without a kernel for their type."""
        # onnx is imported where something is compiled, not where the targets are only listed.
        from compiler.precision.operators import typed_nodes  # noqa: PLC0415

        if precision not in _TYPES:
            return ()
        known = _kernels(_TYPES[precision])
        return tuple(
            Refusal(node=node.name, op=node.op_type, reason=f"has no kernel for {precision}")
            for node in typed_nodes(source.model, precision)
            if node.op_type not in known
        )

    def compile(
        self,
        source: "Source",
        directory: Path,
        interface: Interface,
        threads: int,
        precision: Precision,
    ) -> EngineEntry:
        """See `Target.compile`."""
        from compiler.precision.arithmetic import (  # noqa: PLC0415 - as above
            check_arithmetic,
            computed_by_onnxruntime,
        )

        refuse(_LIBRARY, self.refusals(source, interface, precision))
        path = directory / f"engine.{'portable' if self.portable else precision}.ort"
        with TemporaryDirectory(
            dir=directory
        ) as temporary:  # gone with it, should this process be killed
            shown = Path(temporary) / "optimised.onnx"
            self._optimise(source, shown, threads, "ONNX")
            check_arithmetic(_LIBRARY, computed_by_onnxruntime(shown), source, precision)
        self._optimise(source, path, threads, "ORT")
        return engine_entry(self.kind, path, precision)

    def _optimise(self, source: "Source", path: Path, threads: int, form: str) -> None:
        """Write the model as it is run to `path`, as an engine (ORT) or to be read (ONNX)."""
        library, options = onnxruntime(), session_options(threads)
        levels = library.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_BASIC if self.portable else levels.ORT_ENABLE_ALL
        )
        options.optimized_model_filepath = str(path)
        options.add_session_config_entry("session.save_model_format", form)
        try:
            library.InferenceSession(source.data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's errors share no base class
            raise failed(_LIBRARY, error) from error


@cache
def _kernels(tensor: str) -> frozenset[str]:
    """The standard operators that the CPU provider computes in the type `tensor`."""
    return frozenset(
        kernel.op_name
        for kernel in onnxruntime_kernels()
        if kernel.provider == "CPUExecutionProvider" and not kernel.domain
        if tensor in kernel.type_constraints.get("T", ())
    )
