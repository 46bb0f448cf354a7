"""The GPUs of this process: one set of owners, whoever loads engines.

Knows: the settings that they are opened by. Rules: nothing is opened before the first engine for a GPU is
loaded, so that a box without one pays nothing; whoever begins a process that serves, measures or proves says its
settings first and releases the GPUs at the end; an owner's process ends with this one in any case. Leaves to
others: which device (`placing`), the device itself (`owner`, or `here` where no other process may be started).
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from appliance.config import GpuConfig

if TYPE_CHECKING:
    from runtime.gpu.engine_file import Header
    from runtime.gpu.here import OwnerHere
    from runtime.gpu.opened import Lane, Shared
    from runtime.gpu.standing import Standing

EXECUTIONS = "runtime.gpu.execution:open_execution"
DEVICES = "runtime.gpu.opening:open_device"
RELEASE_SECONDS_MAX = 1.0  # opening may take minutes, and a stop does not wait for it


class Loaded(Protocol):
    """An engine that a GPU has, or several; see `opened.Engine`."""

    @property
    def header(self) -> "Header":
        """What the engine file says of itself."""

    def lane(self) -> "Lane":
        """A lane of its own. Raises GpuError, GpuMemory."""

    def close(self) -> None:
        """Give back the engine's memory and its lanes'."""


class Gpus(Protocol):
    """All GPUs that this process may use."""

    def load(self, path: Path) -> Loaded:
        """Load an engine file. Raises EngineLoad, GpuMemory, GpuLost or GpuError."""

    def share(self, device: int, handle: bytes, size: int) -> "Shared":
        """Memory of another process; see `share`."""

    @property
    def ill(self) -> str:
        """See `trouble`."""

    def standings(self) -> "Sequence[Standing]":
        """How each stands."""

    def close(self) -> None:
        """Give every GPU back."""


class _Settings(NamedTuple):
    settings: GpuConfig
    executions: str
    devices: str
    here: bool


_lock = threading.Lock()
_settings = _Settings(GpuConfig(), EXECUTIONS, DEVICES, here=False)
_opened: Gpus | None = None


def use(
    settings: GpuConfig,
    *,
    executions: str | None = None,
    devices: str | None = None,
    here: bool = False,
) -> None:
    """Open GPUs by `settings` from now on; what is open stays as it is until `release`.

    `executions` and `devices` name what an owner imports to run plans and to reach a device ("room:function");
    a process that stands in for a GPU or for TensorRT says its own once, and they stay. `here` is for a process that
    may start no other: the first device's owner is the thread that loads the first engine.
    """
    global _settings  # noqa: PLW0603 - one set a process is what this room is for
    with _lock:
        _settings = _Settings(
            settings, executions or _settings.executions, devices or _settings.devices, here
        )


def settings() -> GpuConfig:
    """What GPUs are opened by now."""
    return _settings.settings


def gpus() -> Gpus:
    """The GPUs, opened now if they are not yet. Raises GpuUnusable or GpuError."""
    global _opened  # noqa: PLW0603 - as in use
    with _lock:
        if _opened is None:
            _opened = _open(_settings)
        return _opened


def release() -> None:
    """Give the GPUs back; engines that are still loaded are not used afterwards.

    Those that another thread is only opening are left to the end of this process.
    """
    global _opened
    if not _lock.acquire(timeout=RELEASE_SECONDS_MAX):
        return
    try:
        given, _opened = _opened, None
    finally:
        _lock.release()
    if given is not None:
        given.close()


def share(device: int, handle: bytes, size: int) -> "Shared":
    """Open `size` bytes that another process shares on GPU `device`, by its cudaIpcMemHandle_t.

    Raises GpuUnusable, GpuLost, or GpuError for a handle or size that cannot be.
    """
    return gpus().share(device, handle, size)


def standings() -> "tuple[Standing, ...]":
    """How each GPU that is open stands; none where no engine needs one. Asks each: not for the event loop."""
    opened = _opened  # without the lock, which is held for seconds while GPUs are opened
    return () if opened is None else tuple(opened.standings())


def trouble() -> str:
    """What is wrong with GPUs that have engines, "" when nothing is; one that starts again has trouble. Waits for nobody."""
    opened = _opened
    return "" if opened is None else opened.ill


def _open(told: _Settings) -> Gpus:
    # Late, as only a box with a GPU is to pay for it.
    if told.here:
        from runtime.gpu.here import OwnerHere  # noqa: PLC0415

        return _Single(
            OwnerHere(
                told.settings.devices[0],
                executions=told.executions,
                devices=told.devices,
                settings=told.settings,
            )
        )
    from runtime.gpu.placing import Owners  # noqa: PLC0415

    return Owners(told.settings, executions=told.executions, devices=told.devices)


class _Single:
    """The one GPU of a process that owns it itself."""

    def __init__(self, owner: "OwnerHere") -> None:
        self._owner = owner
        self.load, self.close = owner.load, owner.close

    def share(self, device: int, handle: bytes, size: int) -> "Shared":  # noqa: ARG002 - there is one
        """See Gpus."""
        return self._owner.share(handle, size)

    @property
    def ill(self) -> str:
        """See Gpus."""
        return self._owner.ill

    def standings(self) -> "Sequence[Standing]":
        """See Gpus."""
        return [self._owner.standing()]
