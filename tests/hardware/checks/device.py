"""The device layer, by each library that is here: memory, streams, events, graphs, errors; and how fast it copies."""

import mmap
from typing import Any

import numpy as np

from appliance.errors import GpuError, GpuMemory, GpuUnusable
from runtime.gpu.device import Address, Device, Float32, Int32
from tests.hardware.checks.ground import Ground, through
from tests.hardware.checks.kernels import LAYER, layer
from tests.hardware.checks.outcome import NotRun, Told

ABOUT = "every call of the device layer, by pycuda and by cuda-bindings"


def check(ground: Ground, told: Told) -> None:
    """Run the contract by hand on each library."""
    done = 0
    for library in ("pycuda", "bindings"):
        try:
            device = ground.open(library)
        except GpuUnusable as error:
            told.note(f"{library}: {error}")
            continue
        try:
            _copies(ground, device, told, library)
            _launches(ground, device)
            _refusals(device)
        finally:
            device.close()
        done += 1
    if not done:
        raise NotRun("; ".join(told.notes))


def _copies(ground: Ground, device: Device, told: Told, library: str) -> None:
    """Bytes there and back, pinned, over two streams that wait for each other."""
    size = ground.sized(256 << 20, 1 << 16)
    memory = memoryview(mmap.mmap(-1, 2 * size))
    whole: Any = np.frombuffer(memory, np.uint8)
    whole[:size] = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    host, there = device.pin(memory), device.allocate(size)
    one, two = device.stream(), device.stream()
    marks = [device.event() for _ in range(4)]
    for again in range(2):  # the first warms up
        device.record(marks[0], one)
        device.copy_in(there, host, size, one)
        device.record(marks[1], one)
        device.wait(two, marks[1])
        device.record(marks[2], two)
        device.copy_out(host + size, there, size, two)
        device.record(marks[3], two)
        device.synchronise(two)
        assert np.array_equal(whole[:size], whole[size:]), f"copies differ in turn {again}"
        whole[size:] = 0
    for name, first in (("to the device", 0), ("from the device", 2)):
        seconds = max(device.elapsed_ms(marks[first], marks[first + 1]) / 1000, 1e-9)
        told.figure(f"{library}: pinned copies {name}", size / seconds / 1e9, "GB/s")
    device.fill(there, 7, size, one)
    device.copy_out(host, there, size, one)
    device.synchronise(one)
    assert (whole[:size] == 7).all(), "fill"
    assert device.extent(there + 5) == size - 5, "extent"
    for mark in marks:
        device.drop_event(mark)
    for stream in (one, two):
        device.drop_stream(stream)
    device.unpin(host)
    device.free(there)


def _launches(ground: Ground, device: Device) -> None:
    """A kernel as it is and as a graph."""
    (module,), _ = ground.compiled([layer])
    loaded, stream = device.load(module.image), device.stream()
    function = device.function(loaded, LAYER)
    count = 1000
    x = np.arange(count, dtype=np.float32)
    memory = memoryview(mmap.mmap(-1, 8192))
    view: Any = np.frombuffer(memory, np.float32)
    host = device.pin(memory)
    places = [device.allocate(count * 4) for _ in range(2)]
    view[:count] = x

    def work() -> None:
        values = (*map(Address, places[::-1]), Int32(count), Float32(2), Float32(1), Float32(-1e30))
        device.copy_in(places[0], host, count * 4, stream)
        device.launch(function, (8, 1, 1), (128, 1, 1), values, stream)
        device.copy_out(host + 4096, places[1], count * 4, stream)

    work()
    device.synchronise(stream)
    assert np.array_equal(view[1024 : 1024 + count], through(x, 1)), "a launch"
    with device.captured(stream) as capture:
        work()
    view[:count] = x + 1
    device.replay(capture.graph, stream)
    device.synchronise(stream)
    assert np.array_equal(view[1024 : 1024 + count], through(x + 1, 1)), "a graph"
    device.drop_graph(capture.graph)
    device.unload(loaded)
    device.unpin(host)
    for place in places:
        device.free(place)
    device.drop_stream(stream)


def _refusals(device: Device) -> None:
    """What cannot be is refused with a typed error, and the device works on."""
    room = device.room()
    try:
        device.allocate(room.total * 2)
    except GpuMemory:
        pass
    else:
        raise AssertionError("more memory than there is was given")
    try:
        device.load(b"this is no module" + bytes(64))
    except GpuError:
        pass
    else:
        raise AssertionError("a module of nonsense was taken")
    device.free(device.allocate(1 << 16))
