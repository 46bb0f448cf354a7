"""A stand-in for TensorRT in the checks: one dense layer, computed by a kernel of ours.

Knows: a plan that holds a matrix and the module with the kernel. Rules: it is what `runtime.gpu.execution` promises, so that all around it is the
real thing. Leaves to others: the element-wise stand-in (`tests.gpu.standin`), the kernels (`kernels`).
"""

import ctypes
from collections.abc import Mapping
from typing import Any

import msgspec

from appliance.errors import GpuError
from runtime.gpu.device import Address, Device, Int32, Pointer
from tests.hardware.checks.kernels import DENSE

BLOCK = 128


class DensePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A matrix, FP32 (inputs, outputs), its bias (outputs,), and the names of the engine's tensors."""

    image: bytes
    feeds: str
    gives: str
    inputs: int
    outputs: int
    weights: bytes
    bias: bytes


def open_dense(device: Device, plan: bytes, _header: Any) -> "DenseExecution":
    """See `runtime.gpu.execution.open_execution`."""
    return DenseExecution(device, msgspec.msgpack.decode(plan, type=DensePlan))


class DenseExecution:
    """See Execution."""

    activation_bytes = 0

    def __init__(self, device: Device, plan: DensePlan) -> None:
        self.device, self.plan = device, plan
        self.resident_bytes = len(plan.weights) + len(plan.bias)
        self.weights, self.bias = _placed(device, plan.weights), _placed(device, plan.bias)
        self._module = device.load(plan.image)
        self.kernel = device.function(self._module, DENSE)

    def shapes(self, inputs: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        shape = inputs[self.plan.feeds]
        values = 1
        for size in shape[1:]:
            values *= size
        if values != self.plan.inputs:
            raise GpuError(f"the engine takes no {shape}", remedy="send others")
        return {self.plan.gives: (shape[0], self.plan.outputs)}

    def context(self, inputs: Mapping[str, tuple[int, ...]]) -> "DenseContext":
        rows, _ = self.shapes(inputs)[self.plan.gives]
        return DenseContext(self, rows)

    def close(self) -> None:
        self.device.unload(self._module)
        self.device.free(self.weights)
        self.device.free(self.bias)


class DenseContext:
    """See Context."""

    activation_bytes = 0

    def __init__(self, execution: DenseExecution, rows: int) -> None:
        self._execution, self._rows = execution, rows

    def lend(self, _memory: Pointer, _size: int) -> None:
        """Nothing is needed."""

    def enqueue(self, addresses: Mapping[str, Pointer], stream: int) -> None:
        execution, plan = self._execution, self._execution.plan
        values = (
            Address(addresses[plan.gives]),
            Address(addresses[plan.feeds]),
            Address(execution.weights),
            Address(execution.bias),
            Int32(self._rows),
            Int32(plan.inputs),
            Int32(plan.outputs),
        )
        blocks = -(-self._rows * plan.outputs // BLOCK)
        execution.device.launch(execution.kernel, (blocks, 1, 1), (BLOCK, 1, 1), values, stream)

    def close(self) -> None:
        """Nothing is held."""


def _placed(device: Device, data: bytes) -> Pointer:
    """Bytes on the device."""
    pointer, stream = device.allocate(len(data)), device.stream()
    host = ctypes.create_string_buffer(data, len(data))
    device.copy_in(pointer, ctypes.addressof(host), len(data), stream)
    device.synchronise(stream)
    device.drop_stream(stream)
    return pointer
