"""The OpenVINO target: a blob exported by the CPU plugin.

Knows: how the library writes its compiled form, and what it computes in fewer bits. Rules: what would be
narrowed is refused. Leaves to others: loading and options in common (`runtime.engines.openvino_cpu`).
"""

from pathlib import Path
from typing import Literal

from appliance.errors import EngineBuild, SourceError
from appliance.files import write_file
from appliance.store import EngineEntry
from appliance.tensors import DataType, Interface
from compiler.targets.target import engine_entry, refused, stamp
from runtime.engines.libraries import openvino
from runtime.engines.openvino_cpu import compile_options, core

_NAMED_MAX = 5  # tensors that a message names
_NARROWED = (DataType.INT64, DataType.UINT64, DataType.UINT32, DataType.FP64)


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
            raise refused("OpenVINO", error) from error
        write_file(path, blob)
        return engine_entry(self.kind, path, self.stamp())


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
        raise refused("OpenVINO", error) from error
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
