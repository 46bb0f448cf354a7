"""One engine file on a GPU: its execution, its kernels and the constants of its programs.

Knows: what is loaded of a file, and in which order it is given back. Rules: the bytes of the plan are read only while it is
loaded; equal constants of several programs lie on the device once. Leaves to others: the file's form (`engine_file`), running plans
(whoever gives `Opener`), whether there is room (`holding`).
"""

import ctypes
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

from runtime.gpu.device import Device, Function, Handle, Pointer
from runtime.gpu.engine_file import EngineFile
from runtime.gpu.execution import Execution

# Makes an execution of a device, a plan, the engine file's header and a number of lanes.
Opener: TypeAlias = Callable[[Device, memoryview, Any], Execution]


class HeldEngine:
    """An engine that is loaded. `lanes` are the numbers of those that are open, `used` when one was last opened."""

    def __init__(self, device: Device, path: Path, file: EngineFile, opener: Opener) -> None:
        """Load `file`, read from `path`. Raises EngineLoad, GpuError."""
        self.path, self.header = path, file.header
        self._device = device
        self._functions: dict[str, Function] = {}
        self.names = frozenset(file.header.kernels)
        self._module = _loaded(device, file)
        try:
            with file.plan() as plan:  # a view of the file, not a copy
                self.execution = opener(device, plan, file.header)
            self.constants = Constants(device)
        except BaseException:
            self._unload()
            raise
        self.lanes: set[int] = set()
        self.used = 0

    def kernel(self, name: str) -> Function:
        """A kernel of the file. Raises GpuError when the module has none of that name."""
        found = self._functions.get(name)
        if found is None:
            found = self._functions[name] = self._device.function(self._module, name)
        return found

    def close(self) -> None:
        """Give everything back; its lanes were closed before."""
        assert not self.lanes
        self.execution.close()
        self.constants.close()
        self._unload()

    def _unload(self) -> None:
        if self._module:
            self._device.unload(self._module)
            self._module = 0


class Constants:
    """Bytes on the device that programs share, by what they are."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._kept: dict[bytes, tuple[Pointer, int]] = {}

    def take(self, data: bytes) -> Pointer:
        """Where `data` lies, for one more program; 0 when there is none. Raises GpuMemory."""
        if not data:
            return 0
        pointer, users = self._kept.get(data, (0, 0))
        self._kept[data] = (pointer or self._placed(data), users + 1)
        return self._kept[data][0]

    def give(self, data: bytes) -> None:
        """One program less needs `data`."""
        if not data:
            return
        pointer, users = self._kept[data]
        if users > 1:
            self._kept[data] = (pointer, users - 1)
        else:
            del self._kept[data]
            self._device.free(pointer)

    def close(self) -> None:
        """Free all."""
        for pointer, _ in self._kept.values():
            self._device.free(pointer)
        self._kept.clear()

    def _placed(self, data: bytes) -> Pointer:
        host = ctypes.create_string_buffer(data, len(data))
        with ExitStack() as failing, ExitStack() as copying:
            pointer = self._device.allocate(len(data))
            failing.callback(self._device.free, pointer)
            stream = self._device.stream()
            copying.callback(self._device.drop_stream, stream)
            self._device.copy_in(pointer, ctypes.addressof(host), len(data), stream)
            self._device.synchronise(stream)
            failing.pop_all()
        return pointer


def _loaded(device: Device, file: EngineFile) -> Handle:
    """The file's kernels for this device, 0 when it has none at all. Raises EngineLoad when none are for it."""
    return device.load(file.module(device.capability)) if file.header.kernels else 0
