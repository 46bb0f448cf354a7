"""What every engine can do.

Knows: the Engine protocol. Rules: `run` may be called from one thread at a time per engine, releases the
GIL while computing, and copies nothing it need not. Leaves to others: batching, recipes, proof.
"""

from collections.abc import Mapping
from typing import Protocol

from appliance.tensors import Array, Interface


class Engine(Protocol):
    """A compiled model in memory, ready to run on this box."""

    @property
    def kind(self) -> str:
        """The engine's kind, as in the table of `runtime.engines`."""

    @property
    def interface(self) -> Interface:
        """What the engine takes and gives (batch axis as in `batch_max`)."""

    @property
    def resting(self) -> bool:
        """Whether it could not run now, though another lane may: its device is away for a while. Waits for nobody."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs from all inputs, both by name, with the batch axis when there is one.

        Raises EngineError when the engine fails; it stays usable for other inputs.
        """

    def lane(self) -> "Engine":
        """Another execution context over the same weights, to run beside this one on another thread.

        Raises EngineError when the engine has no further one.
        """

    def close(self) -> None:
        """Free what the engine holds but its other lanes; it is not used afterwards.

        A call that runs on another thread, because it hung, stays safe.
        """
