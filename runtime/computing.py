"""One engine call for many requests.

Knows: how requests become the inputs of one call, and what an engine must give for them. Rules: requests of a
call share one batch, in buffers that hold until the next call; an output that is not as the interface says is
never served; padding and states are no part of the outputs. Leaves to others: the buffers (`runtime.buffers`),
the recipe's steps (`runtime.kernels.chain`), what becomes of the outputs (`runtime.servable`).
"""

from collections.abc import Mapping, Sequence
from types import EllipsisType, MappingProxyType
from typing import NamedTuple

import numpy as np

from appliance.clock import Clock
from appliance.errors import EngineError
from appliance.golden import rows_fit
from appliance.states import State
from appliance.tensors import Array
from runtime.buffers import Arrays, Batch, Buffers, parts_of, rows_of
from runtime.engines import Engine
from runtime.kernels.chain import PLACE_COLUMNS, Chain

# Requests of at most so many bytes are laid side by side first: one more copy is less than a call for each.
JOIN_BYTES_MAX = 4096
_NO_STATES: Arrays = MappingProxyType({})


class Computed(NamedTuple):
    """What one engine call gave for `batch`, without padding.

    `states` are those after it, by the engine's input names, padding and all. The engine ran from `began_ns`
    to `ended_ns` on the monotonic clock, in nanoseconds.
    """

    outputs: dict[str, Array]
    states: Arrays
    batch: Batch
    began_ns: int
    ended_ns: int


class Computing:
    """An engine behind its recipe's first steps; used by one thread at a time."""

    def __init__(
        self, engine: Engine, chain: Chain, states: tuple[State, ...], clock: Clock
    ) -> None:
        """`chain` is of the engine without its `states`."""
        self._engine, self._chain, self._states, self._clock = engine, chain, states, clock
        self._batched = engine.interface.batch_max > 0
        self._buffers = Buffers(engine.interface, states)
        self._places = {
            name: np.empty((max(chain.served.batch_max, 1), PLACE_COLUMNS))
            for name in chain.placed_inputs
        }

    def compute(self, requests: Sequence[Arrays], rows: int = 0) -> Computed:
        """Run the engine once for all `requests`, padded to `rows` rows when they are fewer.

        Raises EngineError when an output is not as the interface says, else as the chain and the engine do.
        """
        batch = self._prepared(requests)
        prepared, padded = batch.prepared, rows > batch.rows and self._batched
        if padded:
            prepared = self._buffers.padded(prepared, rows)
        began = self._clock.monotonic_ns()
        outputs = self._engine.run(prepared)
        ended = self._clock.monotonic_ns()
        self._check(outputs, rows if padded else batch.rows)
        states = _NO_STATES
        if self._states:
            states = {state.input: outputs.pop(state.output) for state in self._states}
        if padded:
            outputs = {name: array[: batch.rows] for name, array in outputs.items()}
        return Computed(outputs, states, batch, began, ended)

    def placed(self, inputs: Arrays) -> Arrays | None:
        """Where the images of one request lie (see `Chain.before`); None when nothing needs it."""
        return self._prepared([inputs]).placed if self._places else None

    def _prepared(self, requests: Sequence[Arrays]) -> Batch:
        """All requests, in views of the buffers that hold until the next call."""
        shapes = self._chain.prepared_shape(requests[0])
        if not self._batched:
            prepared = self._buffers.views(shapes)
            self._chain.before(requests[0], prepared, self._places)
            prepared |= self._buffers.states(requests, 1)
            return Batch(rows=1, prepared=prepared, placed=self._places)
        rows = parts_of(requests)[-1].stop
        states = self._buffers.states(requests, rows)
        if len(requests) > 1 and _bytes(requests[0]) <= JOIN_BYTES_MAX:
            requests = [self._joined(requests)]
        parts = parts_of(requests)
        prepared = self._buffers.views({name: (rows, *shape[1:]) for name, shape in shapes.items()})
        placed = rows_of(self._places, slice(rows))
        for request, part in zip(requests, parts, strict=True):
            self._chain.before(request, rows_of(prepared, part), rows_of(placed, part))
        return Batch(rows=rows, prepared=prepared | states, placed=placed)

    def _joined(self, requests: Sequence[Arrays]) -> Arrays:
        """Requests of one key as one: their rows one after another, without states."""
        names = [spec.name for spec in self._chain.served.inputs]
        return {name: np.concatenate([each[name] for each in requests]) for name in names}

    def _check(self, outputs: Mapping[str, Array], rows: int) -> None:
        for spec in self._engine.interface.outputs:
            array = outputs[spec.name] if self._batched else outputs[spec.name][None]
            if len(array) != rows or not rows_fit(spec, array):
                raise EngineError(
                    f"output '{spec.name}' came out as {array.dtype} {list(array.shape)} for {rows} "
                    f"rows of {spec.datatype} {list(spec.shape)}",
                    remedy="the engine does not compute this model as declared; build it again",
                )


def copied(states: Arrays, rows: slice | EllipsisType) -> Arrays:
    """Some rows of `states` as arrays of their own: the call's own go with its batch."""
    return {name: np.array(array[rows]) for name, array in states.items()}


def _bytes(inputs: Arrays) -> int:
    return sum(array.nbytes for array in inputs.values())
