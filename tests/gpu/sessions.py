"""A stand-in for TensorRT: plans are models in ONNX Runtime's own format, run over the fake GPU's memory.

Knows: what an Execution promises. Rules: a run is one launch on the lane's stream, so that it takes its turn, is captured and
is replayed as TensorRT's would be; activation memory is asked for and used, so that a wrong lender shows.
"""

import os
from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np

from runtime.gpu.device import Address, Device, Int32
from tests.gpu.fake_kernels import Launched, illegal, module_image

SCRATCH = 4096  # bytes of activations
SILENT = 3  # errors only
BREAKS = "HOLDFAST_TEST_BREAKS"  # a row of nothing but larger numbers than this breaks the GPU

_contexts: dict[int, "SessionContext"] = {}
_numbers = count(1)


def open_sessions(device: Device, plan: Any, _header: Any) -> "SessionExecution":
    """See `runtime.gpu.execution.open_execution`."""
    return SessionExecution(device, bytes(plan))


class SessionExecution:
    """A session; see Execution."""

    resident_bytes = 1 << 20
    activation_bytes = SCRATCH

    def __init__(self, device: Device, plan: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = SILENT
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.load_model_format", "ORT")
        self.session = onnxruntime.InferenceSession(
            plan, options, providers=["CPUExecutionProvider"]
        )
        self._device = device
        self._memory = device.allocate(self.resident_bytes)
        self._module = device.load(module_image({"session": "tests.gpu.sessions:run_session"}))
        self._function = device.function(self._module, "session")
        self._dtypes = {node.name: _dtype(node.type) for node in self.session.get_inputs()}

    def shapes(self, inputs: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """What comes out of zeros."""
        outputs = self.run({n: np.zeros(s, self._dtypes[n]) for n, s in inputs.items()})
        return {name: array.shape for name, array in outputs.items()}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [node.name for node in self.session.get_outputs()]
        found = self.session.run(names, {**inputs})
        return dict(zip(names, found, strict=True))

    def context(self, inputs: Mapping[str, tuple[int, ...]]) -> "SessionContext":
        """See Execution."""
        return SessionContext(self, dict(inputs))

    def inputs(
        self, shapes: Mapping[str, tuple[int, ...]]
    ) -> list[tuple[str, Any, tuple[int, ...]]]:
        return [(name, self._dtypes[name], shape) for name, shape in shapes.items()]

    def launch(self, arguments: tuple[Any, ...], stream: int) -> None:
        one = (1, 1, 1)
        self._device.launch(self._function, one, one, arguments, stream)

    def close(self) -> None:
        """See Execution."""
        self._device.unload(self._module)
        self._device.free(self._memory)


class SessionContext:
    """See Context."""

    activation_bytes = SCRATCH

    def __init__(self, execution: SessionExecution, shapes: dict[str, tuple[int, ...]]) -> None:
        self.execution, self.shapes = execution, shapes
        self.outputs = sorted(execution.shapes(shapes).items())
        self.number = next(_numbers)
        _contexts[self.number] = self
        self._lent = 0

    def lend(self, memory: int, size: int) -> None:
        """See Context."""
        assert size >= SCRATCH
        self._lent = memory

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        """See Context."""
        places = [addresses[name] for name in (*self.shapes, *(name for name, _ in self.outputs))]
        arguments = (Int32(self.number), Address(self._lent), *map(Address, places))
        self.execution.launch(arguments, stream)

    def close(self) -> None:
        """See Context."""
        del _contexts[self.number]


def run_session(launched: Launched) -> None:
    """The launch: inputs from the device's memory, the session, outputs to it."""
    context = _contexts[int(launched.number(0))]
    launched.array(1, np.uint8, SCRATCH).fill(0xEE)
    inputs, at = {}, 2
    for name, dtype, shape in context.execution.inputs(context.shapes):
        inputs[name] = launched.array(at, dtype, shape).copy()
        at += 1
    breaks = os.environ.get(BREAKS)
    for array in inputs.values() if breaks else ():
        if (array.reshape(len(array), -1).min(axis=1) > float(breaks)).any():
            illegal(launched)
    outputs = context.execution.run(inputs)
    for name, shape in context.outputs:
        launched.array(at, outputs[name].dtype, shape)[...] = outputs[name]
        at += 1


def _dtype(told: str) -> Any:
    names = {"float": "float32", "double": "float64"}
    word = told.removeprefix("tensor(").removesuffix(")")
    return np.dtype(names.get(word, word))
