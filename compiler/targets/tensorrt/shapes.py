"""The ranges of shapes that an engine is built for.

Knows: what an interface promises of every axis. Rules: one profile, from one row to the most at once, tuned for
the most, where a GPU is at its best; ranges of open axes are the spec's own. Leaves to others: telling the
library (`building`), refusing axes without a range (`refusals`).
"""

from typing import NamedTuple

from appliance.tensors import Interface, TensorSpec

Shape = tuple[int, ...]


class Range(NamedTuple):
    """Shapes of one input, with the axis of rows where there is one: the least, the best served, the most."""

    least: Shape
    best: Shape
    most: Shape


def ranges_of(interface: Interface) -> dict[str, Range]:
    """The range of every input that has one, by name; inputs of fixed shape have none.

    Every open axis of `interface` has a range.
    """
    return {
        spec.name: _range(spec, interface.batch_max)
        for spec in interface.inputs
        if interface.batch_max or -1 in spec.shape
    }


def _range(spec: TensorSpec, batch_max: int) -> Range:
    ranges = spec.ranges or (None,) * len(spec.shape)
    axes = list(zip(spec.shape, ranges, strict=True))
    assert all(axis != -1 or given for axis, given in axes), f"'{spec.name}' has an endless axis"
    least = tuple(given.min if given else axis for axis, given in axes)
    best = tuple(given.opt if given else axis for axis, given in axes)
    most = tuple(given.max if given else axis for axis, given in axes)
    if not batch_max:
        return Range(least, best, most)
    return Range((1, *least), (batch_max, *best), (batch_max, *most))
