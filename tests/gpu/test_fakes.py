"""The fake of a GPU refuses what a driver refuses."""

import mmap
import threading
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pytest

from appliance.errors import GpuError, GpuLost, GpuMemory
from runtime.gpu.device import Int32
from tests.gpu.fakes import FakeDevice, module_image
from tests.gpu.pretence import Fault, Pretence


def test_work_runs_when_somebody_waits_and_streams_wait_for_each_other() -> None:
    device = FakeDevice()
    one, two, event = device.stream(), device.stream(), device.event()
    memory = memoryview(mmap.mmap(-1, 4096))
    host, there = device.pin(memory), device.allocate(8)
    memory[:4] = b"abcd"
    device.copy_in(there, host, 4, one)
    device.record(event, one)
    device.wait(two, event)
    device.copy_out(host + 8, there, 4, two)
    assert bytes(memory[8:12]) == bytes(4)
    assert not device.reached(event)
    device.synchronise(two)
    assert bytes(memory[8:12]) == b"abcd"
    assert device.reached(event)
    with pytest.raises(GpuError, match="cuEventElapsedTime"):
        device.elapsed_ms(event, device.event())
    assert device.extent(there + 3) == 5
    device.fill(there, 7, 8, one)
    device.free(there)
    assert device.leaks() == {"pinned": 1, "streams": 2, "events": 2}


def test_a_bad_access_breaks_it_for_good() -> None:
    device = FakeDevice()
    stream, there = device.stream(), device.allocate(8)
    module = device.load(module_image({"bad": "tests.gpu.fakes:illegal"}))
    device.launch(device.function(module, "bad"), (1, 1, 1), (1, 1, 1), [Int32(1)], stream)
    with pytest.raises(GpuLost, match="illegal"):
        device.synchronise(stream)
    with pytest.raises(GpuLost, match="illegal"):
        device.free(there)
    device.close()


def test_captures_take_queued_work_only() -> None:
    device = FakeDevice()
    stream, there = device.stream(), device.allocate(8)
    with device.captured(stream) as capture:
        device.fill(there, 1, 8, stream)
    device.synchronise(stream)
    assert (device.memory(there, 8) == 0xCD).all()
    device.replay(capture.graph, stream)
    device.synchronise(stream)
    assert (device.memory(there, 8) == 1).all()
    buffer = np.zeros(8, np.uint8)
    wrongs: list[tuple[str, Callable[[], object]]] = [
        ("not permitted", lambda: device.allocate(1)),
        ("not pinned", lambda: device.copy_in(there, buffer.ctypes.data, 8, stream)),
    ]
    for words, wrong in wrongs:
        with ExitStack() as capturing:
            capturing.enter_context(pytest.raises(GpuError, match="EndCapture"))
            capturing.enter_context(device.captured(stream))
            with pytest.raises(GpuError, match=words):
                wrong()


def test_limits_faults_and_threads() -> None:
    device = FakeDevice(Pretence(memory_bytes=100, faults=(Fault(call="event", kind="memory"),)))
    with pytest.raises(GpuMemory):
        device.allocate(101)
    with pytest.raises(GpuMemory):
        device.event()
    for wrong in (0, -1):
        with pytest.raises(GpuError):
            device.allocate(wrong)
    with pytest.raises(GpuError, match="cuModuleLoadData"):
        device.load(b"ELF")
    with pytest.raises(GpuError, match="not found"):
        device.function(device.load(module_image({})), "k")
    with pytest.raises(GpuError, match="cuMemFree"):
        device.free(123)
    caught: list[BaseException] = []

    def other() -> None:
        try:
            device.stream()
        except AssertionError as error:
            caught.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert "owns no GPU" in str(caught[0])
