"""A stand-in for TensorRT: an engine made of kernels of our own.

Knows: a plan that is a list of layers. Rules: it runs wherever a Device is, over the fake as over a real GPU, given
kernels that compute on both; activations go through the memory that the lane lends. Leaves to others: the kernels:
`tests.gpu.standin_kernels` for the fake, `tests.hardware.checks` for a GPU.

A plan is msgpack of `Plan`. Its one input "x" is FP32 (rows, width); every layer but the last writes to activation memory; the output
"y" is FP32 (rows, width). A layer is `out = scale * in + shift`, by element; `broken_at` says for which first value of the input
the layer makes an illegal access instead.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from appliance.errors import EngineLoad, GpuError
from runtime.gpu.device import Address, Device, Float32, Int32
from runtime.gpu.engine_file import Compiled, write_engine_file

LAYER = "standin_layer"
BLOCK = 128


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """See the module. `image` is the module with the kernel LAYER, `resident` more bytes that the weights take."""

    image: bytes
    width: int
    layers: tuple[tuple[float, float], ...]
    rows_max: int = 64
    broken_at: float = -1e30
    resident: int = 0


def open_execution(device: Device, plan: bytes, _header: Any) -> "StandinExecution":
    """See `runtime.gpu.execution.open_execution`."""
    try:
        told = msgspec.msgpack.decode(plan, type=Plan)
    except msgspec.DecodeError as error:
        raise EngineLoad(f"no plan of the stand-in: {error}", remedy="write one") from error
    return StandinExecution(device, told)


class StandinExecution:
    """See Execution."""

    def __init__(self, device: Device, plan: Plan) -> None:
        self._device, self.plan = device, plan
        self.resident_bytes = plan.resident
        self.activation_bytes = 2 * plan.rows_max * plan.width * 4
        self._weights = device.allocate(plan.resident) if plan.resident else 0
        self._module = device.load(plan.image)
        self.layer = device.function(self._module, LAYER)

    def shapes(self, inputs: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        shape = tuple(inputs.get("x", ()))
        if len(shape) != 2 or shape[1] != self.plan.width or shape[0] > self.plan.rows_max:
            raise GpuError(f"the engine was not built for {dict(inputs)}", remedy="send others")
        return {"y": shape}

    def context(self, inputs: Mapping[str, tuple[int, ...]]) -> "StandinContext":
        return StandinContext(self._device, self, self.shapes(inputs)["y"])

    def close(self) -> None:
        self._device.unload(self._module)
        if self._weights:
            self._device.free(self._weights)


class StandinContext:
    """See Context."""

    def __init__(self, device: Device, execution: StandinExecution, shape: tuple[int, ...]) -> None:
        self._device, self._execution = device, execution
        self._count = shape[0] * shape[1]
        self.activation_bytes = 2 * self._count * 4 if len(execution.plan.layers) > 1 else 0
        self._lent = 0

    def lend(self, memory: int, size: int) -> None:
        assert size >= self.activation_bytes
        self._lent = memory

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        plan, source = self._execution.plan, addresses["x"]
        for number, (scale, shift) in enumerate(plan.layers):
            last = number == len(plan.layers) - 1
            # Two halves of the lent memory by turns: a layer never reads what it writes.
            to = addresses["y"] if last else self._lent + (number % 2) * self._count * 4
            assert to, "activation memory was not lent"
            arguments = (
                Address(to),
                Address(source),
                Int32(self._count),
                Float32(scale),
                Float32(shift),
                Float32(plan.broken_at),
            )
            blocks = -(-self._count // BLOCK)
            layer = self._execution.layer
            self._device.launch(layer, (blocks, 1, 1), (BLOCK, 1, 1), arguments, stream)
            source = to

    def close(self) -> None:
        self._lent = 0


def write_standin(
    path: Path,
    plan: Plan,
    *,
    module: bytes = b"",
    compiled: Sequence[Compiled] = (),
    kernels: Sequence[str] = (),
    **told: Any,
) -> None:
    """An engine file of `plan` with the recipe's `kernels`, `compiled` or in `module`, an image for any GPU."""
    modules = [*compiled, *([Compiled("ptx", (1, 0), module)] if module else [])]
    write_engine_file(
        path,
        plan=msgspec.msgpack.encode(plan),
        modules=modules,
        kernels=tuple(kernels),
        stamp=told.pop("stamp", {"standin": "1"}),
        **told,
    )
