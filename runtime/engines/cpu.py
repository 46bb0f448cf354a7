"""The CPU engines: ONNX Runtime and OpenVINO.

Knows: how each library loads its own compiled form and runs it. Rules: the ORT format and the exported
blob are loaded, never ONNX; arithmetic is float32 as compiled; outputs stay valid after the next run.
Leaves to others: compiling (`compiler.targets`), and keeping the libraries silent (`libraries`).
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from appliance.errors import EngineError, EngineLoad
from appliance.tensors import Array, DataType, Interface, TensorSpec, datatype_of
from runtime.engines.libraries import cores, onnxruntime, openvino

_ORT_TYPES = {
    "tensor(bool)": DataType.BOOL,
    "tensor(uint8)": DataType.UINT8,
    "tensor(uint16)": DataType.UINT16,
    "tensor(uint32)": DataType.UINT32,
    "tensor(uint64)": DataType.UINT64,
    "tensor(int8)": DataType.INT8,
    "tensor(int16)": DataType.INT16,
    "tensor(int32)": DataType.INT32,
    "tensor(int64)": DataType.INT64,
    "tensor(float16)": DataType.FP16,
    "tensor(float)": DataType.FP32,
    "tensor(double)": DataType.FP64,
}


class OnnxRuntimeEngine:
    """A session of ONNX Runtime."""

    kind: ClassVar[str] = "onnxruntime"

    def __init__(self, session: Any, interface: Interface) -> None:
        """Take an open session; EngineLoad when it does not have `interface`."""
        self._session = session
        self._outputs = [spec.name for spec in interface.outputs]
        self.interface = interface
        for wanted, found in (
            (interface.inputs, session.get_inputs()),
            (interface.outputs, session.get_outputs()),
        ):
            types = {item.name: _ORT_TYPES.get(item.type) for item in found}
            _check_tensors(wanted, types, count=len(found))

    @classmethod
    def load(cls, path: Path, interface: Interface, threads: int) -> "OnnxRuntimeEngine":
        """Load an ORT format file. Raises EngineLoad."""
        options = session_options(threads)
        options.add_session_config_entry("session.load_model_format", "ORT")
        try:
            session = onnxruntime().InferenceSession(
                str(_existing(path)), options, providers=["CPUExecutionProvider"]
            )
        except EngineLoad:
            raise
        except Exception as error:  # the library's errors share no base class
            raise _unloadable(path, "ONNX Runtime", error) from error
        return cls(session, interface)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs; see `Engine.run`."""
        try:
            results = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # as in load
            raise _failed("ONNX Runtime", error) from error
        return dict(zip(self._outputs, results, strict=True))

    def close(self) -> None:
        """Free the session."""
        self._session = None


class OpenVinoEngine:
    """A compiled model of OpenVINO's CPU plugin with one infer request."""

    kind: ClassVar[str] = "openvino"

    def __init__(self, compiled: Any, interface: Interface, blob: Array | None = None) -> None:
        """Take a compiled model; EngineLoad when it does not have `interface`.

        `blob` is the memory that the model was imported from, which must live as long as it does.
        """
        self._blob = blob
        self._request = compiled.create_infer_request()
        self._inputs = _positions(compiled.inputs, interface.inputs)
        self._outputs = _positions(compiled.outputs, interface.outputs)
        self.interface = interface

    @classmethod
    def load(cls, path: Path, interface: Interface, threads: int) -> "OpenVinoEngine":
        """Import an exported blob. Raises EngineLoad, also for another CPU or library version."""
        try:
            data = np.fromfile(_existing(path), np.uint8)
            compiled = core().import_model(
                openvino().Tensor(data, shared_memory=True), "CPU", compile_options(threads)
            )
            return cls(compiled, interface, data)
        except EngineLoad:
            raise
        except Exception as error:  # RuntimeError, but UnicodeDecodeError was seen too
            raise _unloadable(path, "OpenVINO", error) from error

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs; see `Engine.run`."""
        tensor, request = openvino().Tensor, self._request
        try:
            # Tensors set by position and read back cost 90 us less a call than infer(dict), which
            # would also cast a wrong dtype silently.
            arrays = [_shareable(inputs[name]) for name in self._inputs]
            for position, array in zip(self._inputs.values(), arrays, strict=True):
                request.set_input_tensor(position, tensor(array, shared_memory=True))
            request.infer()
            return {
                name: request.get_output_tensor(position).data.copy()
                for name, position in self._outputs.items()
            }
        except Exception as error:  # as in load
            raise _failed("OpenVINO", error) from error

    def close(self) -> None:
        """Free the request and with it the compiled model."""
        self._request = self._blob = None


def session_options(threads: int) -> Any:
    """Options common to every session of ONNX Runtime: threads that sleep when idle, no log lines."""
    options = onnxruntime().SessionOptions()
    options.intra_op_num_threads = cores(threads)
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


@cache
def core() -> Any:
    """This process's one OpenVINO core."""
    return openvino().Core()


def compile_options(threads: int) -> dict[str, object]:
    """Options to compile and to import with.

    The precision is pinned in both: a blob compiled as f32 runs as bf16 on AMX machines when it is
    imported without the hint.
    """
    return {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": cores(threads),
        "ENABLE_CPU_PINNING": False,
    }


def _positions(ports: list[Any], wanted: tuple[TensorSpec, ...]) -> dict[str, int]:
    """Where each wanted tensor is among `ports`; one port may carry several names."""
    found = {name: at for at, port in enumerate(ports) for name in port.get_names()}
    types = {name: datatype_of(ports[at].element_type.to_dtype()) for name, at in found.items()}
    _check_tensors(wanted, types, count=len(ports))
    return {spec.name: found[spec.name] for spec in wanted}


def _check_tensors(
    wanted: tuple[TensorSpec, ...], found: Mapping[str, DataType | None], *, count: int
) -> None:
    same = all(found.get(spec.name) is spec.datatype for spec in wanted)
    if not same or count != len(wanted):
        raise EngineLoad(
            f"the engine has {dict(found)}, "
            f"the version says { {spec.name: spec.datatype for spec in wanted} }",
            remedy="build the bundle again: this engine belongs to another model",
        )


def _shareable(array: Array) -> Array:
    """The array itself if a library may use its memory: C order, aligned and writeable; else a copy."""
    return array if array.flags.carray else array.copy(order="C")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise EngineLoad(f"no engine file {path}", remedy="build the bundle again")
    return path


def _unloadable(path: Path, library: str, error: Exception) -> EngineLoad:
    return EngineLoad(
        f"{library} cannot load {path}: {_first_lines(error)}",
        remedy="build the bundle again on this box; an engine fits only what it was built on",
    )


def _failed(library: str, error: Exception) -> EngineError:
    return EngineError(
        f"{library} failed: {_first_lines(error)}",
        remedy="check the request's values and shapes against the model's metadata",
    )


def _first_lines(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"...{text[-300:]}"
