"""Several GPUs, and which of them gets what.

Knows: an owner for each device of the configuration. Rules: an engine is loaded on every device and its lanes go to the device that
has the fewest of them, so that whoever gives batches to free lanes balances the devices; a device that cannot be opened is an
error at the start. Leaves to others: one device (`owner`), which lane takes a batch (`runtime.batching`).
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from appliance.config import GpuConfig
from appliance.errors import GpuError
from runtime.gpu.engine_file import Header
from runtime.gpu.opened import Engine, Lane, Shared
from runtime.gpu.owner import Owner
from runtime.gpu.standing import Standing


class PlacedEngine:
    """One engine file on every device. Thread-safe as Engine is; see there."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = engines

    @property
    def header(self) -> Header:
        """See Engine."""
        return self._engines[0].header

    def shapes(self, inputs: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """See Engine."""
        return self._engines[0].shapes(inputs)

    def lane(self, slot_bytes: int = 0) -> Lane:
        """A lane on the device that has the fewest of this engine."""
        return min(self._engines, key=lambda engine: len(engine.lanes)).lane(slot_bytes)

    def close(self) -> None:
        """See Engine."""
        for engine in self._engines:
            engine.close()


class Owners:
    """The owners of all configured GPUs. Thread-safe."""

    def __init__(
        self,
        settings: GpuConfig,
        *,
        executions: str = "runtime.gpu.execution:open_execution",
        devices: str = "runtime.gpu.opening:open_device",
    ) -> None:
        """Open every device. Raises GpuUnusable, GpuError; none stays open then."""
        with ExitStack() as opening:
            self._owners: list[Owner] = []
            for device in settings.devices:
                owner = Owner(device, executions=executions, devices=devices, settings=settings)
                opening.callback(owner.close)
                self._owners.append(owner)
            opening.pop_all()

    def load(self, path: Path) -> PlacedEngine:
        """Load the engine file at `path` on every device. Raises EngineLoad, GpuMemory, GpuError; none has it then."""
        with ExitStack() as loading:
            engines = []
            for owner in self._owners:
                engines.append(owner.load(path))
                loading.callback(engines[-1].close)
            loading.pop_all()
        return PlacedEngine(engines)

    def share(self, device: int, handle: bytes, size: int) -> Shared:
        """Memory of another process on the GPU that the configuration calls by the number `device`, else on the `device`-th.

        Raises GpuError, also when there is no such GPU.
        """
        named = [owner for owner in self._owners if owner.device == str(device)]
        if not named and not 0 <= device < len(self._owners):
            raise GpuError(f"there is no GPU {device} here", remedy="name one of [gpu] devices")
        return (named[0] if named else self._owners[device]).share(handle, size)

    @property
    def ill(self) -> str:
        """What keeps GPUs that have engines from running them, "" when nothing does; see Owner."""
        return "; ".join(owner.ill for owner in self._owners if owner.ill)

    def standings(self) -> list[Standing]:
        """How each stands."""
        return [owner.standing() for owner in self._owners]

    def close(self) -> None:
        """Give every GPU back."""
        for owner in self._owners:
            owner.close()
