"""What of a version runs on the GPU, and what must come and go for it.

Knows: the split of its recipe and of its drift vector. Rules: all that is sent and all that is brought back is named here
once, for every batch; nothing comes back that nobody reads. Leaves to others: which parts the device can do
(`runtime.kernels.cuda.splitting`), one batch (`sheet`), requests (`work`).
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from appliance.fitting import sent_specs
from appliance.fitting.outputs import outputs_after
from appliance.layout import ImageValues, OutputValues, ScoreValues, VectorLayout
from appliance.layout import Part as LayoutPart
from appliance.manifest import Manifest
from appliance.recipe import AfterStep, Drop, Recipe
from appliance.states import state_specs
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.kernels.after import Maker, maker
from runtime.kernels.cuda.boxes import PLACED
from runtime.kernels.cuda.splitting import SENT, split
from runtime.kernels.vector import DriftVector


class Sent(NamedTuple):
    """A tensor that each batch sends: its name in programs, and its datatype; `served` is its name for clients.

    Without that it is an engine input that this processor prepares.
    """

    name: str
    datatype: DataType
    served: str = ""


class Values(NamedTuple):
    """Values of the drift vector, from column `at` on, that this processor computes."""

    columns: slice
    vector: DriftVector


class Division:
    """A version divided between GPU and CPU; `states` are sent along."""

    def __init__(self, manifest: Manifest, layout: VectorLayout) -> None:
        """Raises RecipeError when the recipe does not fit."""
        recipe, stateless = manifest.recipe, manifest.stateless
        parts = split(recipe, stateless, layout)
        self.engine, self.stateless = manifest.engine, stateless
        self.states, self.state_specs = (
            manifest.states,
            state_specs(manifest.engine, manifest.states),
        )
        self.before, self.after, self.vector = parts.before, parts.after, parts.vector
        self.kernels = {source.name for source in parts.kernels()}
        self.sent = tuple(_sent(recipe, stateless, parts.before))
        self.prepared = frozenset(item.name for item in self.sent if not item.served)
        reads = {name for part in parts.after for name in part.reads}
        self.placed = tuple(sorted(name for name in reads if name.startswith(PLACED)))
        known = _known(recipe, stateless)
        self.makers: list[Maker] = [maker(step, known, recipe.labels) for step in parts.rest]
        self.width = len(layout.names)
        self.values = [
            _values(at, part, batched=layout.batch_axis) for at, part in parts.vector_rest
        ]
        self._brought = _read(parts.rest, known) | {spec.name for spec in manifest.served.outputs}
        self._brought |= {state.output for state in manifest.states}
        self._brought |= {name for _, part in parts.vector_rest for name in _read_by(part)}
        self._brought |= {name for each in parts.vector for name in each.part.makes}
        self._brought -= self.prepared  # these lie here already

    def brought(self, made: Iterable[str], *, whole: bool) -> list[str]:
        """Which of the tensors `made` on the device come back; with `whole` all outputs of the engine do."""
        wanted = self._brought
        if whole:
            wanted = wanted | {spec.name for spec in self.engine.outputs}
        return [name for name in made if name in wanted]


def _sent(recipe: Recipe, engine: Interface, on_device: Iterable[str]) -> Iterable[Sent]:
    """In the order of the engine's inputs; a tensor that feeds several is sent once."""
    found: dict[str, Sent] = {}
    for spec in engine.inputs:
        if spec.name not in on_device:
            found[spec.name] = Sent(spec.name, spec.datatype)
            continue
        for raw in sent_specs(recipe.input_for(spec.name), spec):
            found[SENT + raw.name] = Sent(SENT + raw.name, raw.datatype, raw.name)
    return found.values()


def _known(recipe: Recipe, engine: Interface) -> list[TensorSpec]:
    """All outputs that there are at any time."""
    known = list(engine.outputs)
    for step in recipe.after:
        if not isinstance(step, Drop):
            known = outputs_after(step, known, recipe)
    return known


def _read(steps: Iterable[AfterStep], known: Iterable[TensorSpec]) -> set[str]:
    """The tensors that a step names, whichever of its fields does."""
    names = {spec.name for spec in known}
    named = (value for step in steps for value in msgspec.structs.asdict(step).values())
    return {value for value in named if isinstance(value, str)} & names


def _read_by(part: LayoutPart) -> list[str]:
    """The tensors on the device that values of the vector are computed from."""
    match part:
        case ScoreValues() | OutputValues():
            return [part.output]
        case ImageValues():
            return [part.input]
        case _:
            return []


def _values(at: int, part: LayoutPart, *, batched: bool) -> Values:
    layout = VectorLayout(batch_axis=batched, parts=(part,))
    return Values(slice(at, at + len(layout.names)), DriftVector(layout))
