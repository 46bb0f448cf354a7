"""The ONNX Runtime target: the ORT format.

Knows: how the library writes its compiled form. Rules: optimised for this very CPU, since the file never
leaves it. Leaves to others: loading and options in common (`runtime.engines.onnxruntime_cpu`).
"""

from pathlib import Path
from typing import Literal

from appliance.store import EngineEntry
from appliance.tensors import Interface
from compiler.targets.target import engine_entry, refused, stamp
from runtime.engines.libraries import onnxruntime
from runtime.engines.onnxruntime_cpu import session_options


class OnnxRuntimeTarget:
    """Writes `engine.ort`, all optimisations applied.

    The highest level rearranges convolutions for this CPU's vectors; convolutional models then run
    almost twice as fast as from the portable levels, and reload unchanged.
    """

    kind: Literal["onnxruntime"] = "onnxruntime"

    def stamp(self) -> dict[str, str]:
        """See `Target.stamp`."""
        return stamp(f"onnxruntime {onnxruntime().__version__}")

    def compile(
        self,
        model: Path,
        directory: Path,
        interface: Interface,  # noqa: ARG002 - every datatype is computed as it is
        threads: int,
    ) -> EngineEntry:
        """See `Target.compile`."""
        library, path = onnxruntime(), directory / "engine.ort"
        options = session_options(threads)
        options.graph_optimization_level = library.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.optimized_model_filepath = str(path)
        options.add_session_config_entry("session.save_model_format", "ORT")
        try:
            library.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's errors share no base class
            raise refused("ONNX Runtime", error) from error
        return engine_entry(self.kind, path, self.stamp())
