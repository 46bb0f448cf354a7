"""ONNX Runtime on the CPU.

Knows: how the ORT format is loaded and run, and that the library's strings are Unicode text. Rules: never
ONNX; outputs stay valid after the next run; bytes that are no UTF-8 are refused, never replaced.
Leaves to others: compiling (`compiler.targets`), and keeping the library silent (`libraries`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from appliance.errors import EngineLoad, RequestError
from appliance.manifest import Precision
from appliance.tensors import Array, DataType, Interface
from runtime.engines.libraries import cores, onnxruntime
from runtime.engines.loading import check_tensors, existing, failed, unloadable
from runtime.engines.stamp import PORTABLE

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
    "tensor(string)": DataType.BYTES,
}


class OnnxRuntimeEngine:
    """A session of ONNX Runtime."""

    kind: ClassVar[str] = "onnxruntime"
    resting: ClassVar[bool] = False

    def __init__(self, session: Any, interface: Interface) -> None:
        """Take an open session; EngineLoad when it does not have `interface`."""
        self._session = session
        self._outputs = [spec.name for spec in interface.outputs]
        self._texts = [s.name for s in interface.inputs if s.datatype is DataType.BYTES]
        self._text_outputs = [s.name for s in interface.outputs if s.datatype is DataType.BYTES]
        self.interface = interface
        for wanted, found in (
            (interface.inputs, session.get_inputs()),
            (interface.outputs, session.get_outputs()),
        ):
            types = {item.name: _ORT_TYPES.get(item.type) for item in found}
            check_tensors(wanted, types, count=len(found))

    @classmethod
    def load(
        cls,
        path: Path,
        interface: Interface,
        threads: int,
        precision: Precision,  # noqa: ARG003 - the file's own types say it
        lanes: int = 1,
    ) -> "OnnxRuntimeEngine":
        """Load an ORT format file. Raises EngineLoad."""
        # A run computes on its own thread and on those of the session, which the lanes share.
        options = session_options((cores(threads) - 1) * lanes + 1)
        options.add_session_config_entry("session.load_model_format", "ORT")
        try:
            session = onnxruntime().InferenceSession(
                str(existing(path)), options, providers=["CPUExecutionProvider"]
            )
        except EngineLoad:
            raise
        except Exception as error:  # the library's errors share no base class
            raise unloadable(path, "ONNX Runtime", error) from error
        return cls(session, interface)

    def lane(self) -> "OnnxRuntimeEngine":
        """The same session: it may be run from several threads at a time."""
        return type(self)(self._session, self.interface)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs; see `Engine.run`. RequestError for BYTES that are no UTF-8 text."""
        fed = dict(inputs)
        for name in self._texts:
            fed[name] = _decoded(name, fed[name])
        try:
            results = self._session.run(self._outputs, fed)
        except Exception as error:  # as in load
            raise failed("ONNX Runtime", error) from error
        outputs = dict(zip(self._outputs, results, strict=True))
        for name in self._text_outputs:
            outputs[name] = _objects([item.encode() for item in outputs[name].flat], outputs[name])
        return outputs

    def close(self) -> None:
        """Free the session."""
        self._session = None


class PortableEngine(OnnxRuntimeEngine):
    """A session over a file that holds on any processor; the library brings its own kernels for this one."""

    kind: ClassVar[str] = PORTABLE


def _decoded(name: str, array: Array) -> Array:
    """An object array of `bytes` as one of `str`."""
    try:
        return _objects([item.decode() for item in array.flat], array)
    except UnicodeDecodeError as error:
        raise RequestError(
            f"input '{name}' holds bytes that are not UTF-8 text: {error.reason}",
            remedy="send text encoded as UTF-8",
        ) from error


def _objects(items: list[Any], like: Array) -> Array:
    """An object array of `items`, of the shape of `like`."""
    flat = np.empty(len(items), np.object_)
    flat[:] = items
    return flat.reshape(like.shape)


def session_options(threads: int) -> Any:
    """Options common to every session of ONNX Runtime: threads that sleep when idle, no log lines."""
    options = onnxruntime().SessionOptions()
    options.intra_op_num_threads = cores(threads)
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def plain_options() -> Any:
    """Options of a session that gives equal bytes for equal rows: one thread, nothing optimised."""
    options = session_options(1)
    options.graph_optimization_level = onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL
    options.use_deterministic_compute = True
    return options
