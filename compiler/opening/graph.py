"""What goes into a model and what comes out, read from its graph.

Knows: how a graph's edges become the engine's interface, and how the spec's axes are matched to them.
Rules: nothing is guessed; a range names an axis that is there and open. Leaves to others: types and shapes
(`edges`), the batch axis (`batching`), whether the model really keeps rows apart (`reference`, `proof`).
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from appliance.errors import SpecError
from appliance.tensors import AxisRange, Interface, TensorSpec
from compiler.opening.batching import HardCoded, batch_note, hard_coded, rows_of
from compiler.opening.edges import Computed, Edge, computed, edges_of
from compiler.opening.inference import inferred
from compiler.opening.source import Source
from compiler.spec import axis_table

__all__ = [
    "Computed",
    "Edges",
    "axes_of",
    "computed_tensors",
    "edges",
    "graph_notes",
    "interface_of",
]

NO_AXES: Mapping[str, AxisRange] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """What a graph takes and gives, axis by axis, and the nodes that write down the batch's length."""

    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    hard_coded: tuple[HardCoded, ...]

    @property
    def all(self) -> tuple[Edge, ...]:
        """Inputs, then outputs."""
        return self.inputs + self.outputs


def edges(source: Source) -> Edges:
    """The edges of `source`. Raises SourceUnsupported naming what is not served."""
    graph = inferred(source.model)
    inputs, outputs = edges_of(graph)
    return Edges(inputs=tuple(inputs), outputs=tuple(outputs), hard_coded=tuple(hard_coded(graph)))


def interface_of(
    source: Source, batch_max: int | None, axes: Mapping[str, AxisRange] = NO_AXES
) -> Interface:
    """The engine's interface; `batch_max` as in the spec, None for the default; `axes` as in the spec.

    Raises SourceUnsupported naming a tensor of a type or shape that is not served, SpecError when rows
    are asked for that the graph cannot take, or a range is given for an axis that it does not have.
    """
    graph = inferred(source.model)
    inputs, outputs = edges_of(graph)
    rows = rows_of(inputs + outputs, batch_max, hard_coded(graph))
    _check_axes(inputs, axes, batched=rows > 0)
    return Interface(
        inputs=tuple(_spec(edge, axes, batched=rows > 0) for edge in inputs),
        outputs=tuple(_spec(edge, NO_AXES, batched=rows > 0) for edge in outputs),
        batch_max=rows,
    )


def axes_of(interface: Interface) -> dict[str, AxisRange]:
    """The ranges of an interface's inputs, as `interface_of` takes them: by "TENSOR.NUMBER"."""
    first = 1 if interface.batch_max else 0
    return {
        f"{spec.name}.{at}": given
        for spec in interface.inputs
        for at, given in enumerate(spec.ranges, first)
        if given is not None
    }


def graph_notes(source: Source, batch_max: int | None) -> tuple[str, ...]:
    """What the engineer should know of how `source` will be served, in sentences without full stops."""
    found = edges(source)
    note = batch_note(found.all, batch_max, found.hard_coded)
    return (*source.notes, *((note,) if note else ()))


def computed_tensors(source: Source) -> Iterator[Computed]:
    """Every tensor computed from the inputs' values; see `compiler.opening.edges.computed`."""
    yield from computed(inferred(source.model))


def _spec(edge: Edge, axes: Mapping[str, AxisRange], *, batched: bool) -> TensorSpec:
    first = 1 if batched else 0
    ranges = tuple(
        next((axes[name] for name in _names(edge, at) if name in axes), None)
        for at in range(first, len(edge.axes))
    )
    return TensorSpec(
        name=edge.name,
        datatype=edge.datatype,
        shape=edge.shape[first:],
        ranges=ranges if any(ranges) else (),
    )


def _names(edge: Edge, at: int) -> Iterator[str]:
    """What the spec may call the axis `at`, which is open: its own name, or TENSOR.NUMBER."""
    axis = edge.axes[at]
    if isinstance(axis, int):
        return
    if axis is not None:
        yield axis
    yield f"{edge.name}.{at}"


def _check_axes(inputs: list[Edge], axes: Mapping[str, AxisRange], *, batched: bool) -> None:
    """Refuse a name in `axes` that stands for no open axis of an input, or for the batch."""
    named = {name for edge in inputs for at in range(len(edge.axes)) for name in _names(edge, at)}
    rows = {name for edge in inputs for name in _names(edge, 0)} if batched else set[str]()
    for name in axes:
        if name in rows:
            raise SpecError(
                f"{axis_table(name)} is the batch axis", remedy="limit it with batch_max instead"
            )
        if name not in named:
            near = difflib.get_close_matches(name, sorted(named - rows), n=1)
            known = ", ".join(sorted(named - rows)) or "no open axis"
            raise SpecError(
                f"{axis_table(name)}: no input has an open axis of this name; there is {known}",
                remedy=f"did you mean '{near[0]}'?" if near else "remove it or correct the name",
            )
