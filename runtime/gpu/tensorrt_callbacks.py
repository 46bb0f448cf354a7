"""The classes of ours that TensorRT calls back: errors, progress, device memory, a plan's bytes.

Knows: what the bindings ask of a class that derives from theirs, such as the call of their __init__ and names that
differ from what their documentation says. Rules: nothing lets an exception out, which TensorRT would swallow: it is
kept for whoever asked; each may be called from TensorRT's own threads. Leaves to others: the bindings themselves, given
as `trt` (`tensorrt_library`).
"""

import threading
from collections.abc import Callable
from typing import Any, Protocol

from appliance.errors import GpuError


class Recorder(Protocol):
    """An IErrorRecorder of ours: `recorded` holds the name of each code and the description."""

    recorded: list[tuple[str, str]]


def new_recorder(trt: Any) -> Any:
    """A Recorder to assign to an `error_recorder`; TensorRT calls it from any thread."""

    class ErrorRecorder(trt.IErrorRecorder):  # type: ignore[misc]
        """Keeps errors until they are cleared."""

        def __init__(self) -> None:
            trt.IErrorRecorder.__init__(self)
            self.recorded: list[tuple[str, str]] = []
            self._codes: list[Any] = []

        def clear(self) -> None:
            self.recorded.clear()
            self._codes.clear()

        def num_errors(self) -> int:
            return len(self.recorded)

        get_num_errors = num_errors  # the name by which the bindings look for it when TensorRT asks

        def get_error_code(self, index: int) -> Any:
            return self._codes[index]

        def get_error_desc(self, index: int) -> str:
            return self.recorded[index][1]

        def has_overflowed(self) -> bool:
            return False

        def report_error(self, code: Any, description: str) -> bool:
            self._codes.append(code)
            self.recorded.append((code.name, description))
            return False  # whether to go on is TensorRT's own choice

    return ErrorRecorder()


def new_monitor(trt: Any, tell: Callable[[str, int, int], bool]) -> Any:
    """An IProgressMonitor: `tell(phase, steps done, steps)` after each step; when it says False the build ends.

    `tell` is called from TensorRT's threads, one at a time. What it raises ends the build and is the
    monitor's `error`.
    """

    class ProgressMonitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Counts the steps of each phase."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.error: Exception | None = None
            self._steps: dict[str, int] = {}
            self._lock = threading.Lock()

        def phase_start(self, phase_name: str, _parent: str | None, num_steps: int) -> None:
            self._told(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return self._told(phase_name, step + 1, None)

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._steps.pop(phase_name, None)

        def _told(self, phase: str, done: int, steps: int | None) -> bool:
            with self._lock:
                if steps is not None:
                    self._steps[phase] = steps
                try:
                    return self.error is None and tell(phase, done, self._steps.get(phase, done))
                except Exception as error:  # noqa: BLE001 - TensorRT would swallow it; whoever builds raises it
                    self.error = error
                    return False

    return ProgressMonitor()


class Memory(Protocol):
    """What an allocator takes from a device: see `runtime.gpu.device.Device`."""

    def allocate(self, size: int) -> int:
        """Device memory. Raises GpuMemory."""

    def free(self, pointer: int) -> None:
        """Give it back."""


class Allocator(Protocol):
    """An IGpuAllocator of ours."""

    error: GpuError | None  # of the last allocation that failed


def new_allocator(trt: Any, memory: Memory) -> Any:
    """An Allocator to assign to a Runtime's `gpu_allocator`: a GPU that is full is said so by its own numbers.

    It has no `allocate_async`: the bindings never call one, in no release from 10.3 to 11.4, but `allocate`
    for both (measured over C++ by the tests); memory given back is freed when the device has come to it.
    """

    class GpuAllocator(trt.IGpuAllocator):  # type: ignore[misc]
        """Takes from the device, and gives back only what it took."""

        def __init__(self) -> None:
            trt.IGpuAllocator.__init__(self)
            self.error: GpuError | None = None
            self._held: set[int] = set()

        def allocate(self, size: int, _alignment: int, _flags: int) -> int:
            try:
                pointer = memory.allocate(size) if size else 0
            except GpuError as error:
                self.error = error
                return 0  # TensorRT's word for "there is none"
            if pointer:
                self._held.add(pointer)
            return pointer

        def reallocate(self, _address: int, _alignment: int, _new_size: int) -> int:
            return 0  # TensorRT's word for "not here": it takes new memory and copies

        def deallocate(self, address: int) -> bool:
            if not address:
                return True
            if address not in self._held:
                return False
            self._held.discard(address)
            try:
                memory.free(address)
            except GpuError as error:
                self.error = error
                return False
            return True

    return GpuAllocator()


def new_writer(trt: Any, write: Callable[[bytes], object]) -> Any:
    """An IStreamWriter that hands on the plan piece by piece (TensorRT 10.13 and later)."""

    class StreamWriter(trt.IStreamWriter):  # type: ignore[misc]
        """Hands on bytes, and keeps what went wrong as `error`."""

        def __init__(self) -> None:
            trt.IStreamWriter.__init__(self)
            self.error: Exception | None = None

        def write(self, data: bytes) -> int:
            try:
                write(data)
            except Exception as error:  # noqa: BLE001 - TensorRT would swallow it; whoever builds raises it
                self.error = error
                return 0
            return len(data)

    return StreamWriter()
