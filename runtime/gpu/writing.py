"""Writing a program: room in its three places, step by step.

Knows: that everything begins at an aligned address, and what the three places hold (`program`). Rules: what is
copied into the slot's beginning lies at the arena's beginning in the same order, so that one copy brings all
inputs, and one copy takes all results. Leaves to others: which steps (`runtime.engines.tensorrt`, `runtime.fusing`).
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from appliance.tensors import Array, DataType, Interface
from runtime.gpu.opened import Lane
from runtime.gpu.program import (
    CopyIn,
    CopyOut,
    Execute,
    Layout,
    Place,
    Program,
    Step,
    aligned,
)


class Tensor(NamedTuple):
    """A tensor of a program: where it lies on the device, its datatype and its shape with the axis of rows."""

    place: Place
    datatype: DataType
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """In bytes."""
        return size_of(self.datatype, self.shape)


class Window(NamedTuple):
    """A tensor in the slot: where it begins, in bytes, its datatype and its shape."""

    at: int
    datatype: DataType
    shape: tuple[int, ...]

    def of(self, slot: memoryview) -> Array:
        """The tensor as an array over the slot's own memory, valid until the slot grows."""
        return np.ndarray(self.shape, self.datatype.numpy, slot, self.at)


class Draft:
    """A program on its way.

    First everything that is sent (`take_in`), then what is computed, at last what is brought back (`bring`).
    """

    def __init__(self) -> None:
        self._arena, self._constants = Layout(), bytearray()
        self._sent = self._brought = 0
        self._steps: list[Step] = []

    def take_in(self, datatype: DataType, shape: tuple[int, ...]) -> tuple[Window, Tensor]:
        """Room for a tensor that is sent: in the slot and, once the program runs, on the device."""
        assert self._arena.size == self._sent, "what is sent comes first"
        at = self._arena.take(size_of(datatype, shape))
        self._sent = self._arena.size
        return Window(at, datatype, shape), Tensor(_in_arena(at), datatype, shape)

    def make(self, datatype: DataType, shape: tuple[int, ...]) -> Tensor:
        """Room on the device for a tensor that is computed."""
        return Tensor(_in_arena(self._arena.take(size_of(datatype, shape))), datatype, shape)

    def room(self, size: int) -> Place:
        """So many bytes of scratch on the device."""
        return _in_arena(self._arena.take(size))

    def keep(self, constants: bytes) -> Place:
        """Constants, on the device for as long as the program is installed."""
        at = len(self._constants)
        self._constants += constants.ljust(aligned(len(constants)), b"\0")
        return Place(space="constants", offset=at)

    def copy_in(self) -> None:
        """Bring all that is sent to the device, by one copy."""
        if self._sent:
            self._steps.append(CopyIn(slot=0, to=_in_arena(0), size=self._sent))

    def execute(
        self, lane: Lane, interface: Interface, inputs: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Run the engine of `interface` on its `inputs`, by name; returns its outputs.

        Raises GpuError or EngineError for shapes that the engine does not take.
        """
        shapes = {name: tensor.shape for name, tensor in inputs.items()}
        found = lane.shapes(shapes)
        outputs = {
            spec.name: self.make(spec.datatype, found[spec.name]) for spec in interface.outputs
        }
        step = Execute(
            shapes=shapes,
            inputs={name: tensor.place for name, tensor in inputs.items()},
            outputs={name: tensor.place for name, tensor in outputs.items()},
        )
        self._steps.append(step)
        return outputs

    def add(self, steps: Iterable[Step]) -> None:
        """Add steps behind those so far."""
        self._steps += steps

    def bring(self, tensors: Mapping[str, Tensor]) -> dict[str, Window]:
        """Take tensors back to the slot, behind what is sent; tensors that lie side by side by one copy."""
        windows: dict[str, Window] = {}
        copies: list[CopyOut] = []
        for name, tensor in sorted(tensors.items(), key=lambda item: item[1].place.offset):
            size, to = aligned(tensor.size), self._sent + self._brought
            windows[name] = Window(to, tensor.datatype, tensor.shape)
            if not size:
                continue
            self._brought += size
            last = copies[-1] if copies else None
            if last is not None and last.source.offset + last.size == tensor.place.offset:
                copies[-1] = CopyOut(source=last.source, slot=last.slot, size=last.size + size)
            else:
                copies.append(CopyOut(source=tensor.place, slot=to, size=size))
        self._steps += copies
        return windows

    def program(self) -> Program:
        """The program as written so far."""
        return Program(
            steps=tuple(self._steps),
            slot_bytes=self._sent + self._brought,
            arena_bytes=self._arena.size,
            constants=bytes(self._constants),
        )


def size_of(datatype: DataType, shape: tuple[int, ...]) -> int:
    """Of a tensor, in bytes."""
    return math.prod(shape) * datatype.numpy.itemsize


def _in_arena(offset: int) -> Place:
    return Place(space="arena", offset=offset)
