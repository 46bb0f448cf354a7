"""An engine whose every row is the first of its sequence.

Knows: that a state begins as zeros. Rules: without states it is the engine as it is; what the engine gives as
states is kept from whoever asks. Leaves to others: which tensors are states (`appliance.states`).
"""

from collections.abc import Mapping
from typing import Protocol

from appliance.states import State, beginning, state_specs, stateless
from appliance.tensors import Array, Interface


class Runs(Protocol):
    """What is needed of an engine."""

    @property
    def interface(self) -> Interface:
        """What it takes and gives."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs from all inputs, by name."""


class FromStart:
    """The engine behind its states; `interface` is without them."""

    def __init__(self, engine: Runs, states: tuple[State, ...]) -> None:
        """Raises SpecError when the states are not the engine's (see `stateless`)."""
        self.interface = stateless(engine.interface, states)
        self._engine = engine
        self._specs = state_specs(engine.interface, states)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs but the states, by name; raises as the engine does."""
        rows = len(next(iter(inputs.values()))) if self.interface.batch_max else None
        begun = {spec.name: beginning(spec, rows) for spec in self._specs}
        outputs = self._engine.run({**inputs, **begun})
        return {spec.name: outputs[spec.name] for spec in self.interface.outputs}
