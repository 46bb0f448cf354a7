"""An engine that takes some integers within bounds only.

Knows: the bounds that its compiling found: positions of a table, 32 bits of 64. Rules: an input outside of
them is refused before the engine sees it, for it would answer without a word. Leaves to others: finding
the bounds (`compiler.targets`), the engine itself.
"""

from collections.abc import Mapping

from appliance.errors import EngineLoad, RequestError
from appliance.tensors import Array, Interface
from runtime.engines.engine import Engine


class Bounded:
    """Another engine behind a check of its inputs."""

    def __init__(self, engine: Engine, bounds: Mapping[str, tuple[int, int]]) -> None:
        """Check the inputs named in `bounds`, lowest and highest value each; EngineLoad for an unknown one."""
        unknown = sorted(bounds.keys() - {spec.name for spec in engine.interface.inputs})
        if unknown:
            raise EngineLoad(
                f"the engine has bounds of {', '.join(unknown)}, which are no inputs of the version",
                remedy="build the bundle again: this engine belongs to another model",
            )
        self._engine = engine
        self._bounds = dict(bounds)

    @property
    def kind(self) -> str:
        """See Engine."""
        return self._engine.kind

    @property
    def interface(self) -> Interface:
        """See Engine."""
        return self._engine.interface

    @property
    def resting(self) -> bool:
        """See Engine."""
        return self._engine.resting

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See Engine. Raises RequestError for an input outside of its bounds."""
        for name, (low, high) in self._bounds.items():
            array = inputs[name]
            if array.size and (array.min() < low or array.max() > high):
                worst = array.min() if array.min() < low else array.max()
                raise RequestError(
                    f"input '{name}' holds {worst}, this version takes {low} to {high}",
                    remedy=f"send values from {low} to {high}; what lies outside has no entry in the "
                    "model's tables or needs more than 32 bits",
                )
        return self._engine.run(inputs)

    def lane(self) -> "Bounded":
        """See Engine."""
        return Bounded(self._engine.lane(), self._bounds)

    def close(self) -> None:
        """See Engine."""
        self._engine.close()
