"""A runtime that serves on a GPU tells how the GPU fares: by `holdfast status`, to Prometheus and to the doctor."""

import json
import time
import urllib.request

import pytest
from typer.testing import CliRunner

from runtime.client import ControlClient
from tests.conftest import runtimes
from tests.gpu.stub_libraries import stub_nvml
from tests.gpu.versions import SERVER, put_on_gpu
from tui.cli import app

PATIENCE_SECONDS = 60.0  # a bound, not a wait


@pytest.fixture
def runtime(state, tmp_path, monkeypatch):
    """A runtime over the fake of a GPU, and over the stub of NVIDIA's management library."""
    pytest.importorskip("pynvml")
    put_on_gpu(state, "digits", 1)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(stub_nvml()))
    monkeypatch.setenv("STUB_NVML", "throttle=0x40")
    with runtimes(tmp_path) as start:
        running = start(state, code=SERVER)
        with ControlClient(running.socket) as control:
            control.decide("digits", "activate", 1, actor="test", reason="test")
        yield running
        assert running.stop() == 0


def looked(control):
    """The status, once the GPU was looked at."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        status = control.status()
        if status.gpus and status.gpus[0].HasField("busy"):
            return status
        assert time.monotonic() < until, status.gpus


def test_a_gpu_that_serves_is_shown_everywhere(runtime):
    with ControlClient(runtime.socket) as control:
        status = looked(control)
    (gpu,) = status.gpus
    assert (gpu.device, gpu.state, gpu.engines, gpu.restarts) == ("0", "ready", 1, 0)
    assert (gpu.memory_bytes, gpu.memory_free_bytes) == (4000, 3700)
    assert (gpu.busy, gpu.celsius, gpu.watts) == (0.75, 61, 215.5)
    assert list(gpu.throttled) == ["hardware thermal slowdown"]
    with urllib.request.urlopen(f"http://{status.metrics_address}/metrics", timeout=60) as reply:
        told = reply.read().decode()
    assert 'holdfast_gpu_busy_ratio{gpu="GPU-0a"} 0.75' in told
    assert 'holdfast_gpu_throttled{gpu="GPU-0a",reason="hardware thermal slowdown"} 1.0' in told
    assert 'holdfast_gpu_ready{device="0"} 1.0' in told
    done = CliRunner().invoke(app, ["--state", str(runtime.state), "status", "--json"])
    (shown,) = json.loads(done.stdout)["gpus"]
    assert shown["celsius"] == 61
    done = CliRunner().invoke(app, ["--state", str(runtime.state), "status"])
    assert "75% busy" in done.stdout
    assert "it has 1 uncorrected memory error" in done.stdout
