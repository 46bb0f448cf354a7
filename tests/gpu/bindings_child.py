"""Run in a child process that imports TensorRT's real bindings: our subclasses, called as the library calls them.

A method of the bindings' base class is a call through C++: it goes to the override as a call from inside TensorRT does.
"""

import ctypes
from typing import Any

from appliance.errors import GpuError, GpuMemory
from runtime.gpu import tensorrt_library as room

new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
pointer_of.restype = ctypes.c_void_p
pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]


def address(capsule: object) -> int | None:
    """What the library passes on as `void*`."""
    found: int | None = pointer_of(capsule, None)
    return found


class Memory:
    """A device's memory, as far as an allocator asks: `most` bytes of it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.given: dict[int, int] = {}

    def allocate(self, size: int) -> int:
        if size + sum(self.given.values()) > self.most:
            raise GpuMemory("full", remedy="free some")
        pointer = 0x7000_0000 + 4096 * len(self.given)
        self.given[pointer] = size
        return pointer

    def free(self, pointer: int) -> None:
        del self.given[pointer]


class Gpu:
    name = "a GPU that a driver answered for"


def logger(trt: Any) -> None:
    log = room.log_of(trt)
    assert room.log_of(trt) is log
    with log.heard() as heard:
        trt.ILogger.log(log.logger, trt.ILogger.Severity.ERROR, "In node 3 (parse): no")
        trt.ILogger.log(log.logger, trt.ILogger.Severity.WARNING, "slow")
    trt.ILogger.log(log.logger, trt.ILogger.Severity.ERROR, "nobody listens")
    assert heard.errors == ["In node 3 (parse): no"]
    assert heard.warnings == ["slow"]


def recorder(trt: Any) -> None:
    made = room.new_recorder(trt)
    code = trt.ErrorCodeTRT.INVALID_CONFIG
    assert trt.IErrorRecorder.report_error(made, code, "Workspace is too small") is False
    assert made.recorded == [("INVALID_CONFIG", "Workspace is too small")]
    assert trt.IErrorRecorder.num_errors(made) == 1
    assert trt.IErrorRecorder.get_error_code(made, 0) == code
    assert trt.IErrorRecorder.get_error_desc(made, 0) == "Workspace is too small"
    assert trt.IErrorRecorder.has_overflowed(made) is False
    trt.IErrorRecorder.clear(made)
    assert trt.IErrorRecorder.num_errors(made) == 0


def monitor(trt: Any) -> None:
    told: list[tuple[str, int, int]] = []
    made = room.new_monitor(trt, lambda *step: told.append(step) or len(told) < 4)
    base = trt.IProgressMonitor
    base.phase_start(made, "Timing", "Building", 3)
    assert base.step_complete(made, "Timing", 0) is True
    assert base.step_complete(made, "Timing", 1) is True
    assert base.step_complete(made, "Timing", 2) is False
    base.phase_finish(made, "Timing")
    assert told == [("Timing", 0, 3), ("Timing", 1, 3), ("Timing", 2, 3), ("Timing", 3, 3)]

    def broken(*step: object) -> bool:
        raise OSError("the bar is gone")

    made = room.new_monitor(trt, broken)
    base.phase_start(made, "Timing", "Building", 3)
    assert base.step_complete(made, "Timing", 0) is False
    assert str(made.error) == "the bar is gone"


def allocator(trt: Any) -> None:
    memory = Memory(4096)
    made = room.new_allocator(trt, memory)
    base = trt.IGpuAllocator
    # What the base gives back is a capsule around the pointer, as our number went through C++ as an address.
    first, second = base.allocate(made, 1000, 256, 0), base.allocate_async(made, 96, 256, 0, 5)
    assert [address(first), address(second)] == list(memory.given)
    assert base.allocate(made, 0, 256, 0) is None
    assert base.reallocate(made, first, 256, 2000) is None
    assert list(memory.given.values()) == [1000, 96]
    assert base.allocate(made, 4096, 256, 0) is None
    assert isinstance(made.error, GpuMemory)
    assert base.deallocate(made, first) is True
    assert base.deallocate_async(made, second, 5) is True
    assert base.deallocate(made, new_capsule(0x1234, None, None)) is False
    assert not memory.given


def writer(trt: Any) -> None:
    if not hasattr(trt, "IStreamWriter"):
        return
    pieces: list[bytes] = []
    made = room.new_writer(trt, pieces.append)
    data = ctypes.create_string_buffer(b"a plan's bytes", 14)
    capsule = new_capsule(ctypes.addressof(data), None, None)
    assert trt.IStreamWriter.write(made, capsule, 14) == 14
    assert pieces == [b"a plan's bytes"]


def creation(trt: Any) -> None:
    """Over libraries that make nothing, each creation is an error of ours, never a crash."""
    for make in (room.created_runtime, room.created_builder):
        told = ""
        try:
            make(trt, Gpu())
        except GpuError as error:
            told = str(error)
        lean = make is room.created_builder and not room.builds(trt)
        assert ("builds no engines" if lean else "TensorRT makes no") in told, told


def main() -> None:
    trt = room.library()
    for check in (logger, recorder, monitor, allocator, writer, creation):
        check(trt)
        print(check.__name__, flush=True)


if __name__ == "__main__":
    main()
