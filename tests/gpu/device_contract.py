"""What every Device keeps, whichever library is behind it: the tests of pycuda, cuda-bindings and the fake.

Knows: the promises of `runtime.gpu.device`. Rules: a room that wants them imports all names of this one and has two
fixtures: `device`, open and closed again by the fixture, and `image`, a module whose kernels are
`fill(float *to, int32 count, float value)`, `add_long(int64 *to, int64 value)`, which adds once, and `trespass(void *to)`,
which writes to an address that nobody may write to. PTX holds them for real devices and for the stub of a driver.
Leaves to others: what only one library does.
"""

import mmap
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from appliance.errors import GpuError, GpuLost, GpuMemory
from runtime.gpu.device import Address, Float32, Int32, Int64

__all__ = [
    "PTX",
    "test_a_capture_that_fails_leaves_the_stream_usable",
    "test_a_kernel_that_trespasses_breaks_the_context_for_good",
    "test_a_kernel_writes_what_it_is_told",
    "test_a_module_without_kernels_is_refused",
    "test_a_stream_waits_for_anothers_mark",
    "test_another_thread_uses_it_while_it_has_entered",
    "test_bytes_go_in_and_come_out",
    "test_extent_is_what_lies_behind_a_pointer",
    "test_handles_of_shared_memory_that_are_none",
    "test_it_says_what_it_is",
    "test_kernels_are_found_by_name",
    "test_launches_that_no_device_takes",
    "test_marks_are_reached_in_order_and_keep_time",
    "test_memory_is_given_and_given_back",
    "test_more_memory_than_there_is",
    "test_negative_and_large_numbers_arrive_whole",
    "test_what_another_thread_takes_ends_no_capture",
    "test_what_is_captured_runs_only_when_replayed",
]

# PTX of the oldest release that knows sm_75; assembled by a test.
PTX = b"""
.version 6.3
.target sm_75
.address_size 64

.visible .entry fill(.param .u64 fill_to, .param .u32 fill_count, .param .f32 fill_value)
{
    .reg .pred %beyond;
    .reg .f32 %value;
    .reg .b32 %count, %block, %threads, %thread, %at;
    .reg .b64 %to, %base, %offset, %place;
    ld.param.u64 %to, [fill_to];
    ld.param.u32 %count, [fill_count];
    ld.param.f32 %value, [fill_value];
    mov.u32 %block, %ctaid.x;
    mov.u32 %threads, %ntid.x;
    mov.u32 %thread, %tid.x;
    mad.lo.s32 %at, %block, %threads, %thread;
    setp.ge.u32 %beyond, %at, %count;
    @%beyond bra DONE;
    cvta.to.global.u64 %base, %to;
    mul.wide.u32 %offset, %at, 4;
    add.s64 %place, %base, %offset;
    st.global.f32 [%place], %value;
DONE:
    ret;
}

.visible .entry add_long(.param .u64 add_to, .param .u64 add_value)
{
    .reg .b64 %to, %base, %value, %old;
    ld.param.u64 %to, [add_to];
    ld.param.u64 %value, [add_value];
    cvta.to.global.u64 %base, %to;
    ld.global.s64 %old, [%base];
    add.s64 %old, %old, %value;
    st.global.s64 [%base], %old;
    ret;
}

.visible .entry trespass(.param .u64 trespass_to)
{
    .reg .b64 %to;
    ld.param.u64 %to, [trespass_to];
    st.global.s64 [%to], %to;
    ret;
}
"""
PAGE = mmap.PAGESIZE
ONE = (1, 1, 1)
NOWHERE = Address(16)


@contextmanager
def pinned(device, size=PAGE):
    """Host memory that is pinned, and its address."""
    memory = mmap.mmap(-1, size)
    view = memoryview(memory)
    host = device.pin(view)
    try:
        yield view, host
    finally:
        device.unpin(host)


@contextmanager
def streaming(device):
    stream = device.stream()
    yield stream
    device.drop_stream(stream)


def floats(view, count):
    return struct.unpack(f"{count}f", view[: 4 * count])


def test_it_says_what_it_is(device):
    assert device.name
    assert device.capability >= (7, 5)
    room = device.room()
    assert 0 < room.free <= room.total


def test_memory_is_given_and_given_back(device):
    pointers = [device.allocate(size) for size in (1, 255, 4096)]
    assert all(pointer % 256 == 0 for pointer in pointers)
    assert len(set(pointers)) == 3
    for pointer in pointers:
        device.free(pointer)


def test_more_memory_than_there_is(device):
    before = device.room()
    with pytest.raises(GpuMemory) as refused:
        device.allocate(2 * before.total)
    assert refused.value.remedy
    device.free(device.allocate(4096))  # nothing is broken by it


def test_extent_is_what_lies_behind_a_pointer(device):
    pointer = device.allocate(4096)
    assert device.extent(pointer) == 4096
    assert device.extent(pointer + 1024) == 3072
    device.free(pointer)


def test_bytes_go_in_and_come_out(device):
    first, second = device.allocate(512), device.allocate(512)
    with streaming(device) as stream, pinned(device) as (view, host):
        view[:256] = bytes(range(256))
        device.fill(first, 0xAB, 512, stream)
        device.copy_in(first + 256, host, 256, stream)
        device.copy(second, first, 512, stream)
        device.copy_out(host + 1024, second, 512, stream)
        device.synchronise(stream)
        assert view[1024:1536] == b"\xab" * 256 + bytes(range(256))
    device.free(first)
    device.free(second)


def test_a_kernel_writes_what_it_is_told(device, image):
    module, to = device.load(image), device.allocate(4096)
    fill = device.function(module, "fill")
    assert fill.registers > 0
    assert fill.local_bytes == 0
    with streaming(device) as stream, pinned(device) as (view, host):
        device.fill(to, 0, 4096, stream)
        device.launch(fill, (2, 1, 1), (64, 1, 1), [Address(to), Int32(100), Float32(1.5)], stream)
        device.copy_out(host, to, 4096, stream)
        device.synchronise(stream)
        assert floats(view, 101) == (1.5,) * 100 + (0.0,)
    device.unload(module)
    device.free(to)


def test_negative_and_large_numbers_arrive_whole(device, image):
    module, to = device.load(image), device.allocate(8)
    add = device.function(module, "add_long")
    with streaming(device) as stream, pinned(device) as (view, host):
        device.fill(to, 0, 8, stream)
        for value in (2**40 + 3, -(2**50)):
            device.launch(add, ONE, ONE, [Address(to), Int64(value)], stream)
        device.copy_out(host, to, 8, stream)
        device.synchronise(stream)
        assert struct.unpack("q", view[:8]) == (2**40 + 3 - 2**50,)
    device.unload(module)
    device.free(to)


def test_kernels_are_found_by_name(device, image):
    module = device.load(image)
    with pytest.raises(GpuError) as refused:
        device.function(module, "unheard_of")
    assert "unheard_of" in str(refused.value)
    device.unload(module)


def test_a_module_without_kernels_is_refused(device):
    with pytest.raises(GpuError) as refused:
        device.load(b"neither PTX nor a cubin")
    assert not isinstance(refused.value, GpuLost)
    device.free(device.allocate(256))  # nothing is broken by it


def test_launches_that_no_device_takes(device, image):
    module, to = device.load(image), device.allocate(256)
    fill = device.function(module, "fill")
    arguments = [Address(to), Int32(1), Float32(0)]
    with streaming(device) as stream:
        for grid, block in (((0, 1, 1), ONE), (ONE, (2048, 1, 1))):
            with pytest.raises(GpuError) as refused:
                device.launch(fill, grid, block, arguments, stream)
            assert not isinstance(refused.value, GpuLost)
        device.synchronise(stream)
    device.unload(module)
    device.free(to)


def test_marks_are_reached_in_order_and_keep_time(device):
    begin, end, to = device.event(), device.event(), device.allocate(1 << 20)
    with streaming(device) as stream:
        device.record(begin, stream)
        device.fill(to, 1, 1 << 20, stream)
        device.record(end, stream)
        device.synchronise(stream)
        assert device.reached(begin)
        assert device.reached(end)
        assert device.elapsed_ms(begin, end) >= 0
    device.drop_event(begin)
    device.drop_event(end)
    device.free(to)


def test_a_stream_waits_for_anothers_mark(device):
    to, mark = device.allocate(256), device.event()
    with streaming(device) as first, streaming(device) as second, pinned(device) as (view, host):
        device.fill(to, 7, 256, first)
        device.record(mark, first)
        device.wait(second, mark)
        device.copy_out(host, to, 256, second)
        device.synchronise(second)
        assert view[:256] == b"\x07" * 256
    device.drop_event(mark)
    device.free(to)


def test_what_is_captured_runs_only_when_replayed(device, image):
    module, to = device.load(image), device.allocate(8)
    add = device.function(module, "add_long")
    with streaming(device) as stream, pinned(device) as (view, host):
        device.fill(to, 0, 8, stream)
        device.synchronise(stream)
        with device.captured(stream) as capture:
            device.launch(add, ONE, ONE, [Address(to), Int64(5)], stream)
            device.copy_out(host, to, 8, stream)
        device.synchronise(stream)
        assert view[:8] == bytes(8)
        for _ in range(3):
            device.replay(capture.graph, stream)
        device.synchronise(stream)
        assert struct.unpack("q", view[:8]) == (15,)
        device.drop_graph(capture.graph)
    device.unload(module)
    device.free(to)


def test_a_capture_that_fails_leaves_the_stream_usable(device):
    to = device.allocate(256)
    with streaming(device) as stream, pinned(device) as (view, host):
        with pytest.raises(ZeroDivisionError), device.captured(stream):
            device.fill(to, 1 // 0, 256, stream)
        device.fill(to, 2, 256, stream)
        device.copy_out(host, to, 256, stream)
        device.synchronise(stream)
        assert view[:256] == b"\x02" * 256
    device.free(to)


def test_another_thread_uses_it_while_it_has_entered(device, image):
    def made():
        with device.entered():
            module, to = device.load(image), device.allocate(4096)
            with streaming(device) as stream:
                device.fill(to, 3, 4096, stream)
                device.synchronise(stream)
            return module, to

    def dropped(module, to):
        with device.entered():
            device.unload(module)
            device.free(to)

    with ThreadPoolExecutor(1) as pool, streaming(device) as stream, pinned(device) as (view, host):
        module, to = pool.submit(made).result()
        device.copy_out(host, to, 4096, stream)
        device.synchronise(stream)
        assert view[:4096] == b"\x03" * 4096
        with pytest.raises((GpuError, AssertionError)):
            pool.submit(device.allocate, 256).result()
        pool.submit(dropped, module, to).result()
        pool.submit(dropped, device.load(image), device.allocate(4096)).result()


def test_what_another_thread_takes_ends_no_capture(device, image):
    def beside():
        with device.entered():
            device.unload(device.load(image))
            device.free(device.allocate(4096))

    to = device.allocate(4096)
    with ThreadPoolExecutor(1) as pool, streaming(device) as stream:
        with device.captured(stream) as capture:
            device.fill(to, 1, 4096, stream)
            pool.submit(beside).result()
        assert capture.graph
        device.drop_graph(capture.graph)
    device.free(to)


def test_handles_of_shared_memory_that_are_none(device):
    with pytest.raises(GpuError) as refused:
        device.open_shared(bytes(range(64)))
    assert not isinstance(refused.value, GpuLost)


def test_a_kernel_that_trespasses_breaks_the_context_for_good(device, image):
    module, stream = device.load(image), device.stream()
    device.launch(device.function(module, "trespass"), ONE, ONE, [NOWHERE], stream)
    for _ in range(2):
        with pytest.raises(GpuLost) as refused:
            device.synchronise(stream)
        assert refused.value.remedy
    with pytest.raises(GpuLost):
        device.allocate(256)
