"""The contract of devices over a stub of the driver: run by test_devices.py, in a process of its own for each library.

What only the two libraries promise is here too: which of the driver's errors becomes which of ours.
"""

import atexit
import ctypes
import os

import pytest

from appliance.driver import asking
from appliance.errors import GpuError, GpuLost, GpuMemory, GpuUnusable
from runtime.gpu.device import Address, Float32, Int32
from runtime.gpu.driver_calls import driver_calls
from runtime.gpu.opening import open_device
from tests.gpu.device_contract import *  # noqa: F403 - the contract
from tests.gpu.device_contract import ONE, PTX, pinned

LIBRARY = os.environ["HOLDFAST_GPU_LIBRARY"]
STUB = ctypes.CDLL("libcuda.so.1")
STUB.stub_calls.argtypes = (ctypes.c_char_p,)


@pytest.fixture(autouse=True)
def plan():
    """Tells the stub how to behave from now on."""
    yield lambda text="": STUB.stub_plan(text.encode())
    STUB.stub_plan(b"")


@pytest.fixture
def image():
    return PTX


@pytest.fixture
def device(plan):
    opened = open_device("0", LIBRARY)
    yield opened
    plan()
    STUB.stub_mend()
    opened.close()
    assert STUB.stub_retained() == 0
    assert STUB.stub_depth() == 0


def test_the_library_asked_for_is_the_one_behind_it(device):
    assert LIBRARY in type(device).__name__.lower()


def test_nothing_is_left_of_a_device_that_was_closed(device):
    device.free(device.allocate(4096))
    device.drop_stream(device.stream())
    device.close()
    device.close()  # no harm in it
    assert STUB.stub_taken() == 0


def test_a_module_goes_although_its_kernels_were_asked_for(device, image):
    module = device.load(image)
    device.function(module, "fill")
    device.function(module, "trespass")
    before = STUB.stub_calls(b"cuModuleUnload")
    device.unload(module)
    assert STUB.stub_calls(b"cuModuleUnload") == before + 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (2, GpuMemory),
        (46, GpuUnusable),
        (304, GpuUnusable),
        (100, GpuUnusable),
        (214, GpuLost),
        (700, GpuLost),
        (702, GpuLost),
        (710, GpuLost),
        (719, GpuLost),
        (999, GpuLost),
        (1, GpuError),
        (801, GpuError),
    ],
)
def test_each_code_becomes_one_of_our_errors(device, plan, code, kind):
    stream = device.stream()
    plan(f"cuStreamSynchronize={code};cuMemHostRegister={code}")
    with pytest.raises(GpuError) as refused:
        device.synchronise(stream)
    assert type(refused.value) is kind
    assert driver_calls().told(code)[0] in str(refused.value)
    assert refused.value.remedy
    with pytest.raises(kind), pinned(device):
        pass


def test_every_call_hands_on_what_the_driver_says(device, plan):
    stream, event, to = device.stream(), device.event(), device.allocate(256)
    module = device.load(PTX)
    fill = device.function(module, "fill")
    arguments = (Address(to), Int32(1), Float32(1))
    with pinned(device) as (_, host), device.captured(stream) as capture:
        device.fill(to, 0, 8, stream)
    acts = {
        "cuMemGetInfo": device.room,
        "cuMemAlloc": lambda: device.allocate(256),
        "cuStreamCreate": device.stream,
        "cuEventCreate": device.event,
        "cuEventRecord": lambda: device.record(event, stream),
        "cuEventQuery": lambda: device.reached(event),
        "cuStreamWaitEvent": lambda: device.wait(stream, event),
        "cuEventElapsedTime": lambda: device.elapsed_ms(event, event),
        "cuMemcpyHtoDAsync": lambda: device.copy_in(to, host, 8, stream),
        "cuMemcpyDtoHAsync": lambda: device.copy_out(host, to, 8, stream),
        "cuMemcpyDtoDAsync": lambda: device.copy(to, to, 8, stream),
        "cuMemsetD8Async": lambda: device.fill(to, 0, 8, stream),
        "cuModuleLoadDataEx": lambda: device.load(PTX),
        "cuModuleGetFunction": lambda: device.function(module, "fill"),
        "cuLaunchKernel": lambda: device.launch(fill, ONE, ONE, arguments, stream),
        "cuGraphLaunch": lambda: device.replay(capture.graph, stream),
        "cuIpcOpenMemHandle": lambda: device.open_shared(b"stub" + bytes(60)),
        "cuMemGetAddressRange": lambda: device.extent(to),
    }
    for name, act in acts.items():
        plan(f"{name}=700")
        before = STUB.stub_calls(name.encode())
        with pytest.raises(GpuLost):
            act()
        assert STUB.stub_calls(name.encode()) == before + 1, name
    plan()
    device.drop_graph(capture.graph)


def test_a_graph_that_cannot_be_made_leaves_none_behind(device, plan):
    stream, to = device.stream(), device.allocate(256)
    plan("cuGraphInstantiateWithFlags=1")
    with pytest.raises(GpuError), device.captured(stream) as capture:
        device.fill(to, 1, 256, stream)
    assert capture.graph == 0
    assert STUB.stub_calls(b"cuGraphDestroy") >= 1


def test_what_is_not_done_yet_is_not_reached(device, plan):
    event, stream = device.event(), device.stream()
    device.record(event, stream)
    plan("cuEventQuery=600")
    assert not device.reached(event)
    plan()
    assert device.reached(event)


def test_the_words_of_the_drivers_compiler_are_told(device):
    with pytest.raises(GpuError) as refused:
        device.load(b"no kernels")
    assert "no .entry" in str(refused.value)
    assert "build the version again" in refused.value.remedy


def test_shared_memory_is_opened_and_closed(device):
    pointer = device.open_shared(b"stub" + bytes(60))
    stream = device.stream()
    device.fill(pointer, 1, 64, stream)
    device.close_shared(pointer)
    with pytest.raises(GpuError) as refused:
        device.open_shared(b"short")
    assert "64 bytes" in str(refused.value)


@pytest.mark.parametrize(
    "settings", ["cuInit=100", "cuInit=803", "cuInit=999", "count=0", "cuInit=34"]
)
def test_a_driver_without_devices(plan, settings):
    plan(settings)
    with pytest.raises(GpuUnusable):
        open_device("0", LIBRARY)


def test_a_device_is_found_by_the_beginning_of_its_uuid(plan):
    plan("count=2")
    for name in ("GPU-10111213", "1"):
        opened = open_device(name, LIBRARY)
        assert opened.name == "Stub GPU 1"
        opened.close()
    plan("count=2;mig=1")
    opened = open_device("MIG-01", LIBRARY)
    opened.close()
    for name in ("GPU-ff", "MIG-", "3"):
        with pytest.raises(GpuUnusable):
            open_device(name, LIBRARY)
    plan("count=2;cuDeviceGetCount=100")
    with pytest.raises(GpuUnusable):
        open_device("GPU-10111213", LIBRARY)


@pytest.mark.skipif(LIBRARY != "bindings", reason="pycuda cannot even be imported then")
def test_a_driver_that_lacks_what_the_bindings_ask_for(device, monkeypatch):
    def missing(*arguments):
        raise RuntimeError('Function "cuMemGetInfo_v2" not found')

    monkeypatch.setattr(device._driver, "cuMemGetInfo", missing)
    with pytest.raises(GpuUnusable) as refused:
        device.room()
    assert "too old for the installed cuda-bindings" in str(refused.value)


def test_what_the_driver_answers_to_the_probe(plan, monkeypatch):
    assert asking.ask()["gpus"][0]["name"] == "Stub GPU 0"
    plan("cuInit=999")
    refused = {
        "cuda": 13000,
        "gpus": [],
        "step": "cuInit",
        "code": 999,
        "name": "CUDA_ERROR_UNKNOWN",
    }
    assert asking.ask() == refused
    plan("cuDriverGetVersion=1;cuDeviceGetName=12345")
    told = asking.ask()
    assert (told["cuda"], told["step"], told["code"]) == (0, "cuDeviceGetName", 12345)
    assert "name" not in told
    monkeypatch.setattr(asking, "LIBRARY", "libm.so.6")
    assert "is no driver" in asking.ask()["error"]
    monkeypatch.setattr(asking, "LIBRARY", "libnothing.so.1")
    assert "cannot open shared object" in asking.ask()["error"]


def test_a_process_may_end_with_a_device_open():
    """pycuda would abort it; see the exit code that test_devices.py asks for."""
    opened = open_device("0", LIBRARY)
    atexit.register(lambda: opened)
