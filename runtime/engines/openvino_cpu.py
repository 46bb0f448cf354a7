"""OpenVINO on the CPU.

Knows: how an exported blob is imported and run. Rules: never ONNX; arithmetic as compiled; outputs stay
valid after the next run. Leaves to others: compiling (`compiler.targets`), and keeping the library silent
(`libraries`).
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from appliance.errors import EngineLoad
from appliance.manifest import Precision
from appliance.tensors import Array, Interface, TensorSpec, datatype_of
from runtime.engines.libraries import cores, openvino
from runtime.engines.loading import check_tensors, existing, failed, unloadable


class OpenVinoEngine:
    """One infer request of a model that OpenVINO's CPU plugin compiled."""

    kind: ClassVar[str] = "openvino"
    resting: ClassVar[bool] = False

    def __init__(self, model: "_Imported") -> None:
        """Take one of the model's requests that nobody has."""
        self._request = model.spare.pop()
        self._model: Any = model
        self.interface = model.interface

    @classmethod
    def load(
        cls, path: Path, interface: Interface, threads: int, precision: Precision, lanes: int = 1
    ) -> "OpenVinoEngine":
        """Import an exported blob. Raises EngineLoad, also for another CPU or library version."""
        data = np.fromfile(existing(path), np.uint8)
        return cls(_Imported(path, data, interface, compile_options(threads, precision), lanes))

    def lane(self) -> "OpenVinoEngine":
        """Another request of the same model; when all have been given, of the same blob imported again.

        For a model has one stream a lane, and in another's a request would wait for a call that hangs.
        """
        try:
            return OpenVinoEngine(self._model)
        except IndexError:
            return OpenVinoEngine(self._model.again())

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs; see `Engine.run`."""
        # Held here, so that `close` from another thread takes no memory from under a call that hung.
        tensor, model, request = openvino().Tensor, self._model, self._request
        try:
            # Tensors set by position and read back cost 90 us less a call than infer(dict), which
            # would also cast a wrong dtype silently.
            arrays = [_shareable(inputs[name]) for name in model.inputs]
            for position, array in zip(model.inputs.values(), arrays, strict=True):
                request.set_input_tensor(position, tensor(array, shared_memory=True))
            request.infer()
            return {
                name: request.get_output_tensor(position).data.copy()
                for name, position in model.outputs.items()
            }
        except Exception as error:  # as in load
            raise failed("OpenVINO", error) from error

    def close(self) -> None:
        """Free the request; with the last of them goes the compiled model."""
        self._request = self._model = None


class _Imported:
    """A compiled model, the memory that it was imported from, and its requests that nobody has yet."""

    def __init__(
        self, path: Path, blob: Array, interface: Interface, options: dict[str, object], lanes: int
    ) -> None:
        """Import `blob`, read from `path`, with a stream a lane; raises EngineLoad."""
        # The blob must live as long as the model does.
        self._path, self._blob, self._options = path, blob, options
        self.interface = interface
        try:
            compiled = core().import_model(
                openvino().Tensor(blob, shared_memory=True), "CPU", _streams(options, lanes)
            )
            self.inputs = _positions(compiled.inputs, interface.inputs)
            self.outputs = _positions(compiled.outputs, interface.outputs)
            self.spare = [compiled.create_infer_request() for _ in range(lanes)]
        except EngineLoad:
            raise
        except Exception as error:  # RuntimeError, but UnicodeDecodeError was seen too
            raise unloadable(path, "OpenVINO", error) from error

    def again(self) -> "_Imported":
        """The same for one further lane."""
        return _Imported(self._path, self._blob, self.interface, self._options, 1)


@cache
def core() -> Any:
    """This process's one OpenVINO core."""
    return openvino().Core()


def compile_options(threads: int, precision: Precision) -> dict[str, object]:
    """Options to compile and to import with, for one stream.

    The precision is pinned in both: a blob compiled as f32 runs as bf16 on AMX machines when it is
    imported without the hint. With f32 the plugin computes the graph's own types, bf16 and int8
    included; only fp16 it takes for compressed weights, unless it is told to compute in it.
    """
    return {
        "INFERENCE_PRECISION_HINT": "f16" if precision is Precision.FP16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": cores(threads),
        "ENABLE_CPU_PINNING": False,
    }


def _streams(options: dict[str, object], lanes: int) -> dict[str, object]:
    """The options for as many streams: requests run side by side in different ones only."""
    threads = cast("int", options["INFERENCE_NUM_THREADS"])
    return options | {"NUM_STREAMS": lanes, "INFERENCE_NUM_THREADS": threads * lanes}


def _positions(ports: list[Any], wanted: tuple[TensorSpec, ...]) -> dict[str, int]:
    """Where each wanted tensor is among `ports`; one port may carry several names."""
    found = {name: at for at, port in enumerate(ports) for name in port.get_names()}
    types = {name: datatype_of(ports[at].element_type.to_dtype()) for name, at in found.items()}
    check_tensors(wanted, types, count=len(ports))
    return {spec.name: found[spec.name] for spec in wanted}


def _shareable(array: Array) -> Array:
    """The array itself if a library may use its memory: C order, aligned and writeable; else a copy."""
    return array if array.flags.carray else array.copy(order="C")
