"""A GPU that is none: a Device over numpy memory, whose kernels are Python functions.

Knows: what a driver promises and refuses. Rules: a bad access breaks the device for good; a call from a thread that neither
opened nor entered it is a mistake of ours; what was not given back can be asked for. Leaves to others: memory and queues
(`fake_memory`, `fake_queues`), what to pretend (`pretence`), the kernels.

A module's image is made by `module_image({"symbol": "package.module:function"})`; such a function gets a `Launched`.
"""

import ctypes
import json
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from appliance.errors import GpuError, GpuLost, GpuMemory, GpuUnusable
from runtime.gpu.device import Function, Room, Scalar
from tests.gpu.fake_kernels import (
    MAGIC,
    Launched,
    call_of,
    check_scalar,
    illegal,
    module_image,
    sources_image,
)
from tests.gpu.fake_memory import Addresses, Bytes, IllegalAccess
from tests.gpu.fake_queues import Captured, Event, Queues, Work
from tests.gpu.pretence import Fault, Pretence, due, pretended

__all__ = ["FakeDevice", "Launched", "illegal", "module_image", "open_fake", "sources_image"]

LAUNCH_MOST = (2**31 - 1, 65535, 65535, 1024, 1024, 64)  # blocks, then threads, by axis


def open_fake(_name: str = "0", _library: str = "auto") -> "FakeDevice":
    """A fake as the environment says, or with every default."""
    return FakeDevice(pretended())


class FakeDevice:
    """See Device. `calls` counts what was asked, `launched` what was run; `leaks` says what was not given back."""

    def __init__(self, pretence: Pretence | None = None) -> None:
        self.pretence = pretence or Pretence()
        self.calls: Counter[str] = Counter()
        self.launched: Counter[str] = Counter()
        self.lost = ""
        self._threads = {threading.get_ident()}
        self._running = threading.RLock()
        self._addresses, self._queues = Addresses(), Queues()
        self._modules: dict[int, dict[str, str]] = {}
        self._functions: dict[int, tuple[str, Callable[[Launched], None]]] = {}
        self._graphs: dict[int, list[Work]] = {}
        self._handles = 0
        self._closed = False

    @property
    def name(self) -> str:
        return self.pretence.name

    @property
    def capability(self) -> tuple[int, int]:
        return self.pretence.capability

    @contextmanager
    def entered(self) -> Iterator[None]:
        self._threads.add(threading.get_ident())
        try:
            yield
        finally:
            self._threads.discard(threading.get_ident())

    def room(self) -> Room:
        self._called("room")
        total = self.pretence.memory_bytes
        return Room(total - self._addresses.used, total)

    def allocate(self, size: int) -> int:
        self._called("allocate", capturing=False)
        if size <= 0:
            raise GpuError(f"cuMemAlloc of {size} bytes: invalid value", remedy="ask for some")
        free = self.room().free
        if size > free:
            raise GpuMemory(f"{free} bytes are free, {size} are asked for", remedy="free some")
        return self._addresses.allocate(size)

    def free(self, pointer: int) -> None:
        self._called("free", capturing=False)
        for stream in list(self._queues.streams):
            self._run(lambda stream=stream: self._queues.drain(stream))  # it waits for the device
        self._checked(self._addresses.release(pointer, self._addresses.owned), "cuMemFree")

    def extent(self, pointer: int) -> int:
        return self._run(lambda: self._addresses.extent(pointer))

    def pin(self, memory: memoryview) -> int:
        self._called("pin", capturing=False)
        assert not memory.readonly
        pointer = self._addresses.pin(memory)
        self._checked(pointer is not None, "cuMemHostRegister")
        return pointer or 0

    def unpin(self, pointer: int) -> None:
        self._called("unpin", capturing=False)
        found = self._addresses.pinned.pop(pointer, None)
        self._checked(found is not None, "cuMemHostUnregister")

    def stream(self) -> int:
        self._called("stream", capturing=False)
        return self._kept(self._queues.streams, deque())

    def drop_stream(self, stream: int) -> None:
        self._called("drop_stream")
        self._run(lambda: self._queues.drain(stream))
        del self._queues.streams[stream]

    def event(self) -> int:
        self._called("event")
        return self._kept(self._queues.events, Event())

    def drop_event(self, event: int) -> None:
        self._called("drop_event")
        del self._queues.events[event]

    def record(self, event: int, stream: int) -> None:
        self._called("record")
        self._queues.record(event, stream)

    def reached(self, event: int) -> bool:
        self._called("reached", capturing=False)
        return self._run(lambda: self._queues.reached(event))

    def wait(self, stream: int, event: int) -> None:
        self._called("wait")
        self._queues.wait(stream, event)

    def elapsed_ms(self, begin: int, end: int) -> float:
        self._called("elapsed_ms")
        found = self._queues.elapsed_ms(begin, end)
        self._checked(found is not None, "cuEventElapsedTime")
        return found or 0.0

    def synchronise(self, stream: int) -> None:
        self._called("synchronise", capturing=False)
        self._run(lambda: self._queues.drain(stream))

    def copy_in(self, to: int, host: int, size: int, stream: int) -> None:
        self._called("copy_in")
        memory = self._host(host, size, stream)
        self._queues.add(stream, lambda: self._write(to, memory))

    def copy_out(self, host: int, source: int, size: int, stream: int) -> None:
        self._called("copy_out")
        memory = self._host(host, size, stream)

        def read() -> None:
            memory[:] = self.memory(source, size)

        self._queues.add(stream, read)

    def copy(self, to: int, source: int, size: int, stream: int) -> None:
        self._called("copy")
        self._queues.add(stream, lambda: self._write(to, self.memory(source, size)))

    def fill(self, to: int, byte: int, size: int, stream: int) -> None:
        self._called("fill")
        self._queues.add(stream, lambda: self.memory(to, size).fill(byte))

    def load(self, image: bytes) -> int:
        self._called("load", capturing=False)
        self._checked(bytes(image).startswith(MAGIC), "cuModuleLoadData")
        return self._kept(self._modules, json.loads(bytes(image)[len(MAGIC) :]))

    def unload(self, module: int) -> None:
        self._called("unload", capturing=False)
        del self._modules[module]

    def function(self, module: int, name: str) -> Function:
        self._called("function")
        place = self._modules[module].get(name)
        if place is None:
            raise GpuError(f"cuModuleGetFunction {name}: not found", remedy="build it again")
        return Function(
            self._kept(self._functions, (name, call_of(place))), registers=32, local_bytes=0
        )

    def launch(
        self,
        function: Function,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Scalar],
        stream: int,
    ) -> None:
        self._called("launch")
        sizes = zip((*grid, *block), LAUNCH_MOST, strict=True)
        fits = all(0 < size <= most for size, most in sizes)
        self._checked(fits and block[0] * block[1] * block[2] <= 1024, "cuLaunchKernel")
        for argument in arguments:
            check_scalar(argument)
        name, call = self._functions[function.handle]
        launched = Launched(self, grid, block, tuple(arguments))

        def run() -> None:
            self.launched[name] += 1
            call(launched)

        self._queues.add(stream, run)

    @contextmanager
    def captured(self, stream: int) -> Iterator[Captured]:
        self._called("captured", capturing=False)
        capture = self._queues.capturing[stream] = Captured()
        try:
            yield capture
        finally:
            del self._queues.capturing[stream]
        self._checked(not capture.broken, "cuStreamEndCapture")
        capture.graph = self._kept(self._graphs, capture.queued)

    def replay(self, graph: int, stream: int) -> None:
        self._called("replay")
        for work in self._graphs[graph]:
            self._queues.add(stream, work)

    def drop_graph(self, graph: int) -> None:
        self._called("drop_graph")
        del self._graphs[graph]

    def open_shared(self, handle: bytes) -> int:
        """Opens the object of /dev/shm whose name the handle is, filled up with zeros."""
        self._called("open_shared", capturing=False)
        assert len(handle) == 64
        pointer = self._addresses.map_shared(handle)
        self._checked(pointer is not None, "cuIpcOpenMemHandle")
        return pointer or 0

    def close_shared(self, pointer: int) -> None:
        self._called("close_shared", capturing=False)
        found = self._addresses.release(pointer, self._addresses.shared)
        self._checked(found, "cuIpcCloseMemHandle")

    def close(self) -> None:
        """Write the ledger, if there is to be one. Works on a lost device too."""
        self._closed = True
        if self.pretence.ledger:
            told = {"calls": self.calls, "leaks": self.leaks(), "launched": self.launched}
            with Path(self.pretence.ledger).open("a") as ledger:
                ledger.write(json.dumps(told | {"pid": os.getpid()}) + "\n")

    def leaks(self) -> dict[str, int]:
        """How many of each thing were not given back."""
        kept: dict[str, Mapping[int, object]] = {
            "memory": self._addresses.owned,
            "shared": self._addresses.shared,
            "pinned": self._addresses.pinned,
            "streams": self._queues.streams,
            "events": self._queues.events,
            "modules": self._modules,
            "graphs": self._graphs,
        }
        return {name: len(things) for name, things in kept.items() if things}

    def memory(self, pointer: int, size: int) -> Bytes:
        """The bytes there; what lies outside of one allocation breaks the device."""
        return self._run(lambda: self._addresses.bytes(pointer, size))

    def _write(self, to: int, data: Bytes) -> None:
        self.memory(to, data.size)[:] = data

    def _host(self, host: int, size: int, stream: int) -> Bytes:
        """The host's memory there. What is not pinned waits for the stream, which no capture can."""
        memory = self._addresses.host(host, size)
        if memory is not None:
            return memory
        if stream in self._queues.capturing:
            self._queues.capturing[stream].broken = True
            raise GpuError("a copy of memory that is not pinned in a capture", remedy="pin it")
        self._run(lambda: self._queues.drain(stream))
        return np.frombuffer((ctypes.c_uint8 * size).from_address(host), np.uint8)

    def _run(self, work: Callable[[], Any]) -> Any:
        try:
            with self._running:
                return work()
        except IllegalAccess as access:
            self._break(str(access))

    def _kept(self, things: dict[int, Any], thing: object) -> int:
        self._handles += 1
        things[self._handles] = thing
        return self._handles

    def _break(self, why: str) -> NoReturn:
        self.lost = self.lost or why
        raise GpuLost(self.lost, remedy="the GPU's owner is started again")

    def _called(self, name: str, *, capturing: bool = True) -> None:
        assert threading.get_ident() in self._threads, f"{name} on a thread that owns no GPU"
        assert not self._closed, f"{name} after close"
        self.calls[name] += 1
        if self.lost:
            self._break(self.lost)
        # What another thread captures is none of this one's business: the mode is relaxed.
        captures = [] if capturing else list(self._queues.capturing.values())
        if own := [each for each in captures if each.thread == threading.get_ident()]:
            for capture in own:
                capture.broken = True
            raise GpuError(f"{name}: not permitted while capturing", remedy="after the capture")
        for fault in self.pretence.faults:
            if fault.call == name and fault.at == self.calls[name] and due(fault):
                self._fail(fault)

    def _fail(self, fault: Fault) -> NoReturn:
        if fault.kind == "lost":
            self._break(f"{fault.call} met a sticky error")
        if fault.kind == "memory":
            raise GpuMemory(f"{fault.call}: out of memory", remedy="free some")
        if fault.kind == "unusable":
            raise GpuUnusable(f"{fault.call}: the driver says no", remedy="ask the doctor")
        if fault.kind == "exit":
            os._exit(66)
        while fault.kind == "hang":
            time.sleep(60)
        raise GpuError(f"{fault.call}: failed on demand", remedy="demand less")

    def _checked(self, fine: bool, call: str) -> None:
        if not fine:
            raise GpuError(f"{call}: invalid value", remedy="ask for what there is")
