"""CPU targets: ONNX Runtime's ORT format and OpenVINO's exported blob.

Knows: how each library writes its compiled form. Rules: float32 as in the model; optimised for this very
CPU, since the file never leaves it. Leaves to others: loading and options in common
(`runtime.engines.cpu`).
"""

from pathlib import Path
from typing import Literal

from appliance.errors import EngineBuild, SourceError
from appliance.files import sha256_file, write_file
from appliance.store import EngineEntry
from appliance.tensors import DataType, Interface
from compiler.targets.target import stamp
from runtime.engines.cpu import compile_options, core, session_options
from runtime.engines.libraries import onnxruntime, openvino

_NAMED_MAX = 5  # tensors that a message names
_NARROWED = (DataType.INT64, DataType.UINT64, DataType.UINT32, DataType.FP64)


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
            raise _refused("ONNX Runtime", error) from error
        return _entry(self.kind, path, self.stamp())


class OpenVinoTarget:
    """Writes `engine.blob`, compiled by OpenVINO's CPU plugin.

    The plugin computes 64-bit integers in 32 bits and doubles as floats without a word, so that large
    values come out wrong: models that take or give such tensors, or compute one from their inputs'
    values on the way, are refused.
    """

    kind: Literal["openvino"] = "openvino"

    def stamp(self) -> dict[str, str]:
        """See `Target.stamp`."""
        return stamp(f"openvino {openvino().__version__}")

    def compile(
        self, model: Path, directory: Path, interface: Interface, threads: int
    ) -> EngineEntry:
        """See `Target.compile`."""
        _check_widths(interface)
        _check_computed(model)
        path = directory / "engine.blob"
        try:
            compiled = core().compile_model(
                core().read_model(str(model)), "CPU", compile_options(threads)
            )
            blob = compiled.export_model().getvalue()
        except Exception as error:  # as above
            raise _refused("OpenVINO", error) from error
        write_file(path, blob)
        return _entry(self.kind, path, self.stamp())


def _check_widths(interface: Interface) -> None:
    narrowed = [
        f"'{spec.name}' {spec.datatype}"
        for spec in (*interface.inputs, *interface.outputs)
        if spec.datatype in _NARROWED
    ]
    if narrowed:
        raise EngineBuild(
            f"OpenVINO computes {', '.join(narrowed)} in fewer bits",
            remedy="cast to INT32 or FP32 in the model if the values allow it",
        )


def _check_computed(model: Path) -> None:
    """Refuse wide tensors inside the graph, and those of unknown type, which may be wide."""
    # onnx is imported where something is compiled, not where the targets are only listed.
    from compiler.graph import computed_tensors  # noqa: PLC0415
    from compiler.source import open_source  # noqa: PLC0415

    try:
        computed = list(computed_tensors(open_source(model)))
    except SourceError as error:
        raise _refused("OpenVINO", error) from error
    narrowed = [
        f"'{name}' {kind or 'of unknown type'}"
        for name, kind in computed
        if kind is None or kind in _NARROWED
    ]
    if narrowed:
        raise EngineBuild(
            f"OpenVINO may compute {', '.join(narrowed[:_NAMED_MAX])} inside the model in fewer bits",
            remedy="cast to INT32 or FP32 in the model if the values allow it",
        )


def _entry(
    kind: Literal["onnxruntime", "openvino"], path: Path, made_with: dict[str, str]
) -> EngineEntry:
    return EngineEntry(kind=kind, file=path.name, sha256=sha256_file(path), stamp=made_with)


def _refused(library: str, error: Exception) -> EngineBuild:
    text = " ".join(str(error).split())
    return EngineBuild(
        f"{library} cannot compile the model: {text[-300:]}",
        remedy="export the model with the operators that the engine supports",
    )
