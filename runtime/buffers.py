"""The memory that a servable's batches are prepared in.

Knows: one buffer an engine input, made once for the largest batch of a shape, and the states among them. Rules:
what is given out holds until the next batch; a request without states begins a sequence. Leaves to others:
what is written (`runtime.kernels.chain`), running it (`runtime.servable`).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from appliance.states import State, state_specs
from appliance.tensors import Array, Interface

Arrays: TypeAlias = Mapping[str, Array]


class Batch(NamedTuple):
    """Requests prepared for one engine call: its inputs, and where images lie (see `Chain.before`)."""

    rows: int
    prepared: Arrays
    placed: Arrays


class Buffers:
    """The inputs of one engine; used by one thread at a time."""

    def __init__(self, engine: Interface, states: tuple[State, ...] = ()) -> None:
        self._engine = engine
        self._states = state_specs(engine, states)
        self._buffers: dict[str, Array] = {}

    def views(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
        """Room for the inputs `shapes`, by name, with the axis of rows where there is one."""
        return {name: self._view(name, shape) for name, shape in shapes.items()}

    def states(self, requests: Sequence[Arrays], rows: int) -> dict[str, Array]:
        """The states of `requests`, `rows` rows together: those that they bring, by input name, else zeros."""
        if not self._engine.batch_max:
            return {
                spec.name: self._state(spec.name, spec.shape, requests) for spec in self._states
            }
        return {
            spec.name: self._state(spec.name, (rows, *spec.shape), requests)
            for spec in self._states
        }

    def padded(self, prepared: Arrays, rows: int) -> Arrays:
        """The first `rows` rows of all buffers, of which those `prepared` stay.

        The others repeat the first: a row that somebody sent is one that the engine takes.
        """
        return {name: self._padded(name, array, rows) for name, array in prepared.items()}

    def _padded(self, name: str, prepared: Array, rows: int) -> Array:
        padded = self._buffers[name][:rows]
        padded[len(prepared) :] = prepared[:1]
        return padded

    def _state(self, name: str, shape: tuple[int, ...], requests: Sequence[Arrays]) -> Array:
        view = self._view(name, shape)
        if not self._engine.batch_max:
            view[...] = requests[0].get(name, 0)
            return view
        for request, part in zip(requests, parts_of(requests), strict=True):
            view[part] = request.get(name, 0)
        return view

    def _view(self, name: str, shape: tuple[int, ...]) -> Array:
        batch_max = self._engine.batch_max
        full = (batch_max, *shape[1:]) if batch_max else shape
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != full:
            spec = self._engine.input(name)
            assert spec is not None, "the chain prepares the engine's own inputs"
            buffer = self._buffers[name] = np.empty(full, spec.datatype.numpy)
        return buffer[: shape[0]] if batch_max else buffer


def parts_of(requests: Sequence[Arrays]) -> list[slice]:
    """The rows of each request in the batch of all."""
    slices, start = [], 0
    for request in requests:
        rows = len(next(iter(request.values())))
        slices.append(slice(start, start + rows))
        start += rows
    return slices


def rows_of(arrays: Arrays, rows: slice) -> Arrays:
    """Some rows of all arrays."""
    return {name: array[rows] for name, array in arrays.items()}
