"""A batch as a program: what is sent, the kernels, the engine, what comes back.

Knows: the order of the steps. Rules: a program is for so many rows, all of one size; tensors have rows in front, but for
the engine's when it has no batch axis; an output that is not as the interface says is refused when the program is
written. Leaves to others: what runs where (`division`), running it (`work`).
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from appliance.tensors import Array, DataType, datatype_of
from runtime.computing import check_outputs
from runtime.fusing.division import Division
from runtime.gpu.kept import Written
from runtime.gpu.opened import Lane
from runtime.gpu.writing import Draft, Tensor, Window
from runtime.kernels.cuda import Part, Shape
from runtime.kernels.cuda.images import ImagePart

Where: TypeAlias = tuple[float, float, float, float, int, int]  # see `Chain.before`
PLACED_COLUMNS = 12  # see `runtime.kernels.cuda.boxes.placed_pairs`


class Key(NamedTuple):
    """What a program is for: `rows` rows of what `Division.sent` names, each of its shape without rows.

    With `whole` all outputs of the engine come back.
    """

    rows: int
    shapes: tuple[Shape, ...]
    whole: bool


class Sheet(NamedTuple):
    """Where tensors lie in the slot, by their names in the program; where images made on the device lie."""

    sent: dict[str, Window]
    brought: dict[str, Window]
    places: dict[str, Where]


class Sheets:
    """Writes the programs of one lane."""

    def __init__(self, division: Division, lane: Lane) -> None:
        self._division, self._lane = division, lane

    def write(self, key: Key) -> Written[Sheet]:
        """The program for `key`. Raises GpuError, EngineError, or RequestError for images that do not fit."""
        division, draft = self._division, Draft()
        windows: dict[str, Window] = {}
        tensors: dict[str, Tensor] = {}
        wanted = [
            (item.name, item.datatype, shape)
            for item, shape in zip(division.sent, key.shapes, strict=True)
        ]
        wanted += [(spec.name, spec.datatype, spec.shape) for spec in division.state_specs]
        wanted += [(name, DataType.FP32, (PLACED_COLUMNS,)) for name in division.placed]
        for name, datatype, shape in wanted:
            windows[name], tensors[name] = draft.take_in(datatype, (key.rows, *shape))
        draft.copy_in()
        for part in (part for parts in division.before.values() for part in parts):
            _run(part, draft, tensors)
        tensors |= self._engine(draft, tensors, key.rows)
        for part in (*division.after, *(each.part for each in division.vector)):
            _run(part, draft, tensors)
        names = division.brought(tensors, whole=key.whole)
        brought = draft.bring({name: tensors[name] for name in names})
        sheet = Sheet(windows, brought, self._places(tensors))
        return Written(draft.program(), sheet)

    def _engine(self, draft: Draft, tensors: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        interface = self._division.engine
        inputs = {spec.name: tensors[spec.name] for spec in interface.inputs}
        if not interface.batch_max:
            inputs = {name: _without_rows(tensor) for name, tensor in inputs.items()}
        outputs = draft.execute(self._lane, interface, inputs)
        check_outputs(interface, {name: _like(each) for name, each in outputs.items()}, rows)
        if not interface.batch_max:
            return {name: _with_row(tensor) for name, tensor in outputs.items()}
        return outputs

    def _places(self, tensors: Mapping[str, Tensor]) -> dict[str, Where]:
        """Of every image input that the device makes."""
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        return {
            name: part.placed(shapes)
            for name, parts in self._division.before.items()
            for part in parts
            if isinstance(part, ImagePart)
        }


def _run(part: Part, draft: Draft, tensors: dict[str, Tensor]) -> None:
    """Have the kernels of `part` run, and add what it makes to `tensors`."""
    shapes = {name: tensors[name].shape for name in part.reads}
    for name, (shape, dtype) in part.made(shapes).items():
        datatype = datatype_of(np.dtype(dtype))
        assert datatype is not None, dtype
        tensors[name] = draft.make(datatype, shape)
    places = {name: tensors[name].place for name in (*part.reads, *part.makes)}
    constants_at = draft.keep(part.constants(shapes))
    draft.add(part.launches(shapes, places, constants_at, draft.room(part.scratch(shapes))))


def _without_rows(tensor: Tensor) -> Tensor:
    return tensor._replace(shape=tensor.shape[1:])


def _with_row(tensor: Tensor) -> Tensor:
    return tensor._replace(shape=(1, *tensor.shape))


def _like(tensor: Tensor) -> Array:
    """An array of the tensor's dtype and shape, without its memory."""
    return np.broadcast_to(np.empty((), tensor.datatype.numpy), tensor.shape)
