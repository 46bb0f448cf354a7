"""OpenVINO on the CPU.

Knows: how an exported blob is imported and run. Rules: never ONNX; arithmetic as compiled; outputs stay
valid after the next run. Leaves to others: compiling (`compiler.targets`), and keeping the library silent
(`libraries`).
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from appliance.errors import EngineLoad
from appliance.manifest import Precision
from appliance.tensors import Array, Interface, TensorSpec, datatype_of
from runtime.engines.libraries import cores, openvino
from runtime.engines.loading import check_tensors, existing, failed, unloadable


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
    def load(
        cls, path: Path, interface: Interface, threads: int, precision: Precision
    ) -> "OpenVinoEngine":
        """Import an exported blob. Raises EngineLoad, also for another CPU or library version."""
        try:
            data = np.fromfile(existing(path), np.uint8)
            compiled = core().import_model(
                openvino().Tensor(data, shared_memory=True),
                "CPU",
                compile_options(threads, precision),
            )
            return cls(compiled, interface, data)
        except EngineLoad:
            raise
        except Exception as error:  # RuntimeError, but UnicodeDecodeError was seen too
            raise unloadable(path, "OpenVINO", error) from error

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
            raise failed("OpenVINO", error) from error

    def close(self) -> None:
        """Free the request and with it the compiled model."""
        self._request = self._blob = None


@cache
def core() -> Any:
    """This process's one OpenVINO core."""
    return openvino().Core()


def compile_options(threads: int, precision: Precision) -> dict[str, object]:
    """Options to compile and to import with.

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


def _positions(ports: list[Any], wanted: tuple[TensorSpec, ...]) -> dict[str, int]:
    """Where each wanted tensor is among `ports`; one port may carry several names."""
    found = {name: at for at, port in enumerate(ports) for name in port.get_names()}
    types = {name: datatype_of(ports[at].element_type.to_dtype()) for name, at in found.items()}
    check_tensors(wanted, types, count=len(ports))
    return {spec.name: found[spec.name] for spec in wanted}


def _shareable(array: Array) -> Array:
    """The array itself if a library may use its memory: C order, aligned and writeable; else a copy."""
    return array if array.flags.carray else array.copy(order="C")
