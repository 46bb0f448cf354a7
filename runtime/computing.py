"""One engine call for many requests, from what they sent to what they get.

Knows: how requests become the inputs of one call, and what an engine must give for them. Rules: requests of a
call share one batch, in buffers that hold until the next call; an output that is not as the interface says is
never served; padding and states are no part of the outputs. Leaves to others: the buffers (`runtime.buffers`),
the recipe's steps (`runtime.kernels.chain`), work of which a GPU does more (`runtime.fusing`), which request
gets what (`runtime.servable`).
"""

from collections.abc import Iterable, Sequence
from types import EllipsisType, MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np

from appliance.clock import Clock
from appliance.errors import EngineError
from appliance.golden import rows_fit
from appliance.layout import Floats
from appliance.states import State
from appliance.tensors import Array, Interface
from runtime.buffers import Arrays, Batch, Buffers, parts_of, rows_of
from runtime.engines import Engine
from runtime.kernels.chain import PLACE_COLUMNS, Chain
from runtime.kernels.vector import DriftVector

# Requests of at most so many bytes are laid side by side first: one more copy is less than a call for each.
JOIN_BYTES_MAX = 4096
NO_STATES: Arrays = MappingProxyType({})


class Computed(NamedTuple):
    """What one engine call gave for a batch of `rows` rows, without padding.

    `outputs` are the engine's own, as far as they were asked for; `served` what clients may see, `vectors` the
    drift vectors, float32 (rows, k). `states` are those after it, by the engine's input names, padding and
    all. The engine ran from `began_ns` to `ended_ns` on the monotonic clock, in nanoseconds.
    """

    rows: int
    outputs: Arrays
    served: dict[str, Array]
    vectors: Floats
    states: Arrays
    began_ns: int
    ended_ns: int


class Work(Protocol):
    """All that is between requests and their answers; used by one thread at a time."""

    def compute(
        self, requests: Sequence[Arrays], rows: int = 0, *, whole: bool = False
    ) -> Computed:
        """Answer all `requests` by one engine call, padded to `rows` rows when they are fewer.

        The engine's own outputs are there if they are served or `whole` asks for all. Raises EngineError when
        an output is not as the interface says, else as the chain and the engine do.
        """

    def key(self, inputs: Arrays) -> tuple[tuple[int, ...], ...]:
        """Requests with equal keys may share an engine call. Raises as `Chain.prepared_shape`."""

    def placed(self, inputs: Arrays) -> Arrays | None:
        """Where the images of one request lie (see `Chain.before`); None when nothing needs it."""


class Computing:
    """An engine between its recipe's kernels, which all run on this processor."""

    def __init__(
        self,
        engine: Engine,
        chain: Chain,
        vector: DriftVector,
        states: tuple[State, ...],
        clock: Clock,
    ) -> None:
        """`chain` and `vector` are of the engine without its `states`."""
        self._engine, self._chain, self._states, self._clock = engine, chain, states, clock
        self._vector = vector
        self._names = [spec.name for spec in chain.served.inputs]
        self._batched = engine.interface.batch_max > 0
        self._buffers = Buffers(engine.interface, states)
        self._places = {
            name: np.empty((max(chain.served.batch_max, 1), PLACE_COLUMNS))
            for name in chain.placed_inputs
        }

    def compute(
        self,
        requests: Sequence[Arrays],
        rows: int = 0,
        *,
        whole: bool = False,  # noqa: ARG002 - all outputs are in this process anyway
    ) -> Computed:
        """See `Work`."""
        batch = self._prepared(requests)
        prepared, padded = batch.prepared, rows > batch.rows and self._batched
        if padded:
            prepared = self._buffers.padded(prepared, rows)
        began = self._clock.monotonic_ns()
        outputs = self._engine.run(prepared)
        ended = self._clock.monotonic_ns()
        check_outputs(self._engine.interface, outputs, rows if padded else batch.rows)
        states = NO_STATES
        if self._states:
            states = {state.input: outputs.pop(state.output) for state in self._states}
        if padded:
            outputs = {name: array[: batch.rows] for name, array in outputs.items()}
        served = self._chain.after(outputs, batch.placed)
        vectors = self._vector.compute(batch.prepared, outputs)
        return Computed(batch.rows, outputs, served, vectors, states, began, ended)

    def key(self, inputs: Arrays) -> tuple[tuple[int, ...], ...]:
        """See `Work`: the prepared shapes without rows."""
        shapes = self._chain.prepared_shape(inputs)
        return tuple(shape[1:] for _, shape in sorted(shapes.items()))

    def placed(self, inputs: Arrays) -> Arrays | None:
        """See `Work`."""
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
        requests = side_by_side(requests, self._names)
        parts = parts_of(requests)
        prepared = self._buffers.views({name: (rows, *shape[1:]) for name, shape in shapes.items()})
        placed = rows_of(self._places, slice(rows))
        for request, part in zip(requests, parts, strict=True):
            self._chain.before(request, rows_of(prepared, part), rows_of(placed, part))
        return Batch(rows=rows, prepared=prepared | states, placed=placed)


def side_by_side(requests: Sequence[Arrays], names: Iterable[str]) -> Sequence[Arrays]:
    """Requests of one key as one, `names` only, their rows one after another; large ones as they are."""
    if len(requests) == 1 or _bytes(requests[0]) > JOIN_BYTES_MAX:
        return requests
    return [{name: np.concatenate([each[name] for each in requests]) for name in names}]


def check_outputs(interface: Interface, outputs: Arrays, rows: int) -> None:
    """Raise EngineError unless an engine of `interface` gave `rows` rows of each of its outputs in `outputs`."""
    for spec in interface.outputs:
        array = outputs[spec.name] if interface.batch_max else outputs[spec.name][None]
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
