"""The OpenVINO target: a blob exported by the CPU plugin.

Knows: how the library writes its compiled form, which operators it converts, and what it computes in
fewer bits. Rules: what would be narrowed, or read outside of an axis, is refused, or checked at every call
where it is an input; the graph's own types say what is computed in what.
Leaves to others: loading and options in common (`runtime.engines.openvino_cpu`).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from appliance.files import write_file
from appliance.manifest import Precision
from appliance.store import EngineEntry
from appliance.tensors import DataType, Interface, TensorSpec
from compiler.targets.target import Refusal, engine_entry, failed, refuse
from runtime.engines import stamp_of
from runtime.engines.openvino_cpu import compile_options, core

if TYPE_CHECKING:
    from compiler.opening.integers import Integers
    from compiler.opening.source import Source
    from compiler.precision.arithmetic import Computed

_LIBRARY = "OpenVINO"
_NARROWED = frozenset({"UINT64", "UINT32", "FP64", "DOUBLE"})
_INT32 = (-(2**31), 2**31 - 1)
_TEXT = frozenset({"BYTES", "STRING"})
_CAPABILITIES = {Precision.FP16: "FP16", Precision.BF16: "BF16", Precision.INT8: "INT8"}
# Of the plugin's runtime model (OpenVINO, "Runtime model"): its names for layers and number types.
_LAYERS = frozenset(
    {"Convolution", "Deconvolution", "FullyConnected", "MatMul", "ScaledDotProductAttention"}
)
_FUSED = "Subgraph"
_ARITHMETIC = {
    "f32": Precision.FP32,
    "f16": Precision.FP16,
    "bf16": Precision.BF16,
    "i8": Precision.INT8,
    "u8": Precision.INT8,
}


class OpenVinoTarget:
    """Writes `engine.PRECISION.blob`, compiled by OpenVINO's CPU plugin.

    The plugin computes 64-bit integers in 32 bits and doubles as floats without a word, so that large
    values come out wrong, and reads zeros at positions outside of an axis, where ONNX wants an error.
    Doubles and wide unsigned integers are refused. INT64 inputs are taken within 32 bits, and those that
    are positions within their table, which is checked at every call; what is computed from them must be
    known to stay within such bounds.
    """

    kind: Literal["openvino"] = "openvino"

    def stamp(self) -> dict[str, str]:
        """See `Target.stamp`."""
        return stamp_of(self.kind)

    def unable(self, precision: Precision) -> str | None:
        """See `Target.unable`."""
        wanted = _CAPABILITIES.get(precision)
        if wanted is None or wanted in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return None
        return f"{_LIBRARY} does not compute in {precision} on this CPU"

    def refusals(
        self,
        source: "Source",
        interface: Interface,
        precision: Precision,  # noqa: ARG002 - the same in each
    ) -> tuple[Refusal, ...]:
        """See `Target.refusals`: texts, and numbers of more bits than the plugin computes in."""
        # onnx is imported where something is compiled, not where the targets are only listed.
        from compiler.opening.graph import computed_tensors  # noqa: PLC0415
        from compiler.opening.integers import integers_in  # noqa: PLC0415

        served = [
            Refusal(node=spec.name, op=what, reason=_reason(spec.datatype))
            for what, specs in (("input", interface.inputs), ("output", interface.outputs))
            for spec in specs
            if _reason(spec.datatype)
        ]
        inside = [
            Refusal(node=item.node, op=item.op, reason=f"makes '{item.tensor}', which {reason}")
            for item in computed_tensors(source)
            if (reason := _reason(item.type))
        ]
        return (*served, *inside, *_refused_integers(integers_in(source), interface))

    def compile(
        self,
        source: "Source",
        directory: Path,
        interface: Interface,
        threads: int,
        precision: Precision,
    ) -> EngineEntry:
        """See `Target.compile`."""
        from compiler.opening.integers import integers_in  # noqa: PLC0415 - as above
        from compiler.precision.arithmetic import check_arithmetic  # noqa: PLC0415

        refuse(_LIBRARY, self.refusals(source, interface, precision))
        path = directory / f"engine.{precision}.blob"
        model = _converted(source)
        try:
            compiled = core().compile_model(model, "CPU", compile_options(threads, precision))
            found = _computed(compiled)
            blob = compiled.export_model().getvalue()
        except Exception as error:  # RuntimeError, but others were seen too
            raise failed(_LIBRARY, error) from error
        check_arithmetic(_LIBRARY, found, source, precision)
        write_file(path, blob)
        bounds = _wide_inputs(interface) | integers_in(source).bounds
        return engine_entry(self.kind, path, precision, bounds)


def _reason(datatype: str) -> str:
    """Why a tensor of this type is refused, by the protocol's name or ONNX's; empty when it is not."""
    if not datatype:
        return "is of unknown type and may be computed in fewer bits"
    if datatype in _TEXT:
        return "is text, which the CPU plugin does not compute with"
    return f"is {datatype} and would be computed in fewer bits" if datatype in _NARROWED else ""


def _wide_inputs(interface: Interface) -> dict[str, tuple[int, int]]:
    """What an INT64 input may hold, by name."""
    return {spec.name: _INT32 for spec in interface.inputs if spec.datatype is DataType.INT64}


def _refused_integers(found: "Integers", interface: Interface) -> Iterator[Refusal]:
    """What of the model's integers the plugin would compute otherwise than ONNX says."""
    for item in found.outgrowing:
        reason = (
            f"takes or makes '{item.tensor}', which is INT64 and would be computed in fewer bits"
        )
        yield Refusal(node=item.node, op=item.op, reason=reason)
    for node in found.unchecked:
        reason = "reads at computed positions, which the CPU plugin does not check"
        yield Refusal(node=node.name, op=node.op_type, reason=reason)
    if any(map(_has_endless_axis, interface.inputs)):
        for node in found.grown:
            reason = (
                "reads at positions that grow with an open axis: give it a range in [model.axes]"
            )
            yield Refusal(node=node.name, op=node.op_type, reason=reason)


def _has_endless_axis(spec: TensorSpec) -> bool:
    ranges = spec.ranges or (None,) * len(spec.shape)
    return any(axis == -1 and not given for axis, given in zip(spec.shape, ranges, strict=True))


def _converted(source: "Source") -> Any:
    """The model as the library's own. Raises EngineBuild naming the nodes that it does not convert."""
    try:
        return core().read_model(source.data)
    except Exception as error:  # as in compile
        refuse(_LIBRARY, _unconverted(source, str(error)))
        raise failed(_LIBRARY, error) from error


def _unconverted(source: "Source", report: str) -> list[Refusal]:
    """The nodes of the operators that the frontend's report lists ("Det-17, ai.onnx.ml.Scaler")."""
    listed = re.findall(r"(?:No conversion rule found for operations|failed for): (.+)", report)
    names = {
        item.strip().rsplit(".", 1)[-1].split("-")[0] for line in listed for item in line.split(",")
    }
    return [
        Refusal(node=node.name, op=node.op_type, reason="is not converted")
        for node in source.model.graph.node
        if node.op_type in names
    ]


def _computed(compiled: Any) -> "list[Computed]":
    """The layers that matter of the compiled model, and what each computes in."""
    from compiler.precision.arithmetic import Computed  # noqa: PLC0415 - as above

    found = []
    for layer in compiled.get_runtime_model().get_ops():
        told = layer.get_rt_info()
        kind, number = (told[key].astype(str) for key in ("layerType", "runtimePrecision"))
        name = told["originalLayersNames"].astype(str) if "originalLayersNames" in told else ""
        fused = kind == _FUSED and "matmul" in name.lower()
        if (kind in _LAYERS or fused) and number in _ARITHMETIC:
            found.append(Computed(operator=kind, name=name, precision=_ARITHMETIC[number]))
    return found
