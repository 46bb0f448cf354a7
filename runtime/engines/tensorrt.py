"""TensorRT on a GPU.

Knows: how a batch of arrays becomes a program of copies and one execution. Rules: never ONNX, and neither TensorRT nor
CUDA in this process: both live with the GPU's owner; a program is written once for each set of shapes and kept
for as long as it is among those used lately; outputs stay valid after the next run. Leaves to others: the owner
(`runtime.gpu`), compiling (`compiler.targets`), running the recipe on the GPU too (`runtime.fusing`).
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np

from appliance.manifest import Precision
from appliance.tensors import Array, DataType, Interface
from runtime.engines.loading import check_tensors, existing
from runtime.gpu import current
from runtime.gpu.engine_file import Header
from runtime.gpu.kept import Kept, Written
from runtime.gpu.opened import Lane
from runtime.gpu.writing import Draft, Window

Shapes: TypeAlias = tuple[tuple[int, ...], ...]  # of the inputs, in the interface's order


class _Sheet(NamedTuple):
    """Where a program's tensors lie in the slot, by name."""

    inputs: dict[str, Window]
    outputs: dict[str, Window]


class TensorRTEngine:
    """One lane of an engine that a GPU's owner holds."""

    kind: ClassVar[str] = "tensorrt"

    def __init__(self, held: "_Held") -> None:
        """Take a lane of its own of what is `held`."""
        self.interface = held.interface
        self._held, self.gpu_lane = held, held.lane()
        self._programs: Kept[Shapes, _Sheet] = Kept(self.gpu_lane, self._written)

    @classmethod
    def load(
        cls,
        path: Path,
        interface: Interface,
        threads: int,  # noqa: ARG003 - of the CPU, which computes nothing here
        precision: Precision,  # noqa: ARG003 - the plan's own types say it
        lanes: int = 1,  # noqa: ARG003 - each is made when it is asked for
    ) -> "TensorRTEngine":
        """Let the GPU's owner load an engine file. Raises EngineLoad or GpuError."""
        owned = current.gpus().load(existing(path))
        try:
            _check(owned.header, interface)
            return cls(_Held(owned, interface))
        except BaseException:
            owned.close()
            raise

    @property
    def header(self) -> Header:
        """What the engine file says of itself."""
        return self._held.owned.header

    @property
    def resting(self) -> bool:
        """See Engine."""
        return self.gpu_lane.resting

    def lane(self) -> "TensorRTEngine":
        """Another lane of the same engine. Raises GpuError when there is no room for it."""
        return TensorRTEngine(self._held)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs; see `Engine.run`. Raises GpuError, of which GpuLost says that the GPU broke."""
        shapes = tuple(inputs[spec.name].shape for spec in self.interface.inputs)
        number, sheet = self._programs.take(shapes)
        lane = self.gpu_lane
        slot = lane.slot
        for name, window in sheet.inputs.items():
            np.copyto(window.of(slot), inputs[name], casting="no")
        lane.run(number)
        return {name: window.of(slot).copy() for name, window in sheet.outputs.items()}

    def close(self) -> None:
        """Give the lane back; with the last of them goes the engine."""
        self._held.give_back(self.gpu_lane)

    def _written(self, shapes: Shapes) -> Written[_Sheet]:
        """The program for inputs of `shapes`. Raises EngineError for shapes that the engine does not take."""
        draft = Draft()
        windows, inputs = {}, {}
        for spec, shape in zip(self.interface.inputs, shapes, strict=True):
            windows[spec.name], inputs[spec.name] = draft.take_in(spec.datatype, shape)
        draft.copy_in()
        outputs = draft.execute(self.gpu_lane, self.interface, inputs)
        sheet = _Sheet(windows, draft.bring(outputs))
        return Written(draft.program(), sheet)


def _check(header: Header, interface: Interface) -> None:
    """Raise EngineLoad unless the engine has the tensors of `interface`."""
    for wanted, told in ((interface.inputs, header.inputs), (interface.outputs, header.outputs)):
        found = {name: DataType(word) for name, word in told.items()}
        check_tensors(wanted, found, count=len(found))


class _Held:
    """An engine of the owner's, and how many lanes of it there are."""

    def __init__(self, owned: current.Loaded, interface: Interface) -> None:
        self.owned, self.interface = owned, interface
        self._lanes = 0
        self._lock = threading.Lock()

    def lane(self) -> Lane:
        """One more. Raises GpuError."""
        lane = self.owned.lane()
        with self._lock:
            self._lanes += 1
        return lane

    def give_back(self, lane: Lane) -> None:
        """One less."""
        lane.close()
        with self._lock:
            self._lanes -= 1
            last = not self._lanes
        if last:
            self.owned.close()
