"""Telemetry through the real nvidia-ml-py over a stub of its library, and the watch over it."""

import json
import subprocess
import sys
import threading

import pytest

from appliance.clock import SystemClock
from appliance.errors import GpuUnusable
from runtime.gpu import telemetry
from runtime.gpu.telemetry import Reading, open_telemetry, throttles
from runtime.gpu.watching import AGE_SECONDS_MAX, GpuWatch
from tests.gpu.stub_libraries import over_stubs, stub_nvml

READING = Reading(device="0", uuid="GPU-0", name="GPU")
PROGRAM = """
import sys, msgspec
from appliance.errors import GpuUnusable
from runtime.gpu.telemetry import open_telemetry
names = sys.argv[1:]
try:
    opened = open_telemetry(names or None)
except GpuUnusable as error:
    print(msgspec.json.encode({"refused": str(error), "remedy": error.remedy}).decode())
else:
    print(msgspec.json.encode(opened.read()).decode())
    opened.close()
"""


def seen(*names, settings="", **told):
    pytest.importorskip("pynvml")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names],
        env=over_stubs(stub_nvml(), STUB_NVML=settings, **told),
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_each_gpu_tells_all():
    first, second = seen(settings="throttle=0x44")
    assert second["uuid"] == "GPU-1a"
    assert first == {
        "device": "0",
        "uuid": "GPU-0a",
        "name": "Stub GPU",
        "memory_used_bytes": 300,
        "memory_bytes": 4000,
        "busy": 0.75,
        "celsius": 61,
        "watts": 215.5,
        "throttled": ["power cap", "hardware thermal slowdown"],
        "ecc_corrected": 7,
        "ecc_uncorrected": 1,
        "trouble": "",
    }


def test_an_instance_tells_of_its_memory_and_of_its_gpu():
    (instance,) = seen("MIG-1b")
    assert instance["name"] == "Stub GPU MIG 1g.10gb"
    assert instance["memory_bytes"] == 1000
    assert instance["busy"] is None
    assert instance["celsius"] == 61


def test_gpus_are_found_by_number_and_uuid():
    assert [one["uuid"] for one in seen("1", "GPU-0")] == ["GPU-1a", "GPU-0a"]
    hidden = {"CUDA_VISIBLE_DEVICES": "1,GPU-0"}
    assert [one["uuid"] for one in seen("0", "1", **hidden)] == ["GPU-1a", "GPU-0a"]
    assert [one["device"] for one in seen("0", "1", **hidden)] == ["0", "1"]
    assert "lists 2" in seen("2", **hidden)["refused"]
    assert "no GPU of this box is called GPU-9" in seen("GPU-9")["refused"]
    assert "remedy" in seen("7")


def test_what_a_gpu_does_not_tell_is_unknown():
    settings = "nvmlDeviceGetTotalEccErrors=3;nvmlDeviceGetPowerUsage=4;nvmlDeviceGetTemperature=13"
    first, _ = seen(
        settings=f"{settings};nvmlDeviceGetMemoryInfo=3;nvmlDeviceGetUtilizationRates=3"
    )
    unknown = {name for name, value in first.items() if value is None}
    assert unknown == {
        *("ecc_corrected", "ecc_uncorrected", "watts", "celsius", "busy"),
        *("memory_used_bytes", "memory_bytes"),
    }
    first, _ = seen(settings="nvmlDeviceGetCurrentClocksThrottleReasons=3")
    assert first["throttled"] is None


def test_a_gpu_that_is_lost_says_so():
    first, _ = seen(settings="nvmlDeviceGetMemoryInfo=15")
    assert "lost" in first["trouble"]
    assert first["celsius"] is None


@pytest.mark.parametrize("settings", ["nvmlInitWithFlags=18", "nvmlDeviceGetCount_v2=999"])
def test_a_library_that_does_not_start(settings):
    assert "telemetry is not there" in seen(settings=settings)["refused"]
    assert seen(settings=settings)["remedy"]


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(GpuUnusable) as refused:
        open_telemetry()
    assert "extra `gpu`" in refused.value.remedy


def test_names_in_bytes_and_bits_that_nobody_knows():
    assert telemetry._text(b"GPU") == "GPU"
    assert throttles(0x1) == ()


class Source:
    """Readings on demand; counts what it is asked."""

    def __init__(self):
        self.closed, self.looked = threading.Event(), threading.Event()

    def read(self):
        self.looked.set()
        return (READING,)

    def close(self):
        self.closed.set()


class Later(SystemClock):
    by_ns = 0

    def monotonic_ns(self):
        return super().monotonic_ns() + self.by_ns


def test_a_watch_begins_when_a_gpu_is_used_and_ends_with_the_process():
    source, clock, used = Source(), Later(), threading.Event()
    watch = GpuWatch(lambda: source, used.is_set, clock, interval_seconds=0.001)
    assert watch.newest() == ()
    assert watch._thread is None
    used.set()
    watch.newest()
    assert source.looked.wait(60)
    source.looked.clear()
    assert source.looked.wait(60)
    assert watch.newest() == (READING,)
    watch.close()
    assert source.closed.wait(60)  # nobody is held up by a thread that is slow
    clock.by_ns = int(AGE_SECONDS_MAX * 2e9)
    assert watch.newest() == ()


def test_a_watch_that_cannot_look_says_so_once_and_tries_again(monkeypatch):
    told, tries = [], threading.Semaphore(0)

    def refused():
        tries.release()
        raise GpuUnusable("no", remedy="none")

    monkeypatch.setattr("appliance.journal.failure", lambda *words, **more: told.append(words[0]))
    watch = GpuWatch(refused, lambda: True, SystemClock(), interval_seconds=0.001)
    assert watch.newest() == ()
    for _ in range(3):
        assert tries.acquire(timeout=60)
    watch.close()
    assert told == ["gpu.telemetry"]
    assert watch.newest() == ()


def test_a_watch_that_was_never_needed_is_closed():
    GpuWatch(Source, lambda: False, SystemClock()).close()
