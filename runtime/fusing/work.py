"""Requests through a version that the GPU runs as a whole.

Knows: how requests become one run of a lane, and how its results become answers. Rules: what is sent is written once,
straight into the slot; requests share a run when what they send has one size; results are copied out, for the slot is
the next batch's. Leaves to others: the program (`sheet`), which request gets what (`runtime.servable`).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from appliance.clock import Clock
from appliance.layout import Floats
from appliance.tensors import Array
from runtime.buffers import Arrays, parts_of, rows_of
from runtime.computing import NO_STATES, Computed, side_by_side
from runtime.engines.tensorrt import TensorRTEngine
from runtime.fusing.division import Division
from runtime.fusing.sheet import Key, Sheet, Sheets, Where
from runtime.gpu.kept import Kept
from runtime.gpu.writing import Window
from runtime.kernels.chain import PLACE_COLUMNS, Chain
from runtime.kernels.cuda.boxes import PLACED, placed_pairs


class Fused:
    """See `runtime.computing.Work`."""

    def __init__(
        self, division: Division, chain: Chain, engine: TensorRTEngine, clock: Clock
    ) -> None:
        """`chain` is of the version without its states; it prepares what the device does not."""
        self._division, self._chain, self._clock = division, chain, clock
        self._lane = engine.gpu_lane
        self._batched = division.engine.batch_max > 0
        self._programs: Kept[Key, Sheet] = Kept(self._lane, Sheets(division, self._lane).write)
        self._places = {
            name: np.empty((max(division.engine.batch_max, 1), PLACE_COLUMNS))
            for name in chain.placed_inputs
        }

    def compute(
        self, requests: Sequence[Arrays], rows: int = 0, *, whole: bool = False
    ) -> Computed:
        """See `Work`. Raises GpuLost when the GPU broke meanwhile."""
        count = parts_of(requests)[-1].stop if self._batched else 1
        key = Key(max(rows if self._batched else 1, count), self._shapes(requests[0]), whole)
        number, sheet = self._programs.take(key)
        slot = self._lane.slot
        sent = _arrays(sheet.sent, slot)
        self._fill(requests, count, sent, sheet.places)
        began = self._clock.monotonic_ns()
        self._lane.run(number)
        ended = self._clock.monotonic_ns()
        brought = {
            name: array[:count].copy() for name, array in _arrays(sheet.brought, slot).items()
        }
        prepared = {name: sent[name][:count] for name in self._division.prepared}
        return self._computed(count, prepared, brought, began, ended)

    def key(self, inputs: Arrays) -> tuple[tuple[int, ...], ...]:
        """See `Work`: the shapes of all that is sent, without rows."""
        return self._shapes(inputs)

    def placed(self, inputs: Arrays) -> Arrays | None:
        """See `Work`."""
        if not self._places:
            return None
        shapes = self._chain.prepared_shape(inputs)
        # The CPU's own way: this is asked when a version is proven, of what the reference computed.
        made = {
            spec.name: np.empty(shapes[spec.name], spec.datatype.numpy)
            for spec in self._division.engine.inputs
            if spec.name in shapes
        }
        count = parts_of([inputs])[-1].stop if self._batched else 1
        placed = rows_of(self._places, slice(count))
        self._chain.before(inputs, made, placed)
        return placed

    def _shapes(self, inputs: Arrays) -> tuple[tuple[int, ...], ...]:
        """Of what is sent, in `Division.sent`'s order. Raises RequestError for what the version does not take."""
        prepared = self._chain.prepared_shape(inputs)
        rows = 1 if self._batched else 0
        return tuple(
            (inputs[item.served].shape if item.served else prepared[item.name])[rows:]
            for item in self._division.sent
        )

    def _fill(
        self,
        requests: Sequence[Arrays],
        count: int,
        sent: Mapping[str, Array],
        places: Mapping[str, Where],
    ) -> None:
        """Write all that is sent; rows that nobody sent repeat the first."""
        for item in self._division.sent:
            if item.served:
                self._copy(requests, item.served, sent[item.name])
        for spec in self._division.state_specs:
            self._copy(requests, spec.name, sent[spec.name])
        self._prepare(requests, sent)
        for name, where in places.items():
            if name in self._places:
                self._places[name][:count] = where
        for name in self._division.placed:
            sent[name][:count] = placed_pairs(self._places[name.removeprefix(PLACED)][:count])
        for array in sent.values():
            array[count:] = array[:1]

    def _prepare(self, requests: Sequence[Arrays], sent: Mapping[str, Array]) -> None:
        """What this processor prepares."""
        if not self._division.prepared:
            return
        made = {name: sent[name] for name in self._division.prepared}
        if not self._batched:
            self._chain.before(
                requests[0], {name: array[0, ...] for name, array in made.items()}, self._places
            )
            return
        requests = side_by_side(requests, [spec.name for spec in self._chain.served.inputs])
        for request, part in zip(requests, parts_of(requests), strict=True):
            self._chain.before(request, rows_of(made, part), rows_of(self._places, part))

    def _copy(self, requests: Sequence[Arrays], name: str, into: Array) -> None:
        """One tensor of every request; zeros from those that have none, which begin a sequence."""
        if not self._batched:
            into[0, ...] = requests[0].get(name, 0)
            return
        for request, part in zip(requests, parts_of(requests), strict=True):
            into[part] = request.get(name, 0)

    def _computed(
        self, count: int, prepared: Arrays, brought: Arrays, began: int, ended: int
    ) -> Computed:
        division, chain = self._division, self._chain
        vectors = self._vectors(count, prepared, brought)
        shaped = brought if self._batched else {n: a[0, ...] for n, a in brought.items()}
        states = NO_STATES
        if division.states:
            states = {state.input: shaped[state.output] for state in division.states}
        answers = dict(shaped)
        placed = rows_of(self._places, slice(count))
        for each in division.makers:
            answers = each.run(answers, placed)
        outputs = {
            spec.name: shaped[spec.name]
            for spec in division.stateless.outputs
            if spec.name in shaped
        }
        served = {spec.name: answers[spec.name] for spec in chain.served.outputs}
        return Computed(count, outputs, served, vectors, states, began, ended)

    def _vectors(self, count: int, prepared: Arrays, brought: Arrays) -> Floats:
        division = self._division
        vectors = np.empty((count, division.width), np.float32)
        for each in division.vector:
            vectors[:, each.at : each.at + each.width] = brought[each.part.makes[0]]
        tensors = {**prepared, **brought}
        if not self._batched:
            tensors = {name: array[0, ...] for name, array in tensors.items()}
        for values in division.values:
            vectors[:, values.columns] = values.vector.compute(tensors, tensors)
        return vectors


def _arrays(windows: Mapping[str, Window], slot: memoryview) -> dict[str, Array]:
    return {name: window.of(slot) for name, window in windows.items()}
